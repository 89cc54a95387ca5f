#!/usr/bin/env python3
"""Prints a stack's whole CloudFormation template: templates/STACK/template.yaml, then the folder's other files.

SQL stands once, in its own file, and reaches the account through here. Into the lake's stack: a file of queries/views/
becomes a Glue table of type VIRTUAL_VIEW, which is how Athena itself stores a view; its columns are the
`-- column NAME TYPE` lines of its header. A file of queries/ becomes a named query, its header included and its parameters filled in with their examples, to be
changed in the console. Into the curated
stack's state machine: the files of curated/ that it names. `hr_table` in a text follows the parameter TableName. A delivery's
tables have the columns of the lake's. Needs nothing but Python.

    packaging/cloud/lib/render.py lake|curated|delivery|live|streaming|events|transform >target/cloud/STACK.yaml
"""

import json
import re
import sys
from pathlib import Path

import query_text

CLOUD = Path(__file__).resolve().parents[1]
# Words of the statements in curated/: the parameter that each stands for, or what the state machine makes of it.
PARAMETER_WORDS = {"hr_table": "TableName", "LAKE_BUCKET": "Bucket", "LAKE_PREFIX": "Prefix"}
COMPUTED_WORDS = {
    "KEEP_SNAPSHOT_SECONDS": "$string(86400 * ${KeepSnapshotsDays})",  # CloudFormation cannot multiply.
    "LANDED_AFTER": "$landed_after",
    "LANDED_UNTIL": "$landed_until",
    "DAYS_BACK": "$days_back",
    "DAY_AFTER": "$day_after",
    "SEEN_UNTIL": "$seen_until",
    "FIRST_DAY": "$first_day",
    "LAST_DAY": "$last_day",
    "MERGED_UNTIL": "$merged_until",
}
GLUE_TYPES = {"varchar": "string", "integer": "int", "timestamp(3)": "timestamp"}


def header(sql: str) -> list[str]:
    """The comment that a file begins with, line by line, without its dashes."""
    lines = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].strip())
    return lines


def body(sql: str) -> str:
    """The statement without its comments."""
    return "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--")).strip()


def columns(sql: str) -> list[tuple[str, str]]:
    """A view's columns with Trino's names of their types."""
    words = (line.split(maxsplit=3) for line in header(sql) if line.startswith("column "))
    return [(line[1], line[2].rstrip(",")) for line in words]


def glue_type(trino: str) -> str:
    """What Glue calls a Trino type."""
    array = re.fullmatch(r"array\((.+)\)", trino)
    return f"array<{glue_type(array[1])}>" if array else GLUE_TYPES.get(trino, trino)


def substituted(text: str, **names: str) -> dict | str:
    """The text with the parameter's name for the table, and for each other word of `names`."""
    replaced = text
    for word, parameter in {"hr_table": "TableName", **names}.items():
        replaced = re.sub(rf"\b{word}\b", f"${{{parameter}}}", replaced)
    return replaced if replaced == text else {"Fn::Sub": replaced}


def resource_name(path: Path) -> str:
    return "Sql" + "".join(word.capitalize() for word in path.stem.split("_"))


def view(path: Path) -> dict:
    """A view, as Athena writes it to the catalogue."""
    sql = path.read_text()
    definition = {
        "originalSql": "\n".join(line.strip() for line in body(sql).splitlines()),
        "catalog": "awsdatacatalog",
        "schema": "the_database",
        "columns": [{"name": name, "type": kind} for name, kind in columns(sql)],
    }
    text = substituted(json.dumps(definition, separators=(",", ":")), the_database="DatabaseName")
    return {
        "Type": "AWS::Glue::Table",
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseName": {"Ref": "Database"},
            "TableInput": {
                "Name": path.stem,
                "Description": header(sql)[0],
                "TableType": "VIRTUAL_VIEW",
                "Parameters": {"presto_view": "true", "comment": "Presto View"},
                "PartitionKeys": [],
                "StorageDescriptor": {
                    "Columns": [{"Name": name, "Type": glue_type(kind)} for name, kind in columns(sql)],
                    "SerdeInfo": {},
                },
                "ViewOriginalText": {"Fn::Join": ["", ["/* Presto View: ", {"Fn::Base64": text}, " */"]]},
                "ViewExpandedText": "/* Presto View */",
            },
        },
    }


