"""An AWS account on this machine: moto's server, and the real AWS CLI and our scripts pointed at it.

moto carries out a template's IAM, KMS, Kinesis, S3, SNS, SQS, log groups, event rules, Lambda and Step Functions, and
skips the rest with a line in its log, while the stack says CREATE_COMPLETE: a test asks the services, not the stack.
Run as a program it is that server, with what moto's change sets leave out and our scripts live by:

- outputs after a change set was executed; of a skipped resource they show its name, or NAME.ATTRIBUTE;
- that parameters taken over from before are no change, and that no change is told by the change set;
- the stack's tags on the stream, the bucket and the key, as CloudFormation puts them on, and the key's policy as text;
- `!Condition` in a condition, and groups of users;
- the roll-back of a first creation that failed, with the event of the resource that failed.
"""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import cli_server

REPOSITORY = Path(__file__).resolve().parents[2]
CLOUD = REPOSITORY / "packaging" / "cloud"
BIN = CLOUD / "bin"
START_SECONDS_MAX = 60
SCRIPT_SECONDS_MAX = 300

FAKE = """#!{python}
import json, os, subprocess, sys
from pathlib import Path
REAL, FOLDER = "{real}", Path(os.environ["FAKE_FOLDER"])
{code}
text = answer(sys.argv[1:])
if text is None:
    os.execv(REAL, [REAL, *sys.argv[1:]])
print(text)
"""


# One for which version 1 of the CLI has no old address of SQS that it would prefer.
REGION = "ap-south-2"


