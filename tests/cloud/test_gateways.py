"""ca.sh and add-gateway.sh: a gateway's right to send, given and taken away.

IAM's users and keys are moto's. moto knows no revocation lists of IAM Roles Anywhere: there a fake writes down what it
was asked, and openssl judges the list.
"""

import json
import re
import stat
import subprocess

import pytest

import aws

GATEWAYD = aws.REPOSITORY / "target" / "debug" / "hr-gatewayd"
TEMPLATE = {
    "Parameters": {"GatewayIdentity": {"Type": "String"}, "CaCertificate": {"Type": "String", "Default": ""}},
    "Resources": {"User": {"Type": "AWS::IAM::User"}},
    "Outputs": {"Bucket": {"Value": "lake"}, "StreamArn": {"Value": "arn:aws:kinesis:ap-south-2:123456789012:stream/hr-kinesis-stream"},
                "GatewayUserName": {"Value": {"Ref": "User"}}, "TrustAnchorArn": {"Value": "arn:anchor"},
                "ProfileArn": {"Value": "arn:profile"}, "GatewayRoleArn": {"Value": "arn:role"}},
}
NO_LISTS = '''
def answer(words):
    if words[0] != "rolesanywhere":
        return None
    with (FOLDER / "asked").open("a") as file:
        file.write(json.dumps(words) + "\\n")
    return "" if words[1] == "list-crls" else "{}"
'''


def stack(account, identity, certificate=""):
    """A stack that has the outputs that the lake's has."""
    account.reset()
    parameters = [{"ParameterKey": "GatewayIdentity", "ParameterValue": identity}, {"ParameterKey": "CaCertificate", "ParameterValue": certificate}]
    account.aws("cloudformation", "create-stack", "--stack-name", "hr-gatewayd", "--template-body", json.dumps(TEMPLATE),
                "--parameters", json.dumps(parameters))
    return account


def openssl(*words):
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)


