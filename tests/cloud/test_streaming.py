"""windows.sql on a real Flink over moto's streams, once undisturbed and once killed in the middle."""

import itertools
import subprocess
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import aws
import fleet
import pytest
import recomputed
import streaming

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
START = NOW - timedelta(minutes=40)  # Alerts are of the last hour.
YESTERDAY = NOW - timedelta(hours=20)
SLIDING_MINUTES = 3
FOREIGN = [b"", b"\n", b"not a line\n", b"[1]\n12\nnull\n\xff\xfe\n", b'{"heart_rate": 99}\n',
           b'{"timestamp": "yesterday", "heart_rate": 99, "reading_id": "x-1", "gateway_id": "x", "sensor_id": "x"}\n']


def punctual():
    """Sensors in the order of time; some of them above the limit."""
    home = fleet.Gateway("home", "00000000000000aa")
    home.sequence = 1
    for second in range(0, 1200, 2):
        time = START + timedelta(seconds=second)
        home.line("twice", time, heart_rate=171 if 300 <= second < 480 or 700 <= second < 800 else 90)
        home.line("calm", time, heart_rate=60 + second % 90)
        home.line("dips", time, heart_rate=149 if second % 60 == 0 else 171)
        home.line("off-the-skin", time, heart_rate=171, sensor_contact=False)
        if second % 10 == 0 and not 400 < second < 600:  # A silence ends an episode.
            home.line("silent-between", time, heart_rate=155)
        if second % 36 == 0:
            home.line("seldom", time, heart_rate=171)
    home.line("calm", START, heart_rate=0)
    home.gap("calm", START, START + timedelta(seconds=5), "link_down")
    home.line("calm", START + timedelta(seconds=1210), record="sensor_state", battery_percent=80)
    return home.lines


def sent(lines):
    """Records as a gateway sends them: of some seconds, by sensor."""
    for _, some in itertools.groupby(lines, lambda line: recomputed.taken(line).timestamp() // 10):
        yield from fleet.records(list(some))


def drained():
    """A gateway that was out of reach: every other of its lines comes first, the rest much later."""
    attic = fleet.Gateway("attic", "00000000000000bb")
    attic.sequence = 1
    for second in range(300):
        attic.line("late", YESTERDAY + timedelta(seconds=second), heart_rate=160 + second % 40)
    wrong = attic.line("moved", YESTERDAY + timedelta(minutes=30), heart_rate=80, clock="unsynchronized")
    right = wrong | {"timestamp": fleet.written(YESTERDAY + timedelta(minutes=40)), "clock": "corrected"}
    for time in (NOW - timedelta(days=10), NOW + timedelta(days=2)):
        attic.line("late", time, heart_rate=99)
    return attic.lines[::2] + [wrong], attic.lines[1::2] + [right, wrong]


@pytest.fixture(scope="module", params=["whole", "killed"])
def run(request, server, tmp_path_factory):
    server.reset()
    streams = streaming.Streams(server)
    early, late = drained()
    now = list(sent(punctual()))
    first, second = now[:len(now) // 2], now[len(now) // 2:]
    lines = recomputed.readings(punctual() + early + late, NOW)
    windows = recomputed.windows(lines, 1) | recomputed.windows(lines, SLIDING_MINUTES)
    alerts = recomputed.alerts([line for line in lines if recomputed.taken(line) >= START])
    folder = tmp_path_factory.mktemp("flink")

    def flink(**properties):
        return streaming.Flink(server, streams, folder, sliding_minutes=SLIDING_MINUTES, **properties)

    with flink() as before:
        streams.put([*FOREIGN, *fleet.records(early), *first])
        before.until(lambda: len(streams.alerts()) > 0)
        before.until_a_checkpoint()
        seen = len(streams.rows("windows"))
        streams.put([*first[::2], *second, *fleet.records(late)])
        if request.param == "killed":
            before.until(lambda: len(streams.rows("windows")) > seen)
            before.process.kill()
        else:
            before.until(lambda: settled(streams, windows, alerts))
            before.until_a_checkpoint()
    if request.param == "killed":
        with flink(start="LATEST") as after:  # What it reads of before, it knows from its checkpoint.
            after.until(lambda: settled(streams, windows, alerts))
            after.until_a_checkpoint()
    return SimpleNamespace(streams=streams, windows=windows, alerts=alerts)


def measured(row):
    return {name: row[name] for name in ("readings", "lowest", "mean", "highest")}


def settled(streams, windows, alerts):
    found = streams.windows()
    return (found.keys() == windows.keys() and streams.alerts().keys() >= alerts.keys()
            and all(measured(row) == windows[key] for key, row in found.items()))


def test_windows_are_what_was_measured(run):
    found = run.streams.windows()
    assert found.keys() == run.windows.keys()
    assert {key: measured(row) for key, row in found.items()} == run.windows
    assert all(row["op"] in ("UPSERT", "DELETE") for row in run.streams.rows("windows"))


def test_a_late_reading_corrects_its_minute(run):
    minute = ("late", fleet.written(YESTERDAY), 1)
    of_minute = [row for row in run.streams.rows("windows")
                 if (row["sensor_id"], row["window_start"], row["window_minutes"]) == minute]
    assert of_minute[0]["readings"] < of_minute[-1]["readings"] == 60
    assert [row["revised_at"] for row in of_minute] == sorted(row["revised_at"] for row in of_minute)


def test_a_minute_that_lost_its_only_reading_is_taken_back(run):
    wrong, right = (fleet.written(YESTERDAY + timedelta(minutes=minutes)) for minutes in (30, 40))
    rows = {(row["window_start"], row["op"]) for row in run.streams.rows("windows")
            if row["sensor_id"] == "moved" and row["window_minutes"] == 1}
    assert {(wrong, "DELETE"), (right, "UPSERT")} <= rows
    assert ("moved", wrong, 1) not in run.streams.windows()


def test_an_episode_is_one_alert_though_the_other_shard_is_empty(run):
    found = run.streams.alerts()
    assert {name: row["began_at"] for name, row in found.items()} == run.alerts
    assert {name.split("@")[0] for name in found} == {"twice", "silent-between"}
    assert len(found) == 4
    assert all(not {"heart_rate", "lowest", "highest"} & row.keys() for row in found.values())


@pytest.mark.parametrize(("properties", "complaint"), [
    ({"above-bmp": "160"}, "no such property: above-bmp"),
    ({"above-bpm": "150 OR TRUE"}, "property above-bpm has to be of the kind number"),
    ({"windows-arn": "arn:x'; DROP TABLE hr_lines; --"}, "property windows-arn has to be of the kind arn"),
])
def test_properties_that_are_none_are_refused(tmp_path, properties, complaint):
    given = {"region": aws.REGION, "readings-arn": "arn:a", "windows-arn": "arn:a", "alerts-arn": "arn:a"} | properties
    path = tmp_path / "application.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in given.items()))
    (tmp_path / "flink.properties").touch()
    command = streaming.java("hr.streaming.Local", path, tmp_path / "flink.properties")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert complaint in refused.stderr
