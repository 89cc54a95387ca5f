"""The lake on a folder: Firehose's part played by pyarrow, Athena's by a real Trino and, as a second opinion, by DuckDB.

What must hold: schema, partition, layout and format are the template's own, read from it; a record that does not fit
the table is refused, as Firehose would send it to errors/, never bent until it fits.
"""

import json
import re
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import jq
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot

import template as cfn

TARGET = cfn.CLOUD.parents[1] / "target"
TRINO_JARS = TARGET / "cloud-trino"
RECORD_LINES_MAX = 500  # What Firehose's RecordDeAggregation takes out of one record.
ICEBERG = {"timestamp": "timestamp(6)", "string": "varchar", "int": "integer", "array<double>": "array(double)"}
ARROW = {"string": pa.string(), "int": pa.int32(), "bigint": pa.int64(), "boolean": pa.bool_(), "array<double>": pa.list_(pa.float64())}


def filled(name: str, *values: object) -> str:
    """A named query with these values of its parameters, in the order of its header; without any, as it is stored."""
    queries = cfn.renderer().query_text
    sql = (cfn.CLOUD / "queries" / f"{name}.sql").read_text()
    given = dict(zip(queries.parameters(sql), map(str, values), strict=True)) if values else None
    return cfn.renderer().body(queries.filled(sql, given))


def curated(name: str, **words: Any) -> str:
    """A statement of curated/ with its words put in."""
    text = cfn.renderer().body((cfn.CLOUD / "curated" / f"{name}.sql").read_text())
    for word, value in words.items():
        assert word in text, f"{name}.sql has no {word}"
        text = text.replace(word, str(value))
    return text


def curated_columns() -> dict[str, str]:
    """The columns that create.sql declares, with Trino's names of their types."""
    declared = curated("create").split("(", 1)[1].split("\n)", 1)[0]
    return {name: ICEBERG.get(kind, kind) for name, kind in re.findall(r"(\w+) ([\w<>]+),?\n", declared + "\n")}


class Firehose:
    """The delivery `Delivery` of the template, onto a folder."""

    def __init__(self, root: Path, template: dict[str, Any] | None = None, **parameters: Any) -> None:
        self.template = template or cfn.load()
        resources = self.template["Resources"]
        delivery = cfn.resolved(self.template, resources["Delivery"]["Properties"], **parameters)
        settings = delivery["ExtendedS3DestinationConfiguration"]
        by_type = {p["Type"]: {q["ParameterName"]: q["ParameterValue"] for q in p["Parameters"]}
                   for p in settings["ProcessingConfiguration"]["Processors"]}
        self.partition = jq.compile(by_type["MetadataExtraction"]["MetadataExtractionQuery"])
        self.prefix = settings["Prefix"]
        self.name = delivery["DeliveryStreamName"]
        serializer = settings["DataFormatConversionConfiguration"]["OutputFormatConfiguration"]["Serializer"]["ParquetSerDe"]
        self.compression = serializer["Compression"]
        self.dictionary = serializer["EnableDictionaryCompression"]
        table = cfn.resolved(self.template, resources["Table"]["Properties"], **parameters)["TableInput"]
        self.schema = pa.schema([(c["Name"], ARROW[c["Type"]]) for c in table["StorageDescriptor"]["Columns"]])
        self.root = root
        self.refused: list[dict[str, Any]] = []
        self.objects = 0

    def deliver(self, records: Iterable[bytes], arrived: datetime | None = None) -> None:
        """One buffer's worth of stream records: an object for each partition, named after when the first of them came."""
        self.arrived = arrived or datetime.now(UTC)
        partitions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in (line for record in records for line in de_aggregated(record)):
            try:
                keys = self.partition.input_value(line).first()
                # A partition key may not be null (Firehose, "Dynamic partitioning error handling").
                place = re.sub(r"!\{partitionKeyFromQuery:(\w+)\}", lambda key: keys[key[1]], self.prefix)
                (self.refused if None in keys.values() else partitions[place]).append(line)
            except (TypeError, ValueError, KeyError, pa.ArrowException):
                self.refused.append(line)
        for place, lines in partitions.items():
            self._write(place, lines)

    def _write(self, prefix: str, lines: list[dict[str, Any]]) -> None:
        try:
            table = pa.Table.from_pylist(lines, schema=self.schema)
        except (TypeError, ValueError, pa.ArrowException):
            if len(lines) == 1:
                self.refused.extend(lines)
                return
            for line in lines:
                self._write(prefix, [line])
            return
        place = self.root / prefix
        place.mkdir(parents=True, exist_ok=True)
        self.objects += 1
        name = f"{self.name}-1-{self.arrived:%Y-%m-%d-%H-%M-%S}-{uuid.UUID(int=self.objects)}.parquet"
        pq.write_table(table, place / name, compression=self.compression, use_dictionary=self.dictionary)


