"""query.sh: a query of queries/ asked of Athena, as a person asks it. Athena is a stand-in that keeps what it is asked."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import pytest

import lake

DAYS = ("--from", "2025-07-15", "--to", "2025-07-16")
FAKE = """
def answer(words):
    if words[0] != "athena":
        return None
    if words[1] == "start-query-execution":
        (FOLDER / "asked").write_text(Path(words[words.index("--cli-input-json") + 1].removeprefix("file://")).read_text())
        return json.dumps({"QueryExecutionId": "run"})
    if words[1] == "get-query-execution":
        status = json.loads((FOLDER / "status").read_text())
        return json.dumps({"QueryExecution": {"Status": status, "Statistics": {"DataScannedInBytes": 10485760}}})
    return (FOLDER / "rows").read_text()
"""


@pytest.fixture
def athena(server, tmp_path):
    """`ask(words...)`, the script's run; `answer(rows)`, what Athena will say; the text that it was asked."""
    server.reset()
    server.lake(Database="hr_data", Table="hr_table", WorkGroup="people", FirstDay="2025-01-01")
    environment = server.with_fake(tmp_path / "fake", FAKE)

    class Athena:
        def ask(self, *words):
            return server.script("query.sh", *words, environment=environment)

        def answer(self, rows, state="SUCCEEDED", why=None):
            names = list(rows[0]) if rows else ["nothing"]
            cells = [names, *([str(row[name]) for name in names] for row in rows)]
            data = [{"Data": [{"VarCharValue": cell} for cell in line]} for line in cells]
            (tmp_path / "fake/rows").write_text(json.dumps({"ResultSet": {"Rows": data}}))
            status = {"State": state} | ({"StateChangeReason": why} if why else {})
            (tmp_path / "fake/status").write_text(json.dumps(status))

        def asked(self):
            return json.loads((tmp_path / "fake/asked").read_text())

    return Athena()


def test_a_range_in_local_time_is_a_table(athena, duck):
    window = ("2025-07-16 05:25", "2025-07-16 05:45", "Asia/Kolkata")
    rows = duck.rows(lake.filled("heart_rate_range", *window))
    athena.answer(rows)
    run = athena.ask("range", "--from", window[0], "--to", window[1], "--zone", window[2])
    assert run.returncode == 0, run.stderr
    head, *body = run.stdout.splitlines()
    assert head.split()[:5] == ["sensor_id", "readings", "lowest", "highest", "difference"]
    assert [line.split()[:5] for line in body] == [
        [str(row[name]) for name in ("sensor_id", "readings", "lowest", "highest", "difference")] for row in rows]
    ends = {line.index(word) + len(word) for line, word in zip(body, (str(row["readings"]) for row in rows))}
    assert ends == {head.index("readings") + len("readings")}, "a column of numbers ends where its name does"
    assert "2 rows; 10.5 MB read" in run.stderr
    asked = athena.asked()
    assert (asked["WorkGroup"], asked["QueryExecutionContext"]) == ("people", {"Database": "hr_data"})
    assert "TIMESTAMP '2025-07-16 05:25:00.000'" in asked["QueryString"] and "'Asia/Kolkata'" in asked["QueryString"]


def test_an_answer_is_csv_and_a_picture_where_asked_for(athena, tmp_path):
    rows = [{"sensor_id": name, "began_at": f"2025-07-15 06:{n:02}", "rmssd": 40 + n} for name in ("adi", "a&b") for n in range(3)]
    athena.answer(rows)
    picture = tmp_path / "hrv.svg"
    run = athena.ask("hrv", *DAYS, "--csv", "--plot", str(picture))
    assert list(csv.DictReader(io.StringIO(run.stdout))) == [{name: str(value) for name, value in row.items()} for row in rows]
    lines = ElementTree.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 and all(len(line.get("points").split()) == 3 for line in lines)


def test_nothing_found_is_no_failure(athena):
    athena.answer([])
    run = athena.ask("gaps", *DAYS)
    assert (run.returncode, run.stdout) == (0, "") and "0 rows" in run.stderr


def test_what_athena_says_is_passed_on(athena):
    athena.answer([], state="FAILED", why="Bytes scanned limit was exceeded")
    run = athena.ask("ledger", *DAYS)
    assert run.returncode == 1 and "Bytes scanned limit was exceeded" in run.stderr


@pytest.mark.parametrize("words, said", [
    (("range", "--zone", "UTC' OR 1=1 --"), "--zone takes a time zone"),
    (("range", "--from", "yesterday"), "--from takes a local time"),
    (("zones", "--highest", "1e9"), "--highest takes a heart rate"),
    (("gaps", "--from", "2025-07-15 17:00"), "--from takes a day"),
    (("gaps", "--from", "2025-07-15"), "--to is missing"),
    (("range", "--from", "2025-07-15 17:00Z"), "--from takes a local time"),
    (("gaps", "--zone", "UTC"), "gaps takes --from --to"),
    (("gaps", *DAYS, "--table", "hr_raw; DROP TABLE x"), "--table takes the name of a table"),
    (("nonsense",), "there are: gaps, heart_rate_range,"),
    (("s", "--dry-run"), "there are: gaps, heart_rate_range,"),
    (("gaps", "--frm", "x"), 'unknown option "--frm"'),
])  # fmt: skip
def test_what_is_no_value_is_refused_before_anything_is_asked(athena, words, said):
    run = athena.ask(*words)
    assert run.returncode != 0 and said in run.stderr and "Traceback" not in run.stderr


def test_without_a_name_it_says_what_there_is(athena):
    run = athena.ask()
    assert run.returncode == 0
    assert 'resting_rate' in run.stdout and '--zone "Asia/Kolkata"' in run.stdout
