"""The Terraform module, evaluated by OpenTofu: variables in, what each resource would be told out.

run.sh lays three things into target/cloud-terraform: OpenTofu, a provider that has the AWS provider's schema and no
account (terraform/main.go), and the npm package that the schema is read from. What must hold: the module's own folder
is never written to.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import template as cfn

sys.path.insert(0, str(Path(__file__).resolve().parent / "terraform"))

import provider_schema  # noqa: E402

MODULE = cfn.CLOUD / "terraform"
TOOLS = cfn.CLOUD.parents[1] / "target" / "cloud-terraform"
Attributes = dict[str, Any]


class Refused(Exception):
    """What OpenTofu said."""


@cache
def schema() -> dict[str, Any]:
    """The provider's, of the resources that the module uses."""
    package, = TOOLS.glob("*.tgz")
    return provider_schema.read(package, MODULE)


class Module:
    """A copy of the module, and of the files that it reads, which a test may change."""

    def __init__(self, root: Path):
        self.root = root
        self.folder = root / "cloud" / "terraform"
        shutil.copytree(MODULE, self.folder)
        shutil.copytree(cfn.CLOUD / "queries", self.folder.parent / "queries")
        shutil.copytree(cfn.CLOUD / "templates", self.folder.parent / "templates")
        (root / "tofurc").write_text(
            f'provider_installation {{\n  dev_overrides {{\n    "hashicorp/aws" = "{TOOLS}"\n  }}\n}}\n')
        self.schema = schema()
        (root / "schema.json").write_text(json.dumps(self.schema))

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.folder / file).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (self.folder / file).write_text(text.replace(old, new))

    def tofu(self, *words: str) -> str:
        own = {
            "PROVIDER_SCHEMA": self.root / "schema.json", "TF_CLI_CONFIG_FILE": self.root / "tofurc",
            "TF_DATA_DIR": self.root / "data", "CHECKPOINT_DISABLE": "1",
        }
        run = subprocess.run(
            [TOOLS / "tofu", f"-chdir={self.folder}", *words], capture_output=True, text=True, check=False,
            env=os.environ | {name: str(value) for name, value in own.items()})
        if run.returncode != 0:
            raise Refused(run.stdout + run.stderr)
        return run.stdout

    def _with(self, variables: dict[str, Any]) -> list[str]:
        path = self.root / "variables.tfvars.json"
        path.write_text(json.dumps(variables))
        return ["-no-color", "-input=false", "-lock=false", f"-var-file={path}", f"-state={self.root / 'state'}"]

    def apply(self, **variables: Any) -> tuple[dict[str, Attributes], dict[str, Any]]:
        """The attributes by address, and the outputs."""
        (self.root / "state").unlink(missing_ok=True)
        self.tofu("apply", "-auto-approve", *self._with(variables))
        state = json.loads((self.root / "state").read_text())
        made = {}
        for resource in state["resources"]:
            for instance in resource["instances"]:
                key = instance.get("index_key", 0)
                place = f"[{key}]" if isinstance(key, str) else ""
                if resource["mode"] == "managed":
                    made[f"{resource['type']}.{resource['name']}{place}"] = instance["attributes"]
        return made, {name: output["value"] for name, output in state["outputs"].items()}

    def plan(self, *words: str, **variables: Any) -> str:
        return self.tofu("plan", *words, *self._with(variables))

    def declared(self) -> dict[str, dict[str, Any]]:
        """The variables: default and description."""
        self.tofu("plan", f"-out={self.root / 'plan'}", *self._with({}))
        shown = json.loads(self.tofu("show", "-json", str(self.root / "plan")))
        return shown["configuration"]["root_module"]["variables"]
