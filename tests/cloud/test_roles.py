"""What the roles let happen and what not, by a real security plugin.

A domain takes the ARN of the IAM role that signed a request as the caller's backend role; here a user of its own has it.
Signatures themselves are no part of this: they are checked before the plugin, by the service.
"""

import copy
import json
import subprocess

import pytest

import fleet
import indexed
import panels
import search
from search import Client
from test_opensearch import INDEXER, SETUP, setup

ADMIN = ("admin", "admin")  # As the plugin comes; the node is for this machine alone.
SECRET = "unlikely-Grafschaft-82-teapot"
SECURITY = search.HOME / "plugins" / "opensearch-security" / "config" if search.HOME else None


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", "/CN=node", "-keyout", folder / "key.pem",
         "-out", folder / "certificate.pem"], check=True, capture_output=True)
    transport = "plugins.security.ssl.transport"
    settings = {
        "plugins.security.disabled": False,
        "plugins.security.allow_default_init_securityindex": True,
        "plugins.security.ssl.http.enabled": False,
        f"{transport}.enforce_hostname_verification": False,
        f"{transport}.pemcert_filepath": "certificate.pem",
        f"{transport}.pemkey_filepath": "key.pem",
        f"{transport}.pemtrustedcas_filepath": "certificate.pem",
        "plugins.security.restapi.roles_enabled": ["all_access"],
    }
    files = {name: (folder / name).read_text() for name in ("certificate.pem", "key.pem")}
    files |= {f"opensearch-security/{path.name}": path.read_text() for path in SECURITY.glob("*.yml")}
    # Else everybody has a role of their own name's index, and with it more than ours give.
    files["opensearch-security/roles_mapping.yml"] = json.dumps(
        {"_meta": {"type": "rolesmapping", "config_version": 2}, "all_access": {"reserved": False, "backend_roles": ["admin"]}})
    with search.OpenSearch(settings, files, *ADMIN) as node:
        run = setup(node.url, "--no-retention", "--no-alerts", "--no-dashboards", user=ADMIN[0], password=ADMIN[1])
        assert run.returncode == 0, run.stderr
        yield node


def as_user(secured, name, backend_roles):
    secured.put(f"_plugins/_security/api/internalusers/{name}", {"password": SECRET, "backend_roles": backend_roles})
    return Client(secured.url, name, SECRET)


@pytest.fixture(scope="module")
def indexer(secured):
    return as_user(secured, "signed-by-the-lambda", [INDEXER])


@pytest.fixture(scope="module")
def viewer(secured):
    secured.put("_plugins/_security/api/rolesmapping/hr-viewer", {"backend_roles": ["those-who-look"]})
    return as_user(secured, "somebody", ["those-who-look"])


def refused(call, *arguments):
    with pytest.raises(search.Refused) as refusal:
        call(*arguments)
    return refusal.value.status == 403


def work(node, lines):
    """What the indexer does with these lines: a call of each kind that it makes."""
    month = indexed.month(lines[0]["timestamp"])
    indexed.index(node, [indexed.document(line) for line in lines])  # Makes the indices, by their templates.
    node.post(f"hr-readings-{month}*/_refresh?ignore_unavailable=true")
    question = {"size": 5000, "sort": ["timestamp", "reading_id"], "query": {"term": {"sensor_id": lines[0]["sensor_id"]}}}
    rows = node.post(f"hr-readings-{month}*/_search?allow_partial_search_results=false&ignore_unavailable=true", question)["hits"]["hits"]
    assert {row["_id"] for row in rows} == {line["reading_id"] for line in lines if line["sensor_id"] == lines[0]["sensor_id"]}
    minute = f"{lines[0]['sensor_id']}|{lines[0]['timestamp'][:16]}Z"
    found, = node.post(f"hr-minutes-{month}/_mget", {"ids": [minute]})["docs"]
    assert found.get("found"), found
    node.bulk([{"create": {"_index": f"hr-minutes-{month}", "_id": "another"}}, {}])
    version = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
    answer = node.bulk([{"index": {"_index": f"hr-minutes-{month}", "_id": minute} | version}, found["_source"]])
    version = {"if_seq_no": answer["items"][0]["index"]["_seq_no"], "if_primary_term": answer["items"][0]["index"]["_primary_term"]}
    node.bulk([{"delete": {"_index": f"hr-minutes-{month}", "_id": minute} | version}])


