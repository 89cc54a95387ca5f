#!/usr/bin/env python3
"""Runs one query of queries/ on Athena and prints the answer; query.sh calls it, with the stack's names in the environment.

What must hold: a value of a person's becomes a part of the text only as what the query declares it to be (query_text.py); an
answer is printed whole or not at all.
"""

import argparse
import csv
import os
import re
import sys
import time
from html import escape
from pathlib import Path

import query_text
from aws_cli import AwsError, aws, pages
from query_text import NotAQuery

POLL_SECONDS = float(os.environ.get("HR_POLL_SECONDS", "1"))
SECONDS_MAX = 1800  # Athena ends a query after half an hour itself.
COLOURS = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#9c755f")
WIDTH, HEIGHT, LEFT, EDGE = 900, 360, 60, 30

Rows = list[dict[str, str]]


def text_of(name: str, values: dict[str, str], other: str | None = None) -> str:
    """The query's text, over the lake's table or another; a value that it does not take is a mistake of the person's."""
    sql = query_text.find(name).read_text()
    declared = query_text.parameters(sql)
    if more := sorted(set(values) - set(declared)):
        takes = " ".join(f"--{word}" for word in declared)
        raise NotAQuery(f"{query_text.find(name).stem} takes {takes}, and no --{more[0]}")
    sql = query_text.filled(sql, values)
    if other is not None:
        if not re.fullmatch(r"[a-z0-9_]+", other):
            raise NotAQuery(f'--table takes the name of a table of the database, not "{other}"')
        return query_text.over(sql, other, os.environ.get("LAKE_FIRST_DAY", "2025-01-01"))
    return re.sub(r"\bhr_table\b", os.environ.get("LAKE_TABLE", "hr_table"), sql)


def ask(sql: str) -> tuple[Rows, int]:
    """The answer's rows, and the bytes that were read for it."""
    started = aws("athena", "start-query-execution", request={
        "QueryString": sql, "WorkGroup": os.environ["WORK_GROUP"],
        "QueryExecutionContext": {"Database": os.environ["LAKE_DATABASE"]},
    })  # fmt: skip
    run = started["QueryExecutionId"]
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        execution = aws("athena", "get-query-execution", "--query-execution-id", run)["QueryExecution"]
        status = execution["Status"]
        if status["State"] == "SUCCEEDED":
            break
        if status["State"] in ("FAILED", "CANCELLED"):
            raise AwsError(f"Athena: {status.get('StateChangeReason') or status['State'].lower()}")
        if time.monotonic() > deadline:
            raise AwsError(f"no answer within {SECONDS_MAX // 60} minutes; see it in the console: {run}")
        time.sleep(POLL_SECONDS)
    names: list[str] | None = None
    rows: Rows = []
    for page in pages("athena", "get-query-results", "--query-execution-id", run):
        for row in page["ResultSet"]["Rows"]:
            cells = [cell.get("VarCharValue", "") for cell in row["Data"]]
            if names is None:
                names = cells
            else:
                rows.append(dict(zip(names, cells, strict=True)))
    return rows, execution.get("Statistics", {}).get("DataScannedInBytes", 0)


def is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", text) is not None


def shown(text: str) -> str:
    """Without decimals that nobody reads."""
    return f"{float(text):.1f}" if is_number(text) and ("." in text or "e" in text.lower()) else text


def table(rows: Rows) -> str:
    names = list(rows[0])
    cells = [names, *([shown(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    right = [all(is_number(row[name]) or not row[name] for row in rows) for name in names]

    def line(values: list[str]) -> str:
        padded = (value.rjust(width) if to_right else value.ljust(width)
                  for value, width, to_right in zip(values, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, cells))


def plot(rows: Rows) -> str:
    """An SVG: the last column that has numbers, a line for each of what the first column tells apart."""
    names = list(rows[0])
    numbers = [name for name in names[1:] if all(is_number(row[name]) for row in rows)]
    if not numbers:
        raise NotAQuery("there is no column of numbers to draw")
    value = next((name for name in ("mean", "rmssd", "resting", "seconds", "missing") if name in numbers), numbers[-1])
    lines: dict[str, list[float]] = {}
    for row in rows:
        lines.setdefault(row[names[0]], []).append(float(row[value]))
    low, high = min(map(min, lines.values())), max(map(max, lines.values()))
    span, steps = (high - low) or 1.0, max(map(len, lines.values())) - 1 or 1
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<text x="{LEFT}" y="16">{escape(value)}</text>']
    for share in (0, 0.5, 1):
        y = HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE)
        parts.append(f'<path d="M{LEFT} {y:.0f}H{WIDTH - EDGE}" stroke="#ccc"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{low + share * span:.4g}</text>')
    for number, (name, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{LEFT + n * (WIDTH - LEFT - EDGE) / steps:.1f},"
                          f"{HEIGHT - EDGE - (at - low) / span * (HEIGHT - 2 * EDGE):.1f}" for n, at in enumerate(values))
        last = points.rsplit(" ", 1)[-1].split(",")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<circle cx="{last[0]}" cy="{last[1]}" r="3" fill="{colour}"/>'
                     f'<text x="{LEFT + 10 + 110 * (number % 7)}" y="{HEIGHT - 8}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def list_queries() -> None:
    for path in sorted(query_text.QUERIES.glob("*.sql")):
        sql = path.read_text()
        print(f"{path.stem:<18} {sql.splitlines()[0].removeprefix('-- ')}")
        taken = " ".join(f'--{name} "{example}"' for name, (_, example) in query_text.parameters(sql).items())
        print(f"{'':<18} {taken}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="query.sh", add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?")
    for word in ("from", "to", "zone", "highest", "plot", "table"):
        parser.add_argument(f"--{word}")
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    asked = vars(parser.parse_args())
    if asked["name"] is None:
        return list_queries()
    values = {word: asked[word] for word in ("from", "to", "zone", "highest") if asked[word] is not None}
    sql = text_of(asked["name"], values, asked["table"])
    if asked["dry_run"]:
        return print(sql, end="")
    rows, read = ask(sql)
    if asked["csv"] and rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif rows:
        print(table(rows))
    print(f"{len(rows)} rows; {read / 1e6:.1f} MB read", file=sys.stderr)
    if asked["plot"] and rows:
        Path(asked["plot"]).write_text(plot(rows))


if __name__ == "__main__":
    try:
        main()
    except (AwsError, NotAQuery) as error:
        sys.exit(f"query.sh: {error}")
    except BrokenPipeError:
        sys.exit(1)
