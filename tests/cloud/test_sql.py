"""The SQL is Trino's, strictly: a real Trino parses, types, plans and runs it, and chooses its days before it reads.

DuckDB and sqlglot are lenient (they compare text with numbers); Trino is not, and is the judge here. What this cannot
tell: where Athena engine 3 departs from Trino 406.
"""

import re

import pytest

import lake
import template as cfn

PARAMETERS = {
    "heart_rate_range": ["2025-07-16 05:25", "2025-07-16 05:45", "Asia/Kolkata"],
    "zones": ["2025-07-15", "2025-07-16", 190],
    "resting_rate": ["2025-07-16", "2025-07-16", "Asia/Kolkata"],
}
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DAYS = ["2025-07-15", "2025-07-16"]


def given(path):
    return lake.filled(path.stem, *PARAMETERS.get(path.stem, DAYS))


@pytest.mark.parametrize("path", cfn.VIEWS, ids=lambda path: path.stem)
def test_a_views_columns_are_of_the_types_that_its_header_declares(trino, path):
    answer = trino.ask(f'SELECT * FROM {path.stem} WHERE "date" = \'2025-07-15\'')
    assert list(zip(answer["columns"], answer["types"], strict=True)) == cfn.renderer().columns(path.read_text())


@pytest.mark.parametrize("path", cfn.QUERIES, ids=lambda path: path.stem)
def test_a_named_query_reads_only_the_days_asked_for(trino, path):
    scans = trino.scans(given(path))
    assert len(scans) == 1, "the lake is read once"
    columns, days = scans[0]
    a_day_more = ["2025-07-17"] if path.stem == "resting_rate" else []
    assert days == ["2025-07-15", "2025-07-16", *a_day_more]
    reads = next(line for line in cfn.renderer().header(path.read_text()) if line.startswith("Reads: "))
    assert f"{NUMBERS[len(columns)]} columns: about " in reads


@pytest.mark.parametrize("path", [*cfn.VIEWS, *cfn.QUERIES], ids=lambda path: path.stem)
def test_a_file_says_what_it_answers_what_it_takes_and_what_it_reads(path):
    sql = path.read_text()
    header = cfn.renderer().header(sql)
    assert header[0].endswith(".")
    assert any(line.startswith("Reads: ") for line in header)
    declared = cfn.renderer().query_text.parameters(sql)
    assert set(re.findall(r"{(\w+)}", cfn.renderer().body(sql))) == set(declared)
    assert any(line.startswith("Parameters: ") for line in header) == bool(declared)


@pytest.mark.parametrize("path", cfn.QUERIES, ids=lambda path: path.stem)
def test_a_named_query_runs_as_it_is_stored(trino, path):
    text = cfn.renderer().named_query(path)["Properties"]["QueryString"]
    text = text["Fn::Sub"].replace("${TableName}", "hr_table") if isinstance(text, dict) else text
    # Athena: "Parameters can be placed only in the WHERE clause." So there are none.
    assert "?" not in cfn.renderer().body(text)
    trino.rows(cfn.renderer().body(text))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT heart_rate FROM hr_table WHERE heart_rate = '70'",
        'SELECT "timestamp" FROM hr_table WHERE "timestamp" > TIMESTAMP \'2025-07-15 00:00:00\'',
        'SELECT sequence + "timestamp" FROM hr_table',
        "SELECT gateway_id, sensor_id, max(sequence) FROM hr_table GROUP BY gateway_id",
        "SELECT heart_rate::double FROM hr_table",
        "SELECT * EXCLUDE (clock) FROM hr_table",
        "SELECT count(*) FROM hr_table WHERE \"date\" = DATE '2025-07-15'",
    ],
)
def test_trino_refuses_what_duckdb_would_forgive(trino, statement):
    with pytest.raises(lake.Refused):
        trino.ask(statement)
