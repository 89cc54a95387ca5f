"""Each monitor, as alerting's own library reads it, against a real OpenSearch; only that alerting runs it is not shown.

Alerting fills the period's end into the query and puts the trigger's condition into the aggregation as a selector of
buckets: so does `found`, with Painless deciding.
"""

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

import fleet
import indexed
import panels
import search

NOW = datetime(2025, 8, 3, 12, 0, 0, tzinfo=UTC)
MONITORS = {path.stem: json.loads(path.read_text()) for path in sorted((panels.FOLDER / "monitors").glob("*.json"))}
MESSAGE_TAGS = {"#ctx.newAlerts", "/ctx.newAlerts", "#ctx.dedupedAlerts", "/ctx.dedupedAlerts", "bucket_keys"}


def trigger(name):
    return MONITORS[name]["triggers"][0]["bucket_level_trigger"]


def read_by_alerting(kind, *files):
    """What the plugin's library understands of these files."""
    classes = [search.HOME / "lib", search.HOME / "modules" / "reindex", search.HOME.parent / "alerting"]
    run = subprocess.run(
        ["java", "-cp", ":".join(f"{folder}/*" for folder in classes), panels.DRAW.parents[1] / "opensearch" / "Documents.java",
         kind, *files], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@cache
def understood():
    return dict(zip(MONITORS, read_by_alerting("monitor", *(panels.FOLDER / "monitors" / f"{name}.json" for name in MONITORS)),
                    strict=True))


def found(node, name, end=NOW):
    """Whom the monitor would tell about at `end`."""
    monitor = understood()[name]
    asked = monitor["inputs"][0]["search"]
    query = json.loads(json.dumps(asked["query"]).replace("{{period_end}}", str(indexed.milliseconds(fleet.written(end)))))
    condition = monitor["triggers"][0]["bucket_level_trigger"]["condition"]
    parent = query["aggregations"][condition["parent_bucket_path"]]
    parent["aggregations"]["selected"] = {"bucket_selector": {
        "buckets_path": condition["buckets_path"], "script": condition["script"], "gap_policy": condition["gap_policy"]}}
    answer = node.search(",".join(asked["indices"]), query)
    return {next(iter(bucket["key"].values())) for bucket in answer["aggregations"][condition["parent_bucket_path"]]["buckets"]}


def readings(gateway, sensor, from_s, to_s, bpm, step_s=1, **fields):
    """A reading each `step_s`, from so many seconds before NOW until so many before it."""
    for before_s in range(from_s, to_s, -step_s):
        gateway.line(sensor, NOW - timedelta(seconds=before_s), heart_rate=bpm, **fields)


@pytest.fixture(scope="module")
def watched(opensearch):
    """Gateways that went well, and some that did not. A line's lag is a second."""
    opensearch.clear()
    panels.put_templates(opensearch)
    here, gone = fleet.Gateway("here", "00000000000000aa"), fleet.Gateway("gone", "00000000000000bb")
    readings(here, "racing", 300, 0, 171)
    readings(here, "racing-each-ten-seconds", 300, 0, 155, step_s=10)
    readings(here, "just-at-the-limit", 300, 0, 150)
    readings(here, "dipped-once", 300, 20, 171)
    readings(here, "dipped-once", 20, 19, 149)
    readings(here, "dipped-once", 19, 0, 171)
    readings(here, "only-just-racing", 40, 0, 171)
    readings(here, "raced-before", 900, 300, 171)
    readings(here, "raced-before", 300, 0, 90)
    readings(here, "off-the-skin", 300, 0, 171, sensor_contact=False)
    readings(here, "seldom", 72, 0, 171, step_s=36)
    readings(here, "stopped", 1200, 360, 80)
    readings(here, "stopped-and-says-so", 1200, 360, 80)
    here.gap("stopped-and-says-so", NOW - timedelta(seconds=350), NOW - timedelta(seconds=60), "sensor_silent")
    readings(here, "stopped-long-ago", 9000, 7200, 80)
    readings(gone, "with-its-gateway", 4000, 1200, 80, step_s=10)
    late = fleet.Gateway("drains-late", "00000000000000cc")
    readings(late, "yesterdays", 90_000, 86_400, 171, step_s=10)
    old = [indexed.document(line, 86_390_000) for line in late.lines]  # It arrives now, a day after.
    indexed.index(opensearch, [indexed.document(line, 1000) for line in here.lines + gone.lines] + old)
    return opensearch


def test_above_the_limit_is_who_was_so_for_a_whole_minute(watched):
    assert found(watched, "hr-above-limit") == {"racing", "racing-each-ten-seconds"}


def test_silent_is_who_gave_readings_within_the_hour_and_none_for_five_minutes(watched):
    assert found(watched, "hr-sensor-silent") == {"stopped", "stopped-and-says-so", "with-its-gateway"}


def test_a_gateway_is_silent_when_nothing_came_for_a_quarter_of_an_hour(watched):
    assert found(watched, "hr-gateway-silent") == {"gone"}


def test_an_alert_ends_by_itself(watched):
    assert found(watched, "hr-above-limit", NOW + timedelta(minutes=2)) == set()
    assert "stopped" in found(watched, "hr-sensor-silent", NOW + timedelta(minutes=55))
    assert found(watched, "hr-sensor-silent", NOW + timedelta(minutes=70)) == set()
    assert found(watched, "hr-gateway-silent", NOW + timedelta(hours=4)) == set()


def test_without_an_index_nobody_is_told(opensearch, watched):
    for name in MONITORS:
        assert found(opensearch, name, datetime(2024, 1, 1, tzinfo=UTC)) == set()


def test_alerting_reads_what_is_written():
    for name, monitor in understood().items():
        assert {key: monitor[key] for key in ("name", "enabled", "schedule", "triggers")} == {
            key: MONITORS[name][key] for key in ("name", "enabled", "schedule", "triggers")}


def test_notifications_reads_what_is_written(tmp_path):
    path, role, topic = tmp_path / "channel.json", "arn:aws:iam::111122223333:role/alerts", "arn:aws:sns:ap-south-1:111122223333:alarms"
    path.write_text((panels.FOLDER / "channel.json").read_text().replace("@TOPIC@", topic).replace("@ALERT_ROLE@", role))
    assert read_by_alerting("channel", path) == [json.loads(path.read_text())["config"]]


@pytest.mark.parametrize("name", MONITORS)
def test_a_message_names_who_and_no_value(name):
    for action in trigger(name)["actions"]:
        for template in (action["subject_template"], action["message_template"]):
            assert template["lang"] == "mustache"
            assert set(re.findall(r"\{\{([^}]*)\}\}", template["source"])) <= MESSAGE_TAGS
            assert not re.search(r"\d", template["source"])
        assert "bucket_keys" in action["message_template"]["source"]
        assert len(action["subject_template"]["source"]) <= 100  # SNS.


@pytest.mark.parametrize("name", MONITORS)
def test_a_message_is_not_repeated_each_minute_and_reaches_the_channel(name):
    channel = json.loads((panels.FOLDER / "channel.json").read_text())["config_id"]
    for action in trigger(name)["actions"]:
        assert action["throttle_enabled"]
        assert action["throttle"]["unit"] == "MINUTES"
        assert 60 <= action["throttle"]["value"] <= 1440  # Alerting takes a day at most.
        assert action["destination_id"] == channel
        assert action["action_execution_policy"]["action_execution_scope"]["per_alert"]["actionable_alerts"] == ["NEW", "DEDUPED"]


def test_monitors_have_names_of_their_own():
    assert len({one["name"] for one in MONITORS.values()}) == len(MONITORS)
