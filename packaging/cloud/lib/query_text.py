"""The queries of queries/, with their parameters filled in. Pure.

A file's header declares each parameter, `-- parameter NAME KIND EXAMPLE`, and its text has `{NAME}` in its place. Athena's own
parameters (`?`) may stand in a WHERE clause alone, and these have to stand elsewhere too. What must hold: a value is of its
kind before it becomes a part of a text, so none can say more than a value.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

QUERIES = Path(__file__).resolve().parents[1] / "queries"
PARAMETER = re.compile(r"^-- parameter (\w+) (\w+) (.+)$", re.MULTILINE)


class NotAQuery(Exception):
    """What was asked for, and what there is."""


def _day(value: str) -> str:
    return date.fromisoformat(value).isoformat()


def _time(value: str) -> str:
    if (time := datetime.fromisoformat(value)).tzinfo is not None:
        raise ValueError  # Which zone is --zone's to say.
    return time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _zone(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", value):
        raise ValueError
    return value


def _rate(value: str) -> str:
    if not 30 <= int(value) <= 300:
        raise ValueError
    return str(int(value))


KINDS: dict[str, tuple[Callable[[str], str], str]] = {
    "day": (_day, "a day, such as 2025-07-15"),
    "time": (_time, 'a local time, such as "2025-07-15 17:00"'),
    "zone": (_zone, "a time zone, such as Asia/Kolkata"),
    "rate": (_rate, "a heart rate, 30 to 300"),
}


def parameters(sql: str) -> dict[str, tuple[str, str]]:
    """By name: kind and example."""
    return {name: (kind, example.strip()) for name, kind, example in PARAMETER.findall(sql)}


def filled(sql: str, values: dict[str, str] | None = None) -> str:
    """The text with its parameters; without `values` by their examples."""
    missing = []
    for name, (kind, example) in parameters(sql).items():
        read, words = KINDS[kind]
        if values is not None and name not in values and kind != "rate":
            missing.append(f"--{name} is missing: {words}")
            continue
        value = (values or {}).get(name, example)
        try:
            text = read(value)
        except ValueError:
            raise NotAQuery(f'--{name} takes {words}, not "{value}"') from None
        sql = sql.replace("{" + name + "}", text)
    if missing:
        raise NotAQuery(missing[0])
    return sql


def over(sql: str, table: str, first_day: str) -> str:
    """The query over another table of lines, whose folders are no days of events: the views that it needs become parts of it,
    and a line's day is what the lake puts it under."""
    views = {path.stem: path.read_text() for path in (QUERIES / "views").glob("*.sql")}
    needed: dict[str, str] = {}

    def need(text: str) -> None:
        for name, view in views.items():
            if name not in needed and re.search(rf"\b{name}\b", text):
                need(view)
                needed[name] = view

    need(sql)
    lines = f"""SELECT *, greatest(substr("timestamp", 1, 10), '{first_day}') AS "date" FROM {table}"""
    parts = ",\n".join(f"{name} AS (\n{text}\n)" for name, text in {"hr_table": lines, **needed}.items())
    return re.sub(r"^WITH ", lambda _: f"WITH {parts},\n", sql, count=1, flags=re.MULTILINE)


def find(name: str) -> Path:
    """The query of this name, or the only one whose name has it as a part."""
    paths = sorted(QUERIES.glob("*.sql"))
    found = [path for path in paths if path.stem == name] or [path for path in paths if name in path.stem]
    if len(found) != 1:
        raise NotAQuery(f'"{name}" is no query; there are: {", ".join(path.stem for path in paths)}')
    return found[0]
