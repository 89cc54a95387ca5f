"""A delivery to S3 on a folder: Firehose's part played by jq, gzip and pyarrow, as the delivery template says.

What must hold: prefix, processors, compression and format are the template's own, read from it; a record that is not taken
apart is written as it is, and one that is has lost its newlines unless the template adds them.
"""

import gzip
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import jq
import pyarrow as pa
import pyarrow.parquet as pq

import lake
import prefixes
import template as cfn

FROM_THE_LAKE = {
    "StreamArn": "arn:aws:kinesis:ap-south-1:111122223333:stream/hr-kinesis-stream",
    "KeyArn": "arn:aws:kms:ap-south-1:111122223333:key/one", "Bucket": "the-lake",
    "TopicArn": "arn:aws:sns:ap-south-1:111122223333:topic",
}
SECRET = "arn:aws:secretsmanager:ap-south-1:111122223333:secret:splunk-Ab12Cd"
COMPLETE = {  # What each form needs besides.
    "session": {}, "raw": {},
    "opensearch": {"DomainArn": "arn:aws:es:ap-south-1:111122223333:domain/garmin-hr-data", "LinesPerRecord": "one"},
    "splunk": {"HecEndpoint": "https://splunk.example.org:8088", "SecretArn": SECRET},
    "redshift": {"JdbcUrl": "jdbc:redshift://one.abc.ap-south-1.redshift.amazonaws.com:5439/hr", "SecretArn": SECRET},
}


def given(form: str, **parameters: Any) -> dict[str, Any]:
    """All parameters of a stack of this form that have no default, and those named."""
    return FROM_THE_LAKE | COMPLETE[form] | {"Form": form} | parameters


def made(kind: str, parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The resources of the kind that a stack with these parameters has, resolved."""
    template = cfn.load("delivery")
    met = {name for name in template["Conditions"]
           if cfn.resolved(template, {"Fn::If": [name, True, False]}, **parameters)}
    return {name: cfn.resolved(template, one["Properties"], **parameters) for name, one in template["Resources"].items()
            if one["Type"] == kind and one.get("Condition") in {None, *met}}


def table(parameters: dict[str, Any]) -> dict[str, Any]:
    """The one table of the stack."""
    one, = made("AWS::Glue::Table", parameters).values()
    return one["TableInput"]


class Objects:
    """The stack's delivery, onto a folder."""

    def __init__(self, root: Path, parameters: dict[str, Any]) -> None:
        self.root, self.refused, self.written = root, [], 0
        delivery, = made("AWS::KinesisFirehose::DeliveryStream", parameters).values()
        self.settings = delivery["ExtendedS3DestinationConfiguration"]
        listed = self.settings.get("ProcessingConfiguration", {}).get("Processors", [])
        self.processors = {one["Type"]: {p["ParameterName"]: p["ParameterValue"] for p in one["Parameters"]} for one in listed}
        columns = table(parameters)["StorageDescriptor"]["Columns"]
        self.schema = pa.schema([(column["Name"], lake.ARROW[column["Type"]]) for column in columns])

    def deliver(self, records: Iterable[bytes], arrived: datetime) -> None:
        """One buffer's worth of records, the oldest of which arrived then."""
        places: dict[str, list[bytes]] = defaultdict(list)
        apart = "RecordDeAggregation" in self.processors
        for record in (line for one in records for line in (one.splitlines() if apart else [one])):
            keys = self.keys(record)
            if None in keys.values():
                self.refused.append(record)
                continue
            place = prefixes.evaluated(self.settings["Prefix"], arrived, self.settings["CustomTimeZone"], keys)
            places[place].append(record + (b"\n" if "AppendDelimiterToRecord" in self.processors else b""))
        for place, taken in places.items():
            self.write(place, b"".join(taken), taken)

    def keys(self, record: bytes) -> dict[str, Any]:
        if "MetadataExtraction" not in self.processors:
            return {}
        try:
            return jq.compile(self.processors["MetadataExtraction"]["MetadataExtractionQuery"]).input_text(record.decode()).first()
        except ValueError:
            return {"none": None}

    def write(self, place: str, content: bytes, records: list[bytes]) -> None:
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        self.written += 1
        name = f"delivery-1-{uuid.UUID(int=self.written)}"
        if "DataFormatConversionConfiguration" in self.settings:
            assert self.settings["CompressionFormat"] == "UNCOMPRESSED"
            lines = [json.loads(line) for record in records for line in record.splitlines()]
            pq.write_table(pa.Table.from_pylist(lines, schema=self.schema), folder / f"{name}.parquet", compression="GZIP")
            return
        assert self.settings["CompressionFormat"] == "GZIP"
        (folder / f"{name}{self.settings['FileExtension']}").write_bytes(gzip.compress(content, mtime=0))