def test_the_indexer_may_do_what_it_does(secured, indexer):
    work(indexer, fleet.small_fleet()[:200])
    assert secured.get("hr-readings-2025.07/_mapping")["hr-readings-2025.07"]["mappings"]["dynamic"] == "false"
    assert indexer.post("hr-readings-1999.12/_search?ignore_unavailable=true", {})["hits"]["hits"] == []


def works(node, lines):
    try:
        work(node, lines)
    except (search.Refused, AssertionError):
        return False
    return True


def test_the_indexer_needs_all_that_it_may_do(secured, indexer):
    role = json.loads((panels.FOLDER / "roles" / "hr-indexer.json").read_text())
    lines = fleet.small_fleet()[:20]
    needless = []
    for place, left_out in enumerate(role["cluster_permissions"] + role["index_permissions"][0]["allowed_actions"]):
        less = copy.deepcopy(role)
        for allowed in (less["cluster_permissions"], less["index_permissions"][0]["allowed_actions"]):
            allowed[:] = [action for action in allowed if action != left_out]
        secured.put("_plugins/_security/api/roles/hr-indexer", less)
        year = str(2030 + place)  # Indices that are not there yet.
        if works(indexer, [line | {"timestamp": line["timestamp"].replace("2025", year)} for line in lines]):
            needless.append(left_out)
    secured.put("_plugins/_security/api/roles/hr-indexer", role)
    secured.delete("hr-*-203*")
    assert needless == []


def test_the_indexer_may_do_nothing_else(secured, indexer):
    secured.put("others-2025/_doc/1?refresh=true", {"secret": 1})
    assert refused(indexer.search, "others-2025", {})
    assert refused(indexer.delete, "hr-readings-2025.07")
    assert refused(indexer.put, "hr-readings-2025.07/_mapping", {"properties": {"note": {"type": "text"}}})
    assert refused(indexer.put, "_index_template/others", {"index_patterns": ["others-*"]})
    assert refused(indexer.get, "_plugins/_security/api/roles")
    items = indexer.post("_bulk", json.dumps({"index": {"_index": "others-2025", "_id": "1"}}) + "\n{}\n")["items"]
    assert [item["index"]["status"] for item in items] == [403]


def test_who_looks_may_look_and_no_more(viewer):
    assert viewer.search("hr-readings-*", {"size": 0})["hits"]["total"]["value"] > 0
    for name in panels.NAMES:  # Each panel's query, as Dashboards asks it.
        start, end = (fleet.datetime(2025, 7, day, tzinfo=fleet.UTC) for day in (15, 17))
        panels.Panel(name, start, end).answer(viewer)
    assert refused(viewer.put, "hr-readings-2025.07/_doc/x", {"heart_rate": 1})
    assert refused(viewer.delete, "hr-readings-2025.07/_doc/00000000000000aa-0")
    assert refused(viewer.search, "others-2025", {})
    assert refused(viewer.get, "_plugins/_security/api/roles")


def test_a_stranger_may_nothing(secured):
    stranger = as_user(secured, "stranger", ["arn:aws:iam::111122223333:role/another"])
    assert refused(stranger.search, "hr-readings-*", {})
    with pytest.raises(search.Refused) as refusal:
        Client(secured.url).get("")
    assert refusal.value.status == 401


def test_a_second_run_maps_the_role_once(secured):
    assert SETUP.exists()
    assert setup(secured.url, "--no-retention", "--no-alerts", "--no-dashboards", user=ADMIN[0], password=ADMIN[1]).returncode == 0
    mapping = secured.get("_plugins/_security/api/rolesmapping/hr-indexer")["hr-indexer"]
    assert mapping["backend_roles"] == [INDEXER]
