"""status.sh's single checks, with the measurements made up: what is healthy is OK, and nothing else."""

import subprocess

import pytest

import template as cfn

DOMAIN = """
set -euo pipefail
. {cloud}/lib/common.sh
. {cloud}/lib/checks.sh
ACCOUNT=123456789012 WORK=$(mktemp -d)
aws() {{ echo "False	False"; }}
metric() {{ case $4 in ClusterStatus.{status}) echo 1 ;; FreeStorageSpace) echo {free} ;; *) echo 0 ;; esac; }}
check_domain arn:aws:es:eu-central-1:123456789012:domain/garmin-hr-data {nodes}
echo "needed $NEEDED"
"""


@pytest.mark.parametrize("status, nodes, free, needed, said", [
    ("green", 1, 8000, 0, "8000 MiB free"),
    ("yellow", 1, 8000, 0, "as one node is for ever"),
    ("yellow", 2, 8000, 1, "a copy is missing"),
    ("red", 1, 8000, 1, "red, an index has no copy left"),
    ("yellow", 1, 500, 1, "more room"),
])  # fmt: skip
def test_one_node_is_yellow_and_well(status, nodes, free, needed, said):
    script = DOMAIN.format(cloud=cfn.CLOUD, status=status, nodes=nodes, free=free)
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert said in run.stdout and f"needed {needed}" in run.stdout
    assert run.stdout.splitlines()[0].endswith(" OK") == (needed == 0)


LISTENERS = """
set -euo pipefail
. {cloud}/lib/common.sh
. {cloud}/lib/checks.sh
WORK=$(mktemp -d)
aws() {{ printf '%s\\n' {answer}; }}
check_listeners arn:aws:sns:eu-central-1:123456789012:topic
echo "needed $NEEDED"
"""


@pytest.mark.parametrize("answer, needed, said", [
    ("None", 0, "nobody: deploy.sh --parameter AlarmEmail="),
    ("PendingConfirmation", 1, "open the link in the mail"),
    ("arn:aws:sns:one", 0, "1 of each alarm"),
    ("arn:aws:sns:one PendingConfirmation", 1, "1 of alarms, 1 not confirmed"),
])  # fmt: skip
def test_a_mail_that_nobody_confirmed_wants_a_person(answer, needed, said):
    run = subprocess.run(["bash", "-c", LISTENERS.format(cloud=cfn.CLOUD, answer=answer)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert said in run.stdout and f"needed {needed}" in run.stdout
