"""The curated table's state machine: what it asks Athena, in which order, and that every trouble comes to an end."""

import json
import re

import pytest

import states
import template as cfn

BEGAN = "2026-11-21T10:00:00.500Z"
PARAMETERS = {
    "Bucket": "the-lake", "KeyArn": "arn:aws:kms:ap-south-1:111122223333:key/one", "DatabaseName": "lab", "TableName": "pulse",
    "TopicArn": "arn:aws:sns:ap-south-1:111122223333:topic", "KeepSnapshotsDays": 3,
}
HOURLY = ["create", "watermark", "merge"]
DAILY = [*HOURLY, "optimize", "vacuum"]


@pytest.fixture(scope="module")
def definition():
    template = cfn.load("curated")
    return json.loads(cfn.resolved(template, template["Resources"]["Maintenance"]["Properties"]["DefinitionString"], **PARAMETERS))


class Athena:
    """Answers tasks: `trouble` names a statement's failures in their order, `others` when other runs began, `landed` until
    when objects landed, each time it is asked; the last stays."""

    def __init__(self, trouble=None, others=None, landed=("2026-11-21-09-00-00",), endless=False):
        self.trouble = {name: list(causes) for name, causes in (trouble or {}).items()}
        self.others = iter(others or [])
        self.landed, self.endless = list(landed), endless
        self.asked, self.texts = [], []

    def __call__(self, resource, arguments):
        match resource.removeprefix("arn:aws:states:::"):
            case "aws-sdk:sfn:listExecutions":
                assert arguments == {"StateMachineArn": "arn:of:the:machine", "StatusFilter": "RUNNING"}
                return {"Executions": [{"StartDate": BEGAN}, *({"StartDate": began} for began in next(self.others, []))]}
            case "athena:startQueryExecution.sync":
                return self.query(arguments)
            case "athena:getQueryResults":
                assert arguments == {"QueryExecutionId": f"query-{len(self.asked)}"}
                landed = self.landed[0]
                part = landed if isinstance(landed, tuple) else (landed, "2026-11-01", "2026-11-21", landed)
                goes_on = "yes" if len(self.landed) > 1 or self.endless else ""
                names = ["landed_after", "landed_until", "first_day", "last_day", "merged_until", "goes_on"]
                rows = [names, ["2026-11-14-09-00-00", *part, goes_on]]
                if len(self.landed) > 1:
                    self.landed.pop(0)
                return {"ResultSet": {"Rows": [{"Data": [{"VarCharValue": text} for text in row]} for row in rows]}}
        raise AssertionError(resource)

    def query(self, arguments):
        assert arguments["WorkGroup"] == "hr" and arguments["QueryExecutionContext"]["Database"] == "lab"
        self.texts.append(text := arguments["QueryString"])
        name = {"with": "watermark"}.get(first := text.split(maxsplit=1)[0].lower(), first)
        self.asked.append(name)
        if self.trouble.get(name):
            raise states.TaskFailed("States.TaskFailed", self.trouble[name].pop(0))
        return {"QueryExecution": {"QueryExecutionId": f"query-{len(self.asked)}", "Status": {"State": "SUCCEEDED"}}}


def run(definition, athena, tidy=False):
    return states.run(definition, {"tidy": tidy}, BEGAN, athena)


CONFLICT, MORE = "ICEBERG_COMMIT_ERROR: Failed to commit", "ICEBERG_{}_MORE_RUNS_NEEDED: Removed 1000 files in this round"


def test_the_hourly_run_creates_and_merges_since_yesterday(definition):
    athena = Athena()
    assert run(definition, athena).status == "SUCCEEDED"
    assert athena.asked == HOURLY
    assert "INTERVAL '1' DAY" in athena.texts[-1]


def test_a_run_without_input_is_an_hourly_one(definition):
    athena = Athena()
    assert states.run(definition, {}, BEGAN, athena).status == "SUCCEEDED"
    assert athena.asked == HOURLY


def test_the_daily_run_merges_all_days_and_tidies(definition):
    athena = Athena()
    assert run(definition, athena, tidy=True).status == "SUCCEEDED"
    assert athena.asked == DAILY
    assert "WHERE DAYS_BACK" not in athena.texts[2] and "0 = 0" in athena.texts[2]


def test_a_lake_that_is_older_than_the_table_is_caught_up_with_month_by_month(definition):
    months = ["2026-09-01-00-00-00", "2026-10-01-00-00-00", "2026-11-01-00-00-00"]
    athena = Athena(landed=months)
    assert run(definition, athena, tidy=True).status == "SUCCEEDED"
    assert athena.asked == ["create", *["watermark", "merge"] * 3, "optimize", "vacuum"]
    merges = [text for text in athena.texts if text.startswith("MERGE")]
    for month, text in zip(months, merges, strict=True):
        assert f"BETWEEN '2026-11-14-09-00-00' AND '{month}'" in text


