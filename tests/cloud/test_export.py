"""Readings in the forms that others read."""

import csv
import io
import json
import math
import random
import subprocess
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

EXPORT = Path(__file__).parents[2] / "packaging/export"
sys.path.insert(0, str(EXPORT))
import hrv  # noqa: E402

CATALOGUE = EXPORT.parent / "cloud/templates/lake/catalogue.yaml"


def line(sequence, second, **fields):
    record = {
        "timestamp": f"2025-07-15T17:{second // 60:02d}:{second % 60:02d}.000Z", "reading_id": f"00000000000000ab-{sequence}",
        "gateway_id": "g", "sensor_id": "adi", "session_id": "00000000000000ab-s1", "sequence": sequence,
        "clock": "synchronized", "schema_version": 1,
    }
    return json.dumps(record | fields)


@pytest.fixture
def export(tmp_path):
    def run(form, lines, *arguments, status=0):
        done = subprocess.run(
            [sys.executable, EXPORT / "readings.py", form, *arguments],
            input="\n".join(lines), capture_output=True, text=True, cwd=tmp_path,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


TWO_BEATS = [
    line(1, 10, heart_rate=60, rr_intervals_ms=[1000.0]),
    line(2, 11, heart_rate=120, rr_intervals_ms=[500.0, 500.0]),
    line(3, 40, gap_reason="link_down", gap_start="2025-07-15T17:00:11.000Z", gap_end="2025-07-15T17:00:40.000Z"),
    line(4, 40, heart_rate=60, rr_intervals_ms=[1000.0]),
]


def test_beats_are_dated_back_from_their_reading_and_do_not_follow_over_a_gap(export):
    # What came twice counts once.
    rows = list(csv.DictReader(io.StringIO(export("beats", TWO_BEATS + TWO_BEATS[:2]))))
    assert [row["beat_at"][17:23] for row in rows] == ["10.000", "10.500", "11.000", "40.000"]
    assert [row["follows"] for row in rows] == ["false", "true", "true", "false"]


def test_kubios_text_is_of_one_sensor(export):
    assert export("kubios", TWO_BEATS) == "1000.000\n500.000\n500.000\n1000.000\n"
    other = line(9, 50, heart_rate=60, rr_intervals_ms=[990.0], sensor_id="bo")
    assert "name one with --sensor: adi, bo" in export("kubios", [*TWO_BEATS, other], status=1)
    assert export("kubios", [*TWO_BEATS, other], "--sensor", "bo") == "990.000\n"


def test_parquet_has_the_lakes_own_columns(export, tmp_path):
    export("parquet", TWO_BEATS, "--output", "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    text = CATALOGUE.read_text().replace("!Sub", "").replace("!If", "").replace("!Ref", "").replace("!", "")
    start = text.index("Columns:")
    columns = [yaml.safe_load(row.strip()[2:]) for row in text[start:].splitlines()[1:28]]
    glue = {"int": "int32", "bigint": "int64", "boolean": "bool", "array<double>": "list<element: double>"}
    assert [(field.name, str(field.type)) for field in table.schema] == [
        (column["Name"], glue.get(column["Type"], column["Type"])) for column in columns
    ]
    assert table.num_rows == 4


def test_open_mhealth_has_a_rate_for_each_reading_and_an_interval_for_each_beat(export):
    points = [json.loads(point) for point in export("open-mhealth", TWO_BEATS).splitlines()]
    names = [(point["header"]["schema_id"]["name"], point["header"]["schema_id"]["version"]) for point in points]
    assert names == [("heart-rate", "2.0")] * 3 + [("rr-interval", "1.0")] * 4
    assert points[0]["body"] == {
        "effective_time_frame": {"date_time": "2025-07-15T17:00:10.000Z"}, "heart_rate": {"unit": "beats/min", "value": 60},
    }
    assert points[4]["body"]["rr_interval"] == {"unit": "ms", "value": 500.0}
    assert len({point["header"]["uuid"] for point in points}) == 7
    assert export("open-mhealth", TWO_BEATS) == export("open-mhealth", TWO_BEATS), "ids stay"


def test_fhir_has_an_observation_for_each_minute_of_a_named_subject(export):
    assert "--subject" in export("fhir", TWO_BEATS, status=1)
    lines = [*TWO_BEATS, line(5, 61, heart_rate=70)]
    one, two = (json.loads(it) for it in export("fhir", lines, "--subject", "Patient/7").splitlines())
    assert one["code"]["coding"][0] == {"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}
    assert one["valueQuantity"] == {"value": 80.0, "unit": "beats/minute", "system": "http://unitsofmeasure.org", "code": "/min"}
    assert (one["effectivePeriod"]["start"], two["effectivePeriod"]["end"]) == ("2025-07-15T17:00:00Z", "2025-07-15T17:02:00Z")
    assert one["subject"] == {"reference": "Patient/7"} and one["id"] != two["id"]


def test_a_training_file_is_of_one_session(export):
    root = tree.fromstring(export("tcx", TWO_BEATS))
    name = "{http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2}"
    assert [value.text for value in root.iter(f"{name}Value")] == ["60", "120", "60"]
    other = line(9, 50, heart_rate=60, session_id="00000000000000ab-s9")
    assert "--session 00000000000000ab-s9" in export("tcx", [*TWO_BEATS, other], status=1)


def test_what_is_no_record_is_refused_with_its_line(export):
    assert "standard input, line 2: no record" in export("beats", [TWO_BEATS[0], "{}"], status=1)
    assert "no such record" in export("beats", TWO_BEATS, "--sensor", "nobody", status=1)


def clean(seed, beats=400):
    chance, at, rr = random.Random(seed), 0.0, []
    for _ in range(beats):
        slow = 40 * math.sin(2 * math.pi * at / 4.0) + 25 * math.sin(2 * math.pi * at / 10)
        rr.append(float(round(850 + slow + chance.gauss(0, 15))))
        at += rr[-1] / 1000
    return rr


def spoilt(rr, kind, seed):
    rr, chance = list(rr), random.Random(seed)
    for i in sorted(chance.sample(range(20, len(rr) - 20, 7), 8), reverse=True):
        if kind == "missed":
            rr[i : i + 2] = [rr[i] + rr[i + 1]]
        elif kind == "extra":
            first = round(rr[i] * chance.uniform(0.4, 0.6))
            rr[i : i + 1] = [first, rr[i] - first]
        else:
            early = round(rr[i] * 0.3)
            rr[i], rr[i + 1] = rr[i] - early, rr[i + 1] + early
    return rr


# What neurokit2 0.3.0 makes of them: signal_fixpeaks(method="kubios", iterative=True).
NEUROKIT = [
    (0, "missed", 41.72), (0, "extra", 41.85), (0, "ectopic", 46.67), (1, "missed", 40.53), (1, "extra", 40.85),
    (1, "ectopic", 46.48), (2, "missed", 42.34), (2, "extra", 42.41), (2, "ectopic", 48.83),
]


@pytest.mark.parametrize("seed, kind, expected", NEUROKIT)
def test_rmssd_after_correction_is_neurokits(seed, kind, expected):
    corrected, artefacts = hrv.correct(spoilt(clean(seed), kind, seed))
    assert artefacts >= 8
    assert hrv.rmssd(corrected) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_clean_stays_as_it_is(seed):
    corrected, artefacts = hrv.correct(clean(seed))
    assert artefacts == 0 and hrv.rmssd(corrected) == pytest.approx(hrv.rmssd(clean(seed)), rel=1e-12)


def test_a_window_with_many_artefacts_shows_none(export):
    def readings(rr):
        return [line(n + 1, n, heart_rate=70, rr_intervals_ms=[interval]) for n, interval in enumerate(rr)]

    def window(rr):
        return list(csv.DictReader(io.StringIO(export("hrv", readings(rr)))))[0]

    good, bad = window(clean(0, 280)), window(spoilt(clean(0, 200), "ectopic", 0))
    assert float(good["artefact_share"]) == 0 and 35 < float(good["rmssd_ms"]) < 48
    assert float(bad["artefact_share"]) > 0.05 and bad["rmssd_ms"] == ""
    assert good["source"] == "unknown"
