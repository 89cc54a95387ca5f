"""The AWS provider's schema of the resources that a module uses, read from the bindings that are generated from it.

`@cdktn/provider-aws` on npm is made from the provider's own schema, argument by argument: a class per block, which says
of each argument its name, its type and whether it is required, optional or computed. What the bindings do not say are
the least and the most blocks of a kind above one. What must hold: a line that this reader does not understand ends it.

    provider_schema.py PACKAGE.tgz MODULE >schema.json
"""

import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

CLASS = re.compile(r"^class (\w+) extends cdktn\.(\w+)", re.MULTILINE)
ARGUMENT = re.compile(
    r"^    // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n"
    r"(?:    _\w+(?: = new (\w+)\(this, \"\w+\"(?:, (true|false))?\))?;\n)?"
    r"    get \w+\(\) \{\n        return ([^\n]+);\n", re.MULTILINE)
SIMPLE = {
    "getStringAttribute": "string", "getNumberAttribute": "number", "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"], "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"], "getBooleanMapAttribute": ["map", "bool"],
    "getNumberMapAttribute": ["map", "number"],
}
# What the data sources answer in the tests.
ANSWERS = {
    "aws_caller_identity": {"account_id": "111122223333"},
    "aws_partition": {"partition": "aws"},
    "aws_region": {"region": "ap-south-1"},
}


class NotUnderstood(Exception):
    """What the bindings say and this reader does not know."""


def simple(expression: str) -> Any:
    """The type of an argument that is no block."""
    is_set = "cdktn.Fn.tolist(" in expression
    getter = re.search(r"this\.(get\w+Attribute)\(", expression)
    if getter is None or getter[1] not in SIMPLE:
        raise NotUnderstood(expression)
    kind = SIMPLE[getter[1]]
    return ["set", kind[1]] if is_set else kind


class Bindings:
    """One resource's or data source's file."""

    def __init__(self, text: str):
        text = re.sub(r"^//# sourceMappingURL.*", "", text, flags=re.MULTILINE)
        starts = [*CLASS.finditer(text)]
        ends = [*(match.start() for match in starts[1:]), len(text)]
        self.classes = {match[1]: text[match.start():end] for match, end in zip(starts, ends, strict=True)}
        self.text = text
        self.root, = (match[1] for match in starts if match[2] in ("TerraformResource", "TerraformDataSource"))

    def block(self, name: str) -> dict[str, Any]:
        attributes, blocks = {}, {}
        text = self.classes[name]
        found = ARGUMENT.findall(text)
        if len(found) != text.count(" - computed: "):
            raise NotUnderstood(name)
        for argument, computed, optional, required, inner, is_set, expression in found:
            if not inner:
                attributes[argument] = {
                    "type": simple(expression), "computed": computed == "true", "optional": optional == "true",
                    "required": required == "true",
                }
            elif optional == "true" or required == "true":
                blocks[argument] = self.nested(inner, is_set == "true", required == "true")
            # Else it is a list of objects that only the account fills in.
        return {"attributes": attributes, "blocks": blocks}

    def nested(self, name: str, is_set: bool, required: bool) -> dict[str, Any]:
        many = name.endswith("List")
        item = re.sub("(List|OutputReference)$", "", name)
        written = re.search(rf'isBlock: (\w+),\s+type: "(\w+)",\s+storageClassType: "{item}(?:List)?",', self.text)
        if written is None or written[1] != "true":
            raise NotUnderstood(f"{name} is no block")
        nesting = "single" if written[2] == "struct" else "set" if is_set or written[2] == "set" else "list"
        return {
            "nesting": nesting, "min": int(required and nesting != "single"),
            "max": 0 if many or nesting == "single" else 1, "block": self.block(f"{item}OutputReference"),
        }


def used(module: Path) -> set[tuple[str, str]]:
    """The kinds and types of a module's blocks."""
    texts = (path.read_text() for path in sorted(module.glob("*.tf")))
    return {pair for text in texts for pair in re.findall(r'^(resource|data) "(\w+)"', text, re.MULTILINE)}


def read(package: Path, module: Path) -> dict[str, Any]:
    wanted = {}
    for kind, name in used(module):
        folder = name.removeprefix("aws_").replace("_", "-")
        wanted[f"package/lib/{'data-aws-' if kind == 'data' else ''}{folder}/index.js"] = (kind, name)
    schema: dict[str, Any] = {"resources": {}, "data": {}, "answers": ANSWERS}
    with tarfile.open(package) as files:
        for member in files:
            if member.name in wanted:
                kind, name = wanted.pop(member.name)
                bindings = Bindings(files.extractfile(member).read().decode())
                schema["data" if kind == "data" else "resources"][name] = bindings.block(bindings.root)
    if wanted:
        raise NotUnderstood(f"the provider has no {', '.join(name for _, name in wanted.values())}")
    return schema


if __name__ == "__main__":
    json.dump(read(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