def test_days_of_one_landing_are_brought_in_parts_and_the_last_moves_the_watermark(definition):
    landed = "2026-11-21-09-00-00"
    athena = Athena(landed=[(landed, "2025-01-01", "2025-03-31", ""), (landed, "2025-04-01", "2025-06-29", landed)])
    assert run(definition, athena, tidy=True).status == "SUCCEEDED"
    assert athena.asked == ["create", *["watermark", "merge"] * 2, "optimize", "vacuum"]
    watermarks = [text for text in athena.texts if text.startswith("WITH")]
    assert ["day > ''" in text for text in watermarks] == [True, False]
    assert "day > '2025-03-31'" in watermarks[1]
    first, second = (text for text in athena.texts if text.startswith("MERGE"))
    assert "BETWEEN '2025-01-01' AND '2025-03-31'" in first and "nullif('', '')" in first
    assert "BETWEEN '2025-04-01' AND '2025-06-29'" in second and f"nullif('{landed}', '')" in second


def test_catching_up_has_an_end(definition):
    athena = Athena(endless=True)
    assert run(definition, athena, tidy=True).status == "SUCCEEDED"
    assert athena.asked.count("merge") == 100


@pytest.mark.parametrize("statement", sorted(set(DAILY)))
def test_throttling_and_conflicts_are_sat_out(definition, statement):
    athena = Athena({statement: ["Athena.TooManyRequestsException", CONFLICT, CONFLICT]})
    assert run(definition, athena, tidy=True).status == "SUCCEEDED"
    assert athena.asked.count(statement) == DAILY.count(statement) + 3


@pytest.mark.parametrize("statement", sorted(set(DAILY)))
def test_what_fails_for_good_fails_the_run_and_says_why(definition, statement):
    athena = Athena({statement: ["COLUMN_NOT_FOUND: line 1:8"] * 100})
    done = run(definition, athena, tidy=True)
    assert (done.status, done.error["Cause"]) == ("FAILED", "COLUMN_NOT_FOUND: line 1:8")
    assert athena.asked[-1] == statement and done.seconds < 3600


@pytest.mark.parametrize("statement", ["optimize", "vacuum"])
def test_a_large_table_is_tidied_in_rounds(definition, statement):
    athena = Athena({statement: [MORE.format(statement.upper())] * 15})
    done = run(definition, athena, tidy=True)
    assert (done.status, done.path[-1]) == ("SUCCEEDED", "Tidied")
    assert athena.asked.count(statement) == 16


@pytest.mark.parametrize("statement", ["optimize", "vacuum"])
def test_rounds_have_an_end_that_is_no_failure(definition, statement):
    athena = Athena({statement: [MORE.format(statement.upper())] * 1000})
    done = run(definition, athena, tidy=True)
    assert done.status == "SUCCEEDED" and done.seconds < 3600
    assert athena.asked.count(statement) == 21
    assert athena.asked[-1] == "vacuum"


@pytest.mark.parametrize(("others", "merges"), [
    ([], True), (["2026-11-21T10:00:00.600Z", "2026-11-21T10:00:01Z"], True), (["2026-11-21T09:59:59Z"], False),
    (["2026-11-21T11:00:00Z", "2026-11-21T10:00:00.499Z"], False)])
def test_of_two_runs_the_earlier_one_goes_on(definition, others, merges):
    athena = Athena(others=[others])
    assert run(definition, athena).status == "SUCCEEDED"
    assert athena.asked == (HOURLY if merges else [])


def test_the_daily_run_waits_for_the_other(definition):
    athena = Athena(others=[["2026-11-21T09:00:00Z"]] * 5)
    done = run(definition, athena, tidy=True)
    assert (done.status, athena.asked) == ("SUCCEEDED", DAILY)
    assert done.path.count("Wait for the other run") == 5


def test_waiting_has_an_end(definition):
    athena = Athena(others=[["2026-11-21T09:00:00Z"]] * 1000)
    done = run(definition, athena, tidy=True)
    assert (done.status, done.error["Error"], athena.asked) == ("FAILED", "NeverAlone", [])
    assert done.seconds < definition["TimeoutSeconds"] / 2


def test_the_statements_follow_the_parameters(definition):
    """No word is left that stands for something, and what is computed is a statement's text."""
    athena = Athena()
    run(definition, athena, tidy=True)
    text = "\n".join(athena.texts)
    assert "s3://the-lake/curated/hr_readings/" in text and "'259200'" in text
    assert re.search(r"\bpulse\b", text)
    assert not re.search(r"\bhr_table\b|\b[A-Z]+(_[A-Z]+)+\b(?<!BIN_PACK)|\$\{|\{%|--", text)


def test_states_lead_to_states_and_each_is_led_to(definition):
    led_to = {definition["StartAt"]}
    for state in definition["States"].values():
        led_to |= {step[key] for step in (state, *state.get("Choices", []), *state.get("Catch", [])) for key in ("Next", "Default") if key in step}
    assert led_to == set(definition["States"])


def test_every_statement_of_the_folder_is_asked_but_the_one_for_people(definition):
    used = set(re.findall(r'"QueryString": "(\w+)\.sql"', (cfn.CLOUD / "templates/curated/maintenance.asl.json").read_text()))
    assert used == {path.stem for path in (cfn.CLOUD / "curated").glob("*.sql")} - {"erase"}
