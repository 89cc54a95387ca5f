"""packaging/export/fit.py on files that fit-tool wrote, which knows FIT from Garmin's own profile."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from fit_tool.fit_file_builder import FitFileBuilder
from fit_tool.profile.messages.file_id_message import FileIdMessage
from fit_tool.profile.messages.hrv_message import HrvMessage
from fit_tool.profile.messages.record_message import RecordMessage
from fit_tool.profile.profile_type import FileType, Manufacturer

FIT = Path(__file__).resolve().parents[2] / "packaging/export/fit.py"
BEGAN_MS = 1_752_559_200_000


def written(path, rates, intervals=None):
    """A record each second; before each, what a watch logs of the beats since the one before."""
    builder = FitFileBuilder(auto_define=True, min_string_size=50)
    head = FileIdMessage()
    head.type, head.manufacturer, head.product, head.time_created, head.serial_number = FileType.ACTIVITY, Manufacturer.GARMIN.value, 1, BEGAN_MS, 1
    builder.add(head)
    for second, rate in enumerate(rates):
        for beat in (intervals or {}).get(second, []):
            hrv = HrvMessage()
            hrv.time = [beat]
            builder.add(hrv)
        record = RecordMessage()
        record.timestamp = BEGAN_MS + 1000 * second
        if rate is not None:
            record.heart_rate = rate
        builder.add(record)
    builder.build().to_file(str(path))
    return path


def run(*paths):
    return subprocess.run([sys.executable, "-B", FIT, *map(str, paths)], capture_output=True, text=True)


def test_a_run_is_a_recording_with_its_intervals(tmp_path):
    one = written(tmp_path / "run.fit", [60, None, 62, 63], {2: [0.968, 0.952], 3: [0.95]})
    two = written(tmp_path / "ride.fit", [100, 101])
    answer = run(one, two)
    assert answer.returncode == 0, answer.stderr
    rows = list(csv.DictReader(io.StringIO(answer.stdout)))
    assert [(row["recording"], row["offset_s"], row["heart_rate_bpm"], row["rr_ms"]) for row in rows] == [
        ("run", "0.000", "60", ""), ("run", "2.000", "62", "968 952"), ("run", "3.000", "63", "950"),
        ("ride", "0.000", "100", ""), ("ride", "1.000", "101", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"offset_s,heart_rate_bpm\n0,60\n", b"\x0e\x10" + bytes(40)])
def test_what_is_no_fit_file_is_named(tmp_path, body):
    (tmp_path / "no.fit").write_bytes(body)
    answer = run(tmp_path / "no.fit")
    assert answer.returncode == 1 and "no.fit: " in answer.stderr and "Traceback" not in answer.stderr


def test_a_file_that_was_cut_and_one_without_a_heart_rate_are_named(tmp_path):
    whole = written(tmp_path / "run.fit", [60, 61, 62])
    (tmp_path / "cut.fit").write_bytes(whole.read_bytes()[:-20])
    none = written(tmp_path / "swim.fit", [None, None])
    answer = run(tmp_path / "cut.fit", none, tmp_path / "nowhere.fit", whole)
    assert answer.returncode == 1
    for said in ("cut.fit: is no whole FIT file", "swim.fit: has no heart rate", "nowhere.fit: No such file"):
        assert said in answer.stderr
    assert answer.stdout.count("run,") == 3
