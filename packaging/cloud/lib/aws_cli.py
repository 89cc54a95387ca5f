"""The AWS CLI as a function. What must hold: an answer is data, an error is an exception with the CLI's own words."""

import json
import subprocess
import tempfile
from functools import cache
from typing import Any


class AwsError(Exception):
    """The CLI's message, which names the operation."""


def aws(*words: str, request: dict[str, Any] | None = None) -> Any:
    """The answer of one command. A request goes through a file of ours: no length limit, nothing in the process list."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        command = ["aws", *words, "--output", "json"]
        if request is not None:
            json.dump(request, file)
            file.flush()
            command += ["--cli-input-json", f"file://{file.name}"]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode != 0:
        raise AwsError(run.stderr.strip())
    return json.loads(run.stdout) if run.stdout.strip() else {}


def pages(*words: str, size: int = 1000) -> Any:
    """A listing's answers of at most `size` entries each, one after the other: memory stays bounded."""
    token: str | None = None
    while True:
        more = ["--starting-token", token] if token else []
        answer = aws(*words, "--max-items", str(size), *more)
        yield answer
        token = answer.get("NextToken")
        if not token:
            return


@cache
def raw_binary() -> tuple[str, ...]:
    """What makes version 2 of the CLI take the text of a binary field as it stands, as version 1 always does."""
    version = subprocess.run(["aws", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return () if "aws-cli/1." in version.stdout + version.stderr else ("--cli-binary-format", "raw-in-base64-out")
