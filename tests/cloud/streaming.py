"""The streaming application on a real Flink in one process, over moto's streams; its Kinesis connector is a stand-in.

What must hold: the statements, their format and their properties are the application's own files; a run can be killed
at any moment and goes on from its last checkpoint.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws

CLASSES = aws.REPOSITORY / "target" / "cloud-flink"
STREAMS = {"readings": 2, "windows": 1, "alerts": 1}
WAIT_SECONDS_MAX = 90
PUT_RECORDS_MAX = 500

# What Flink's own start script opens of Java 17.
OPENED = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "net", "util", "time")]

Row = dict[str, Any]


class Streams:
    """The account's three streams."""

    def __init__(self, account: aws.Account) -> None:
        import boto3

        self.kinesis = boto3.client("kinesis", endpoint_url=account.url, region_name=aws.REGION,
                                    aws_access_key_id="test", aws_secret_access_key="test")
        self.read: dict[str, list[Row]] = {}
        self.next: dict[str, str] = {}
        for name, shards in STREAMS.items():
            self.kinesis.create_stream(StreamName=name, ShardCount=shards)

    def arn(self, name: str) -> str:
        return f"arn:aws:kinesis:{aws.REGION}:123456789012:stream/{name}"

    def put(self, records: list[bytes]) -> None:
        """All on the first shard, in this order."""
        entries = [{"Data": record, "PartitionKey": "any", "ExplicitHashKey": "0"} for record in records]
        for first in range(0, len(entries), PUT_RECORDS_MAX):
            answer = self.kinesis.put_records(StreamName="readings", Records=entries[first:first + PUT_RECORDS_MAX])
            assert answer["FailedRecordCount"] == 0

    def rows(self, name: str) -> list[Row]:
        """What is on an output stream, oldest first."""
        if name not in self.next:
            shard = self.kinesis.list_shards(StreamName=name)["Shards"][0]["ShardId"]
            asked = self.kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
            self.read[name], self.next[name] = [], asked["ShardIterator"]
        while True:
            answer = self.kinesis.get_records(ShardIterator=self.next[name], Limit=10_000)
            self.read[name] += [json.loads(record["Data"]) for record in answer["Records"]]
            self.next[name] = answer["NextShardIterator"]
            if not answer["Records"]:
                return self.read[name]

    def windows(self) -> dict[tuple[str, str, int], Row]:
        """Of each window that is there the row that holds, as a consumer finds it."""
        newest: dict[tuple[str, str, int], Row] = {}
        for row in self.rows("windows"):
            key = (row["sensor_id"], row["window_start"], row["window_minutes"])
            if key not in newest or row["revised_at"] >= newest[key]["revised_at"]:
                newest[key] = row
        return {key: row for key, row in newest.items() if row["op"] == "UPSERT"}

    def alerts(self) -> dict[str, Row]:
        return {row["alert_id"]: row for row in self.rows("alerts")}


class Flink:
    """The application, from its last checkpoint if there is one. A context; leaving it kills it."""

    def __init__(self, account: aws.Account, streams: Streams, folder: Path, **properties: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        checkpoints = folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        flink = {
            "parallelism.default": STREAMS["readings"],
            "execution.checkpointing.interval": "300 ms",
            "execution.checkpointing.dir": checkpoints.as_uri(),
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "restart-strategy.type": "disable",  # What fails shall be seen.
        }
        if self.checkpoint():
            flink["execution.state-recovery.path"] = self.checkpoint().as_uri()
        given = {"region": aws.REGION, "every-seconds": 1, "idle-seconds": 1,
                 **{f"{name}-arn": streams.arn(name) for name in STREAMS},
                 **{name.replace("_", "-"): value for name, value in properties.items()}}
        self.log = (folder / "flink.log").open("a")
        self.process = subprocess.Popen(
            java("hr.streaming.Local", self.written("application", given), self.written("flink", flink)),
            env=account.environment | {"PATH": os.environ["PATH"]}, stdout=self.log, stderr=self.log)

    def written(self, name: str, properties: dict[str, Any]) -> str:
        path = self.folder / f"{name}.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return str(path)

    def checkpoint(self) -> Path | None:
        """The last whole one; a run that goes on from one counts on from its number."""
        whole = [path.parent for path in (self.folder / "checkpoints").glob("*/chk-*/_metadata")]
        return max(whole, key=lambda path: int(path.name.removeprefix("chk-")), default=None)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_SECONDS_MAX
        while not done():
            assert self.process.poll() is None, (self.folder / "flink.log").read_text()[-5000:]
            assert time.monotonic() < end, f"it did not come to pass; see {self.log.name}"
            time.sleep(0.2)

    def until_a_checkpoint(self) -> None:
        """One that began after the call."""
        seen = self.checkpoint()
        self.until(lambda: self.checkpoint() != seen)
        seen = self.checkpoint()
        self.until(lambda: self.checkpoint() != seen)

    def __enter__(self) -> "Flink":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)
        self.log.close()


def java(program: str, *arguments: Any) -> list[str]:
    """The command. It lives for a minute: the quick compiler alone starts it sooner. moto speaks no CBOR."""
    return ["java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Daws.cborEnabled=false", *OPENED,
            "-cp", f"{CLASSES}/classes:{CLASSES}/jars/*", program, *map(str, arguments)]