class Account:
    """The server's process, the CLI's, and commands that reach no other account."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cli: Any = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with (folder / "moto.log").open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-B", __file__, str(self.port)], stdout=log, stderr=log)
        self.client = folder / "bin" / "aws"
        self.client.parent.mkdir()
        # A socket's name may have 107 characters, a test's folder more.
        self.sockets = tempfile.TemporaryDirectory(prefix="aws-")
        self.client.write_text(cli_server.CLIENT.format(python=sys.executable, path=f"{self.sockets.name}/cli"))
        self.client.chmod(0o755)
        self.server = subprocess.Popen([sys.executable, "-B", cli_server.__file__, f"{self.sockets.name}/cli"])
        self.environment = {
            "PATH": f"{self.client.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8",
            "AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION, "HR_POLL_SECONDS": "0",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION,
        }
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5).close()
                if Path(self.sockets.name, "cli").exists():
                    return
                time.sleep(0.1)
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError((self.folder / "moto.log").read_text()) from None
                time.sleep(0.1)

    def reset(self) -> None:
        """An empty account again."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def stack(self, name: str, outputs: dict[str, str], parameters: Any = ()) -> None:
        """A stack that only says where things are."""
        template = {"Parameters": {key: {"Type": "String"} for key, _ in parameters}, "Resources": {"T": {"Type": "AWS::SNS::Topic"}},
                    "Outputs": {key: {"Value": value} for key, value in outputs.items()}}
        self.aws("cloudformation", "create-stack", "--stack-name", name, "--template-body", json.dumps(template), "--parameters",
                 json.dumps([{"ParameterKey": key, "ParameterValue": value} for key, value in parameters]))

    def lake(self, **outputs: str) -> None:
        """A bucket with versions, a stream, and a lake's stack that says so and `outputs`."""
        self.aws("s3api", "create-bucket", "--bucket", "lake", "--create-bucket-configuration", f"LocationConstraint={REGION}")
        self.aws("s3api", "put-bucket-versioning", "--bucket", "lake", "--versioning-configuration", "Status=Enabled")
        self.aws("kinesis", "create-stream", "--stream-name", "readings", "--shard-count", "1")
        stream = f"arn:aws:kinesis:{REGION}:123456789012:stream/readings"
        self.stack("hr-gatewayd", {"Bucket": "lake", "StreamArn": stream, **outputs})

    def close(self) -> None:
        for process in (self.process, self.server):
            process.terminate()
            process.wait(timeout=30)
        self.sockets.cleanup()

    def aws(self, *words: str) -> Any:
        """What the CLI answers, as data. It runs in this process: a test asks it more often than the scripts do."""
        from awscli.clidriver import create_clidriver

        said, complained = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, self.environment), redirect_stdout(said), redirect_stderr(complained):
            self.cli = self.cli or create_clidriver()
            code = self.cli.main([*map(str, words), "--output", "json"])
        assert code == 0, complained.getvalue()
        return json.loads(said.getvalue() or "null")

    def script(self, name: str, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """One of the scripts; its output stands for what a person would see."""
        return self.run(BIN / name, *words, **more)

    def with_fake(self, folder: Path, code: str) -> dict[str, str]:
        """An environment whose `aws` first asks `answer(words)`, a function in `code`: its text, or None for the real one."""
        folder.mkdir(exist_ok=True)
        (folder / "aws").write_text(FAKE.format(python=sys.executable, real=self.client, code=code))
        (folder / "aws").chmod(0o755)
        return {"PATH": f"{folder}:{self.environment['PATH']}", "FAKE_FOLDER": str(folder)}

    def run(self, *words: Any, environment: dict[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        nobody = {} if "input" in more else {"stdin": subprocess.DEVNULL}
        return subprocess.run([str(word) for word in words], env=self.environment | (environment or {}),
                              capture_output=True, text=True, timeout=SCRIPT_SECONDS_MAX, **nobody, **more)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Skipped:
    """A resource that moto does not make: a name for what refers to it, nothing else."""

    def __init__(self, logical_id: str, described: dict[str, Any]):
        self.logical_resource_id, self.cf_resource_type = logical_id, described["Type"]
        properties = described.get("Properties", {})
        for name in ("Name", "DeliveryStreamName", "DomainName"):
            logical_id = properties.get(name, properties.get("TableInput", properties.get("DatabaseInput", {})).get(name, logical_id))
        self.physical_resource_id = logical_id

    type = property(lambda self: self.cf_resource_type)

    def get_cfn_attribute(self, name: str) -> str:
        return f"arn:skipped:/{self.physical_resource_id}" if name == "Arn" else f"{self.physical_resource_id}.{name}"

    def is_created(self) -> bool:
        return True

    def delete(self, *_: Any) -> None:
        """There is nothing."""


def _serve(port: int) -> None:
    import yaml
    from moto.cloudformation import models, parsing
    from moto.cloudformation.responses import CloudFormationResponse
    from moto.iam.models import iam_backends
    from moto.kinesis.models import Shard, Stream
    from moto.kms.models import Key, kms_backends
    from moto.s3.models import FakeBucket, s3_backends
    from moto.server import main

    one_at_a_time = threading.Lock()

    def alone(call: Any) -> Any:
        def called(*arguments: Any, **named: Any) -> Any:
            with one_at_a_time:
                return call(*arguments, **named)

        return called

    # Two writers at once take the same sequence number, and a record is lost; a reader beside a writer fails.
    Shard.put_record, Shard.get_records = alone(Shard.put_record), alone(Shard.get_records)
    real_apply, real_execute = models.ChangeSet.apply, models.CloudFormationBackend.execute_change_set
    real_create, real_update = parsing.parse_and_create_resource, parsing.parse_and_update_resource
    begun: list[str] = []

    def create_resource(logical_id: str, described: dict[str, Any], resources: Any, *rest: Any, **more: Any) -> Any:
        begun.append(logical_id)
        made = real_create(logical_id, described, resources, *rest, **more)
        condition = described.get("Condition")
        if made is not None or condition and not resources.lazy_condition_map[condition]:
            return made
        if described["Type"] == "AWS::IAM::Group":
            iam_backends[more["account_id"]]["aws"].groups.pop(logical_id, None)
            iam_backends[more["account_id"]]["aws"].create_group(logical_id)
        return Skipped(logical_id, parsing.clean_json(described, resources))

    def update_resource(logical_id: str, described: dict[str, Any], resources: Any, *rest: Any, **more: Any) -> Any:
        now = resources[logical_id]
        return now and (real_update(logical_id, described, resources, *rest, **more) or now)

    def put_tags(stack: Any, tags: dict[str, str]) -> None:
        for one in stack.resource_map._parsed_resources.values():
            if isinstance(one, Stream):
                one.tags.update(tags)
            elif isinstance(one, FakeBucket):
                s3_backends[stack.account_id]["aws"].put_bucket_tagging(one.name, tags)
            elif isinstance(one, Key):
                one.policy = one.policy if isinstance(one.policy, str) else json.dumps(one.policy)
                kms_backends[stack.account_id][stack.region_name].tag_resource(one.id, tags)

    def apply(change_set: Any) -> None:
        stack = change_set.stack
        # Or each parameter that was left at its default counts as changed.
        stack.resource_map.input_parameters = dict(stack.resource_map.resolved_parameters)
        real_apply(change_set)
        stack.template, stack.parameters = change_set.template, change_set.parameters
        stack._parse_template()
        stack.output_map = stack._create_output_map()
        put_tags(stack, {name: value for name, value in change_set.tags.items() if not name.startswith("aws:")})

    def has_parameters(stack: Any, others: dict[str, Any]) -> bool:
        return {**stack.stack_parameters, **others} == stack.stack_parameters

    def execute(backend: Any, change_set_name: str, stack_name: str | None = None) -> None:
        try:
            real_execute(backend, change_set_name, stack_name)
        except Exception as error:
            stack = next(one for one in backend.stacks.values() if one.name == stack_name)
            stack.events.append(models.Event(
                stack_id=stack.stack_id, stack_name=stack.name, logical_resource_id=begun[-1], physical_resource_id="",
                resource_type="", resource_status="CREATE_FAILED", resource_status_reason=str(error),
                resource_properties=None))
            for described in stack.resource_map._resource_json_map.values():
                described.pop("DeletionPolicy", None)  # As with --retain-except-on-create.
            stack.resource_map.delete()
            stack._add_stack_event("ROLLBACK_COMPLETE")
            stack.status = "ROLLBACK_COMPLETE"

    yaml.add_constructor("!Condition", lambda loader, node: {"Condition": loader.construct_scalar(node)}, yaml.Loader)
    parsing.parse_and_create_resource, parsing.parse_and_update_resource = create_resource, update_resource
    models.Stack.has_parameters = has_parameters
    CloudFormationResponse._validate_different_update = lambda *_: None
    models.ChangeSet.apply, models.CloudFormationBackend.execute_change_set = apply, execute
    main(["-H", "127.0.0.1", "-p", str(port)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
