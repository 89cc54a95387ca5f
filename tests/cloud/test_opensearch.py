"""setup.sh against a real OpenSearch; before it stands what no registry has of one (domain.py)."""

import json
import os
import re
import subprocess

import pytest

import fleet
import indexed
import panels
import search
import template as cfn
from domain import PASSWORD, USER, Domain

SETUP = panels.FOLDER / "setup.sh"
INDEXER, ALERT = "arn:aws:iam::111122223333:role/hr/live-IndexerRole-1", "arn:aws:iam::111122223333:role/live-AlertRole-1"
TOPIC = "arn:aws:sns:ap-south-1:111122223333:hr-gatewayd-Alarms-1"
ARGUMENTS = ["--indexer-role", INDEXER, "--topic", TOPIC, "--alert-role", ALERT]
PLUGINLESS = ["--no-roles"]  # The node is without the security plugin; test_roles.py has one with it.


@pytest.fixture(autouse=True)
def clean(opensearch):
    opensearch.clear()


@pytest.fixture
def domain(opensearch):
    with Domain(opensearch.url) as one:
        yield one


def setup(url, *arguments, user=USER, password=PASSWORD, path=""):
    environment = os.environ | {"OPENSEARCH_USER": user, "OPENSEARCH_PASSWORD": password, "PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run([SETUP, url, *ARGUMENTS, *arguments], capture_output=True, text=True, env=environment)


def written(path):
    """A JSON file of ours, its places filled with numbers."""
    return json.loads(re.sub("@[A-Z_]+@", "1", (panels.FOLDER / path).read_text()))


def test_a_second_run_leaves_one_of_each(opensearch, domain):
    first = setup(domain.url, *PLUGINLESS)
    assert first.returncode == 0, first.stderr
    before = json.dumps([{kind: sorted(kept) for kind, kept in domain.stored.items()}])
    second = setup(domain.url, *PLUGINLESS)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert json.dumps([{kind: sorted(kept) for kind, kept in domain.stored.items()}]) == before
    assert sorted(domain.stored["policies"]) == ["hr-minutes", "hr-readings"]
    assert list(domain.stored["channels"]) == ["hr-alerts"]
    names = sorted(written(f"monitors/{path.name}")["name"] for path in (panels.FOLDER / "monitors").iterdir())
    assert sorted(one["name"] for one in domain.stored["monitors"].values()) == names
    assert len(domain.stored["objects"]) == len(panels.dashboard().objects())
    assert {one["name"] for one in opensearch.get("_index_template")["index_templates"]} >= {"hr-readings", "hr-minutes"}


def test_what_is_given_reaches_what_is_made(opensearch, domain):
    run = setup(domain.url, *PLUGINLESS, "--retention-days", "30", "--minutes-retention-days", "90", "--nodes", "2", "--shards", "3")
    assert run.returncode == 0, run.stderr
    ages = {name: policy["policy"]["states"][0]["transitions"][0]["conditions"]["min_index_age"]
            for name, policy in domain.stored["policies"].items()}
    assert ages == {"hr-readings": "31d", "hr-minutes": "121d"}  # And the day or month that an index is of.
    assert domain.stored["channels"]["hr-alerts"]["sns"] == {"topic_arn": TOPIC, "role_arn": ALERT}
    made = opensearch.get("_index_template/hr-readings")["index_templates"][0]["index_template"]
    assert made["template"]["settings"]["index"]["number_of_replicas"] == "1"
    assert made["template"]["settings"]["index"]["number_of_shards"] == "3"
    assert "@" not in "".join(json.dumps(kept) for kind, kept in domain.stored.items() if kind != "objects")


def test_readings_of_more_than_31_days_have_an_index_a_month(domain):
    for days, age in (("31", "32d"), ("32", "63d")):
        assert setup(domain.url, *PLUGINLESS, "--retention-days", days).returncode == 0
        state = domain.stored["policies"]["hr-readings"]["policy"]["states"][0]
        assert state["transitions"][0]["conditions"]["min_index_age"] == age


def test_indices_that_are_there_follow_too(opensearch, domain):
    assert setup(domain.url, *PLUGINLESS).returncode == 0
    assert domain.policy_calls == []
    indexed.index(opensearch, [indexed.document(line) for line in fleet.small_fleet()[:100]])
    assert setup(domain.url, *PLUGINLESS, "--nodes", "3").returncode == 0
    assert domain.policy_calls == [(how, f"{name}-*", name) for name in ("hr-readings", "hr-minutes") for how in ("add", "change_policy")]
    assert opensearch.get("hr-readings-2025.07/_settings")["hr-readings-2025.07"]["settings"]["index"]["number_of_replicas"] == "1"


@pytest.mark.parametrize(("lacks", "left_out", "option"), [
    ("ism", "index management", "--no-retention"), ("notifications", "notifications", "--no-alerts"),
    ("alerting", "alerting", "--no-alerts"), ("dashboards", "Dashboards", "--no-dashboards"),
])
def test_what_an_opensearch_has_not_is_told_unless_left_out(opensearch, lacks, left_out, option):
    with Domain(opensearch.url, (lacks,)) as domain:
        run = setup(domain.url, *PLUGINLESS)
        assert run.returncode == 3
        assert f"{left_out} ({option})" in run.stderr
        assert setup(domain.url, *PLUGINLESS, option).returncode == 0


def test_a_rehearsal_asks_nothing(domain):
    run = setup(domain.url, "--dry-run")
    assert (run.returncode, domain.calls) == (0, [])
    assert f"PUT {domain.url}/_index_template/hr-readings" in run.stdout


def test_the_password_is_no_argument_of_a_process(domain, tmp_path):
    log, curl = tmp_path / "log", tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done >>{log}\nexec /usr/bin/curl "$@"\n')
    curl.chmod(0o755)
    run = setup(domain.url, *PLUGINLESS, path=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "_index_template" in log.read_text()
    assert PASSWORD not in log.read_text() + run.stdout + run.stderr


def test_a_refusal_ends_it_and_says_what_was_refused(domain):
    run = setup(domain.url, *PLUGINLESS, password="another")
    assert run.returncode == 1
    assert "the index template hr-readings was refused with 401" in run.stderr


@pytest.mark.parametrize("arguments", [
    ["http://search.example.org"], ["https://search.example.org/path"], ["https://search.example.org", "--nodes", "none"],
    ["https://search.example.org", "--topic", "alarms"], ["https://search.example.org", "--indexer-role", 'x"y|z'],
    ["https://search.example.org", "--frobnicate"],
])
def test_arguments_that_cannot_be_meant_are_refused_before_anything_is_asked(arguments):
    run = setup(*arguments)
    assert run.returncode == 2
    assert "see --help" in run.stderr


def wires_fields():
    wire = (cfn.CLOUD.parents[1] / "src" / "wire.rs").read_text()
    return re.findall(r"^    pub (\w+):", re.search(r"pub struct WireRecord<'a> \{(.*?)\n\}", wire, re.S)[1], re.M)


def test_the_template_has_the_wires_fields_and_the_indexers():
    assert list(panels.dashboard().fields("hr-readings")) == [*wires_fields(), "indexed_at", "lag_ms"]


def test_the_minutes_template_has_the_fields_of_a_minute():
    everything = {name for one in indexed.minutes(fleet.small_fleet()).values() for name in one}
    assert set(panels.dashboard().fields("hr-minutes")) == everything


def test_a_field_of_a_newer_schema_refuses_no_reading(opensearch):
    for name in ("hr-readings", "hr-minutes"):
        opensearch.put(f"_index_template/{name}", written(f"templates/{name}.json"))
    line = indexed.document(fleet.small_fleet()[0]) | {"schema_version": 2, "skin_temperature": {"celsius": [33.1]}}
    indexed.index(opensearch, [line])
    kept = opensearch.search("hr-readings-*", {"query": {"term": {"sensor_id": line["sensor_id"]}}})["hits"]["hits"]
    assert [hit["_source"] for hit in kept] == [line]
    mapping = opensearch.get("hr-readings-2025.07/_mapping")["hr-readings-2025.07"]["mappings"]
    assert "skin_temperature" not in mapping["properties"]


def test_a_reading_that_is_no_reading_is_refused(opensearch):
    opensearch.put("_index_template/hr-readings", written("templates/hr-readings.json"))
    line = indexed.document(fleet.small_fleet()[0]) | {"heart_rate": "fast"}
    with pytest.raises(search.Refused) as refusal:
        opensearch.put("hr-readings-2025.07/_doc/x", line)
    assert refusal.value.status == 400


def test_saved_objects_refer_to_what_there_is():
    objects = panels.dashboard().objects()
    known = {(one["type"], one["id"]) for one in objects}
    assert len(known) == len(objects)
    assert {(to["type"], to["id"]) for one in objects for to in one["references"]} <= known
    shown = {to["id"] for one in objects for to in one["references"]}
    assert shown == {f"hr-{name}" for name in panels.NAMES}


def test_the_panels_of_a_dashboard_lie_side_by_side():
    for dashboard in json.loads((panels.FOLDER / "dashboards.json").read_text()).values():
        taken = [(x, y) for panel in dashboard["panels"]
                 for x in range(panel["x"], panel["x"] + panel["w"]) for y in range(panel["y"], panel["y"] + panel["h"])]
        assert len(set(taken)) == len(taken)
        assert max(x for x, _ in taken) < 48  # Columns of a dashboard.


def test_the_dashboards_keep_their_names_refresh_and_range():
    attributes = {one["attributes"]["title"]: one["attributes"] for one in panels.dashboard().objects() if one["type"] == "dashboard"}
    live = attributes["Heart rate, live"]
    assert (live["timeFrom"], live["refreshInterval"]) == ("now-15m", {"pause": False, "value": 5000})
    assert {"Gateways", "Heart rate, wall"} <= set(attributes)


def test_the_wall_reads_no_readings():
    wall = json.loads((panels.FOLDER / "dashboards.json").read_text())["hr-wall"]
    for panel in wall["panels"]:
        assert panels.dashboard().spec(panel["panel"])["data"]["url"]["index"] == "hr-minutes-*"