def de_aggregated(record: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of one record; only so many are looked at, as in Firehose."""
    lines = [json.loads(line) for line in record.splitlines()]
    assert len(lines) <= RECORD_LINES_MAX, "the rest of such a record would be lost"
    yield from lines


class Duck:
    """DuckDB over the folder; each text is transpiled from Trino's dialect."""

    # What sqlglot leaves as it stands. Here a local time has no zone, in Trino it has; the answers are the same.
    MACROS = """
        CREATE MACRO with_timezone(local_time, zone) AS timezone(zone, local_time);
        CREATE MACRO at_timezone(instant, zone) AS timezone(zone, instant);
        CREATE MACRO from_iso8601_timestamp(written) AS CAST(written AS TIMESTAMPTZ);
        CREATE MACRO format_datetime(local_time, pattern) AS strftime(local_time,
            replace(replace(replace(replace(replace(replace(pattern, 'yyyy', '%Y'), 'MM', '%m'), 'dd', '%d'), 'HH', '%H'), 'mm', '%M'), 'ss', '%S'));
    """

    def __init__(self, root: Path) -> None:
        self.connection = duckdb.connect(config={"threads": 1})
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(self.MACROS)
        self.connection.execute(
            f"CREATE VIEW hr_table AS SELECT * FROM read_parquet('{root}/heart_rate_data/*/*.parquet', "
            "hive_partitioning = true, hive_types = {'date': VARCHAR})"
        )
        waiting = {path.stem: cfn.renderer().body(path.read_text()) for path in cfn.VIEWS}
        for name in ("hr_readings_unique", *(name for name in waiting if name != "hr_readings_unique")):
            self.connection.execute(f"CREATE VIEW {name} AS {self.transpiled(waiting[name])}")

    @staticmethod
    def transpiled(sql: str) -> str:
        return sqlglot.transpile(sql, read="athena", write="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)[0]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        result = self.connection.execute(self.transpiled(sql))
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


class Refused(Exception):
    """Trino did not take the statement."""


class Trino:
    """A real Trino over the folder, its tables and views those of the template. A context."""

    def __init__(self, root: Path, **parameters: Any) -> None:
        self.root = root
        self.parameters = parameters

    def __enter__(self) -> "Trino":
        metastore = self.root / "metastore"
        metastore.mkdir()
        (self.root / "heart_rate_data").mkdir(exist_ok=True)
        self.log = (self.root / "trino.log").open("w")
        self.process = subprocess.Popen(
            # It lives for minutes: the quick compiler alone starts it sooner; its own code cache would be too small for Trino.
            # The machine's warnings are no answers. A library of Trino's would measure its objects with a debugger on itself,
            # and can wait for that for ever.
            ["java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m", "-XX:+UseSerialGC", "-Xlog:disable",
             "-Xlog:all=warning:stderr", "-Djdk.attach.allowAttachSelf=true", "-Djol.skipHotspotSAAttach=true",
             "-cp", f"{TRINO_JARS}/*", str(Path(__file__).parent / "Trino.java"), str(metastore)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        template = cfn.load()
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Glue::Table":
                table = cfn.resolved(template, resource["Properties"]["TableInput"], **self.parameters)
                self.ask(json.loads(re.sub(r"s3://[^/]+/", f"file://{self.root}/", json.dumps(table))))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()

    def ask(self, request: dict[str, Any] | str) -> dict[str, Any]:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, f"Trino ended; see {self.log.name}"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def rows(self, sql: str) -> list[dict[str, Any]]:
        answer = self.ask(sql)
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]

    def create(self) -> None:
        """The table of create.sql; where Athena's words for an Iceberg table are not Trino's, in Trino's."""
        athena = curated("create", LAKE_BUCKET="lake", LAKE_PREFIX="", KEEP_SNAPSHOT_SECONDS=0)
        partition = ", ".join(f"'{one}'" for one in re.search(r"PARTITIONED BY \((.*)\)\n", athena)[1].split(", "))
        place = re.search(r"LOCATION 's3://lake/(.*)/'", athena)[1]
        form = re.search(r"'format' = '(\w+)'", athena)[1]
        columns = ", ".join(f"{name} {kind}" for name, kind in curated_columns().items())
        self.ask(f"CREATE TABLE iceberg.hr_data.hr_readings ({columns}) WITH (format = '{form}', "
                 f"partitioning = ARRAY[{partition}], location = 'file://{self.root}/{place}')")

    def merge(self, days_back: int = 0, day_after: str = "", seen_until: str = "") -> dict[str, Any]:
        """One round as the state machine makes it: which objects, then the merge. The answer's one row says how many rows changed;
        `next` are the next round's arguments, None after the last."""
        asked = curated("watermark", DAYS_BACK=days_back, DAY_AFTER=day_after, SEEN_UNTIL=seen_until)
        (after, until, first, last, merged, goes_on), = self.ask(asked)["rows"]
        if not first:
            return {"rows": [[0]], "next": None}
        following = {"day_after": "" if merged else last, "seen_until": until if merged else seen_until}
        words = {"LANDED_AFTER": after, "LANDED_UNTIL": until, "FIRST_DAY": first, "LAST_DAY": last, "MERGED_UNTIL": merged}
        return self.ask(curated("merge", DAYS_BACK=days_back, **words)) | {"next": following if goes_on else None}

    def merge_all(self) -> list[int]:
        """A whole run over all days; the rows that changed in each round."""
        changed, words = [], {}
        while words is not None:
            answer = self.merge(**words)
            changed.append(answer["rows"][0][0])
            words = answer["next"]
        return changed

    def scans(self, sql: str) -> list[tuple[set[str], list[str]]]:
        """Each scan of the lake in the plan: the columns it reads, and the days it has chosen before it reads."""
        plan = self.ask(f"EXPLAIN {sql}")["rows"][0][0]
        scans = []
        for part in re.split(r"Scan\w*\[table = \w+:\w+:hr_table", plan)[1:]:
            columns = set(re.findall(r":= (\w+):[^\n]*:REGULAR", part))
            constraint = re.search(r"date:string:PARTITION_KEY\n\W*:: (\[.*\])", part)
            scans.append((columns, re.findall(r"\[(\d{4}-\d\d-\d\d)\]", constraint[1]) if constraint else []))
        return scans
