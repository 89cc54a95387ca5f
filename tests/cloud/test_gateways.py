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
    "Resources": {"Group": {"Type": "AWS::IAM::Group"}},
    "Outputs": {"Bucket": {"Value": "lake"}, "StreamArn": {"Value": "arn:aws:kinesis:ap-south-2:123456789012:stream/hr-kinesis-stream"},
                "GatewayGroupName": {"Value": {"Ref": "Group"}}, "TrustAnchorArn": {"Value": "arn:anchor"},
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


def users(account):
    group, = (one["GroupName"] for one in account.aws("iam", "list-groups")["Groups"])
    return sorted(one["UserName"] for one in account.aws("iam", "get-group", "--group-name", group)["Users"])


def test_each_gateway_with_an_access_key_is_a_user_of_its_own(server, tmp_path):
    account = stack(server, "user")
    secrets = []
    for name in ("one", "two", "three"):
        run = account.script("add-gateway.sh", name, "--output", tmp_path / name)
        assert run.returncode == 0, run.stderr
        file = tmp_path / name / "aws-credentials"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        secrets.append(re.search(r"^aws_secret_access_key = (\S+)$", file.read_text(), re.M)[1])
        assert secrets[-1] not in run.stdout + run.stderr
        accepted_by_the_gateway(tmp_path / name / "config.toml")
    assert users(account) == ["hr-gatewayd.one", "hr-gatewayd.three", "hr-gatewayd.two"]
    tags = account.aws("iam", "list-user-tags", "--user-name", "hr-gatewayd.one")["Tags"]
    assert tags == [{"Key": "hr-gatewayd:stack", "Value": "hr-gatewayd"}]
    # A second key, while the first one is still in use; no third.
    assert account.script("add-gateway.sh", "one", "--output", tmp_path / "again").returncode == 0
    third = account.script("add-gateway.sh", "one", "--output", tmp_path / "third")
    assert third.returncode == 1 and "has 2 access keys" in third.stderr
    assert not (tmp_path / "third").exists()
    gone = account.script("add-gateway.sh", "--remove", "one", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert users(account) == ["hr-gatewayd.three", "hr-gatewayd.two"]
    nobody = account.script("add-gateway.sh", "--remove", "one", "--yes")
    assert nobody.returncode == 1 and "there is no user hr-gatewayd.one" in nobody.stderr
    long = account.script("add-gateway.sh", "x" * 60, "--output", tmp_path / "long")
    assert long.returncode == 2 and "longer than 64" in long.stderr and not (tmp_path / "long").exists()


FILE = """gateway,sensor,address
gym,bike-1,D4:4A:C4:B0:24:03
lab,,
gym,bike-2,D4:4A:C4:B0:24:04\r
"""


def test_a_file_enrols_many_and_run_again_only_what_is_new(server, authority, tmp_path):
    account = stack(server, "roles-anywhere", (authority / "ca.pem").read_text())
    file, folder = tmp_path / "gateways.csv", tmp_path / "gateways"
    file.write_text(FILE)
    asked = ["add-gateway.sh", "--csv", file, "--ca", authority, "--output", folder]
    assert "2 made, 0 renewed" in account.script(*asked, "--dry-run").stdout
    assert not folder.exists()
    run = account.script(*asked)
    assert run.returncode == 0, run.stderr
    assert "2 made, 0 renewed, 0 left as they were" in run.stdout
    said = accepted_by_the_gateway(folder / "gym" / "config.toml")
    assert "bike-1" in said and "bike-2" in said
    assert "#[[sensor]]" in (folder / "lab" / "config.toml").read_text()
    file.write_text(FILE + "pool,,\n")
    before = (folder / "gym" / "gateway.pem").read_bytes()
    assert "1 made, 0 renewed, 2 left as they were" in account.script(*asked).stdout
    assert (folder / "gym" / "gateway.pem").read_bytes() == before


def test_a_certificate_that_ends_soon_is_renewed_for_the_same_key(server, authority, tmp_path):
    account = stack(server, "roles-anywhere", (authority / "ca.pem").read_text())
    file, folder = tmp_path / "gateways.csv", tmp_path / "gateways"
    file.write_text("spa,,\n")
    asked = ["add-gateway.sh", "--csv", file, "--ca", authority, "--output", folder]
    account.script(*asked)
    key, pem = folder / "spa" / "gateway.key", folder / "spa" / "gateway.pem"
    before = key.read_bytes()
    openssl("req", "-new", "-key", key, "-subj", "/CN=spa", "-out", tmp_path / "csr")
    short = openssl("x509", "-req", "-in", tmp_path / "csr", "-CA", authority / "ca.pem", "-CAkey", authority / "ca.key", "-days", 59, "-out", pem)
    assert short.returncode == 0, short.stderr
    run = account.script(*asked)
    assert run.returncode == 0, run.stderr
    assert "0 made, 1 renewed" in run.stdout
    assert key.read_bytes() == before and [path.name for path in folder.glob("spa/*.new")] == []
    assert openssl("x509", "-in", pem, "-noout", "-checkend", 364 * 86400).returncode == 0
    assert openssl("verify", "-CAfile", authority / "ca.pem", "-purpose", "sslclient", pem).returncode == 0
    public = openssl("pkey", "-in", key, "-pubout").stdout
    assert openssl("x509", "-in", pem, "-noout", "-pubkey").stdout == public
    openssl("x509", "-req", "-in", tmp_path / "csr", "-CA", authority / "ca.pem", "-CAkey", authority / "ca.key", "-days", 59, "-out", pem)
    key.unlink()
    lost = account.script(*asked)
    assert lost.returncode == 1 and "gateway.key is not there" in lost.stderr and "not enrolled: spa" in lost.stderr


def test_what_cannot_be_enrolled_is_named_and_holds_up_nobody(server, authority, tmp_path):
    account = stack(server, "roles-anywhere", (authority / "ca.pem").read_text())
    file, folder = tmp_path / "gateways.csv", tmp_path / "gateways"
    file.write_text("r1,,\nr2,,\nr3,,\nr4,,\n")
    asked = ["add-gateway.sh", "--csv", file, "--ca", authority, "--output", folder]
    assert account.script(*asked).returncode == 0
    environment = account.with_fake(tmp_path / "fake", NO_LISTS)
    assert account.script("add-gateway.sh", "--remove", "r1", "--ca", authority, "--yes", environment=environment).returncode == 0
    other = tmp_path / "other"
    subprocess.run([aws.BIN / "ca.sh", other], check=True, capture_output=True)
    openssl("req", "-new", "-key", folder / "r2" / "gateway.key", "-subj", "/CN=r2", "-out", tmp_path / "csr")
    openssl("x509", "-req", "-in", tmp_path / "csr", "-CA", other / "ca.pem", "-CAkey", other / "ca.key", "-days", 300, "-out", folder / "r2" / "gateway.pem")
    file.write_text("r1,,\nr2,,\nr3,strap,D4:4A:C4:B0:24:03\nr4,,\nr5,,\n")
    (folder / "r5.part").mkdir()  # An earlier run died in the middle of it.
    run = account.script(*asked)
    assert run.returncode == 1
    assert "r1: its certificate was revoked" in run.stderr and "r3: its config.toml is not what the file says" in run.stderr
    assert "not enrolled: r1 r3;" in run.stderr
    assert "1 made, 1 renewed, 1 left as they were" in run.stdout
    assert openssl("verify", "-CAfile", authority / "ca.pem", folder / "r2" / "gateway.pem").returncode == 0, "another CA's is signed again"
    assert (folder / "r5" / "aws-config").exists() and not (folder / "r5.part").exists()


def test_an_access_key_that_does_not_come_leaves_no_folder_behind(server, tmp_path):
    account = stack(server, "user")
    file = tmp_path / "gateways.csv"
    file.write_text("one,,\ntwo,,\n")
    failing = account.with_fake(tmp_path / "fake", """
def answer(words):
    if words[:2] != ["iam", "create-access-key"] or "hr-gatewayd.one" not in words:
        return None
    sys.exit(255)
""")
    asked = ["add-gateway.sh", "--csv", file, "--output", tmp_path / "gateways"]
    run = account.script(*asked, environment=failing)
    assert run.returncode == 1 and "not enrolled: one;" in run.stderr and "1 made" in run.stdout
    again = account.script(*asked)
    assert again.returncode == 0 and "1 made, 0 renewed, 1 left as they were" in again.stdout
    assert (tmp_path / "gateways" / "one" / "aws-credentials").stat().st_size > 0


def test_a_user_that_is_nobodys_gateway_is_not_touched(server, tmp_path):
    account = stack(server, "user")
    account.aws("iam", "create-user", "--user-name", "hr-gatewayd.admin")
    account.aws("iam", "create-access-key", "--user-name", "hr-gatewayd.admin")
    for words in (["admin", "--output", tmp_path / "admin"], ["--remove", "admin", "--yes"]):
        run = account.script("add-gateway.sh", *words)
        assert run.returncode == 1 and "is no gateway's" in run.stderr and "nothing was changed" in run.stderr
    assert len(account.aws("iam", "list-access-keys", "--user-name", "hr-gatewayd.admin")["AccessKeyMetadata"]) == 1
    assert users(account) == [] and not (tmp_path / "admin").exists()


@pytest.mark.parametrize(("text", "why"), [
    ("", "names no gateway"), ("a b,,", 'line 1: "a b"'), ("gym,bike,", 'line 1: "" is no Bluetooth address'),
    ("gateway,sensor,address\ngym,,D4:4A:C4:B0:24:03", 'line 2: "" is no name of a sensor'),
    ('gym,"bike",D4:4A:C4:B0:24:03', "is no name of a sensor"), ("gym,b,D4:4A:C4:B0:24:03,1", "is no Bluetooth address"),
    ("gym,b,D4:4A:C4:B0:24:03\ngym,b,D4:4A:C4:B0:24:04", "line 2: gym has a sensor b already"), ("../x,,", "is no name of a gateway"),
])
def test_a_file_with_a_mistake_makes_nothing(server, tmp_path, text, why):
    file = tmp_path / "gateways.csv"
    file.write_text(text)
    run = server.script("add-gateway.sh", "--csv", file, "--output", tmp_path / "gateways")
    assert run.returncode == 2 and why in run.stderr
    assert not (tmp_path / "gateways").exists()


def test_a_file_enrols_users_too(server, tmp_path):
    account = stack(server, "user")
    file = tmp_path / "gateways.csv"
    file.write_text("one,,\ntwo,,\n")
    run = account.script("add-gateway.sh", "--csv", file, "--output", tmp_path / "gateways")
    assert run.returncode == 0, run.stderr
    assert users(account) == ["hr-gatewayd.one", "hr-gatewayd.two"]
    keys = {re.search(r"^aws_access_key_id = (\S+)$", (tmp_path / "gateways" / name / "aws-credentials").read_text(), re.M)[1]
            for name in ("one", "two")}
    assert len(keys) == 2


def test_a_stack_that_lets_nobody_in_says_how_to_change_that(server, tmp_path):
    account = stack(server, "none")
    run = account.script("add-gateway.sh", "gym", "--output", tmp_path / "gateway")
    assert run.returncode == 1 and "deploy.sh --ca DIR" in run.stderr and "GatewayIdentity=user" in run.stderr


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 65, "..", "a/b"])
def test_a_name_is_what_the_gateway_takes(server, name):
    run = server.script("add-gateway.sh", name)
    assert run.returncode == 2, run.stdout
    assert "is no name" in run.stderr