def accepted_by_the_gateway(config):
    if not GATEWAYD.exists():
        pytest.skip("target/debug/hr-gatewayd is not built")
    run = subprocess.run([GATEWAYD, "--config", config, "check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority") / "ca"
    made = subprocess.run([aws.BIN / "ca.sh", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return folder


def test_a_ca_is_made_once_and_its_key_is_its_owners(authority):
    assert stat.S_IMODE((authority / "ca.key").stat().st_mode) == 0o600
    text = openssl("x509", "-in", authority / "ca.pem", "-noout", "-text").stdout
    assert "CA:TRUE" in text and "Certificate Sign, CRL Sign" in text and "prime256v1" in text
    before = (authority / "ca.key").read_text()
    again = subprocess.run([aws.BIN / "ca.sh", authority], capture_output=True, text=True)
    assert again.returncode == 1 and "has a CA already" in again.stderr
    assert (authority / "ca.key").read_text() == before


def test_a_gateway_gets_a_certificate_and_loses_it(server, authority, tmp_path):
    account = stack(server, "roles-anywhere", (authority / "ca.pem").read_text())
    folder = tmp_path / "gateway"
    asked = ["add-gateway.sh", "living-room", "--ca", authority, "--output", folder]
    assert "would make" in account.script(*asked, "--dry-run").stdout
    assert not folder.exists()
    run = account.script(*asked)
    assert run.returncode == 0, run.stderr
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("gateway.key", "gateway.pem", "aws-config", "config.toml"), 0o600)
    verified = openssl("verify", "-CAfile", authority / "ca.pem", "-purpose", "sslclient", folder / "gateway.pem")
    assert verified.returncode == 0, verified.stderr
    text = openssl("x509", "-in", folder / "gateway.pem", "-noout", "-text").stdout
    for part in ("Subject: CN = living-room", "CA:FALSE", "Digital Signature", "ecdsa-with-SHA256"):
        assert part in text
    assert openssl("x509", "-in", folder / "gateway.pem", "-noout", "-checkend", 364 * 86400).returncode == 0
    config = (folder / "aws-config").read_text()
    assert re.fullmatch(r"\[default\]\ncredential_process = .*--trust-anchor-arn arn:anchor --profile-arn arn:profile --role-arn arn:role\n", config)
    assert "PRIVATE KEY" not in run.stdout
    assert 'id = "living-room"' in run.stdout and "aws_signing_helper" in run.stdout
    assert "kinesis.stream = \"hr-kinesis-stream\"" in accepted_by_the_gateway(folder / "config.toml")
    again = account.script(*asked)
    assert again.returncode == 1 and "exists already" in again.stderr

    environment = account.with_fake(tmp_path / "fake", NO_LISTS)
    gone = account.script("add-gateway.sh", "--remove", "living-room", "--ca", authority, "--yes", environment=environment)
    assert gone.returncode == 0, gone.stderr
    told = [json.loads(line) for line in (tmp_path / "fake" / "asked").read_text().splitlines()]
    assert told[-1][:2] == ["rolesanywhere", "import-crl"] and f"fileb://{authority}/crl.pem" in told[-1] and "arn:anchor" in told[-1]
    revoked = openssl("verify", "-crl_check", "-CRLfile", authority / "crl.pem", "-CAfile", authority / "ca.pem", folder / "gateway.pem")
    assert revoked.returncode != 0 and "revoked" in revoked.stderr


def test_a_ca_that_the_stack_does_not_trust_signs_nothing(server, authority, tmp_path):
    account = stack(server, "roles-anywhere", "-----BEGIN CERTIFICATE-----\nother\n-----END CERTIFICATE-----")
    run = account.script("add-gateway.sh", "gym", "--ca", authority, "--output", tmp_path / "gateway")
    assert run.returncode == 1 and "trusts another CA" in run.stderr
    assert not (tmp_path / "gateway").exists()
    without = account.script("add-gateway.sh", "gym", "--output", tmp_path / "gateway")
    assert without.returncode == 2 and "--ca DIR" in without.stderr


def test_a_user_has_two_keys_and_no_third(server, tmp_path):
    account = stack(server, "user")
    secrets = []
    for name in ("one", "two"):
        run = account.script("add-gateway.sh", name, "--output", tmp_path / name)
        assert run.returncode == 0, run.stderr
        file = tmp_path / name / "aws-credentials"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        secrets.append(re.search(r"^aws_secret_access_key = (\S+)$", file.read_text(), re.M)[1])
        assert secrets[-1] not in run.stdout + run.stderr
        accepted_by_the_gateway(tmp_path / name / "config.toml")
    user, = (one["UserName"] for one in account.aws("iam", "list-users")["Users"])
    third = account.script("add-gateway.sh", "three", "--output", tmp_path / "three")
    assert third.returncode == 1 and "has 2 access keys" in third.stderr
    assert not (tmp_path / "three").exists()
    gone = account.script("add-gateway.sh", "--remove", "one", "--output", tmp_path / "one", "--yes")
    assert gone.returncode == 0, gone.stderr
    kept, = (one["AccessKeyId"] for one in account.aws("iam", "list-access-keys", "--user-name", user)["AccessKeyMetadata"])
    assert kept in (tmp_path / "two" / "aws-credentials").read_text()


def test_a_stack_that_lets_nobody_in_says_how_to_change_that(server, tmp_path):
    account = stack(server, "none")
    run = account.script("add-gateway.sh", "gym", "--output", tmp_path / "gateway")
    assert run.returncode == 1 and "deploy.sh --ca DIR" in run.stderr and "GatewayIdentity=user" in run.stderr


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 65, "..", "a/b"])
def test_a_name_is_what_the_gateway_takes(server, name):
    run = server.script("add-gateway.sh", name)
    assert run.returncode == 2, run.stdout
    assert "is no name" in run.stderr