def named_query(path: Path) -> dict:
    """A named query of the workgroup, with what of its header says how to ask it."""
    sql = path.read_text()
    # Half as deep: a template has room for so much.
    text = re.sub(r"^( +)\1", r"\1", body(sql), flags=re.MULTILINE)
    asked = [f"-- {line}" for line in header(sql) if line.startswith(("Parameters: ", "parameter ", "Reads: "))]
    return {
        "Type": "AWS::Athena::NamedQuery",
        "Properties": {
            "Name": path.stem,
            "Description": header(sql)[0],
            "Database": {"Ref": "Database"},
            "WorkGroup": {"Ref": "WorkGroup"},
            "QueryString": substituted(query_text.filled("\n".join([*asked, text]))),
        },
    }


def statement(path: Path) -> str:
    """A file of curated/ as the state machine asks it: a text for Fn::Sub, and JSONata where it has to be computed."""
    text = body(path.read_text()).rstrip(";").replace("${", "${!")
    for word, parameter in PARAMETER_WORDS.items():
        text = re.sub(rf"\b{word}", f"${{{parameter}}}", text)
    # A literal of JSONata is written as one of JSON.
    literal = json.dumps(text)
    for word, expression in COMPUTED_WORDS.items():
        literal = literal.replace(word, f'" & {expression} & "')
    return text if literal == json.dumps(text) else f"{{% {literal} %}}"


def state_machine() -> str:
    """The definition with its statements, as a text for Fn::Sub."""
    definition = json.loads((CLOUD / "templates/curated/maintenance.asl.json").read_text())
    for state in definition["States"].values():
        arguments = state.get("Arguments", {})
        if "QueryString" in arguments:
            arguments["QueryString"] = statement(CLOUD / "curated" / arguments["QueryString"])
    return json.dumps(definition, separators=(",", ":"))


def partition_query() -> str:
    """The jq program that names the day of a line, on one line, as a text for Fn::Sub."""
    return " ".join((CLOUD / "templates/lake/partition.jq").read_text().splitlines())


def session_query() -> str:
    """The jq program that names a line's day and session, on one line, as a text for Fn::Sub."""
    text = " ".join((CLOUD / "templates/delivery/session.jq").read_text().splitlines())
    return text.replace("PARTITION_QUERY", partition_query())


def line_columns() -> str:
    """The columns of the lake's table, on one line: a line has the same fields wherever it is read."""
    listed = re.search(r"\n +Columns:[^\n]*\n((?: +- \{Name: .*\}\n)+)", (CLOUD / "templates/lake/catalogue.yaml").read_text())[1]
    return "[" + ", ".join(line.strip().removeprefix("- ") for line in listed.splitlines()) + "]"


def uncommented(yaml: str) -> str:
    """Without the comments that stand on lines of their own, or behind the last quote of one: CloudFormation counts them."""
    lines = (re.sub(r"\s+# [^'\"]*$", "", line) for line in yaml.splitlines())
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def render(stack: str) -> str:
    """The template's text."""
    head = CLOUD / "templates" / stack / "template.yaml"
    parts = [path for path in sorted(head.parent.glob("*.yaml")) if path != head]
    texts = [uncommented(path.read_text().rstrip()) for path in [head, *parts]]
    # JSON is YAML.
    if stack == "lake":
        resources = {resource_name(path): view(path) for path in sorted((CLOUD / "queries/views").glob("*.sql"))}
        resources |= {resource_name(path): named_query(path) for path in sorted((CLOUD / "queries").glob("*.sql"))}
        texts += [f"  {name}: {json.dumps(resource, separators=(',', ':'))}" for name, resource in resources.items()]
        texts = [text.replace("!Sub PARTITION_QUERY", f"!Sub {json.dumps(partition_query())}") for text in texts]
    if stack == "delivery":
        texts = [text.replace("!Sub SESSION_QUERY", f"!Sub {json.dumps(session_query())}") for text in texts]
        texts = [text.replace("LINE_COLUMNS", line_columns()) for text in texts]
    if stack == "curated":
        texts = [text.replace("!Sub STATE_MACHINE", f"!Sub {json.dumps(state_machine())}") for text in texts]
    return "\n".join(texts) + "\n"


if __name__ == "__main__":
    stacks = sorted(path.name for path in (CLOUD / "templates").iterdir())
    if sys.argv[1:] not in [[stack] for stack in stacks]:
        sys.exit(f"usage: render.py {'|'.join(stacks)}")
    print(render(sys.argv[1]), end="")
