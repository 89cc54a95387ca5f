#!/usr/bin/env python3
"""The inner part of estimate.sh: quantities from the templates and the load, dollars from the price file."""

import argparse
import json
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import sizing

CLOUD = Path(__file__).resolve().parents[1]
HOURS = 730  # AWS counts a month so.
DAYS = HOURS / 24
GB, TB = 2**30, 2**40  # What AWS calls so in a bill.
# Measured: packaging/cloud/README.md, "What it reads".
LINE_BYTES, PARQUET_BYTES, RAW_BYTES = 313.4, 14.6, 20.4
BUFFER_BYTES = 64 * 2**20  # As in templates/lake/lake.yaml.
FIREHOSE_STEP, KINESIS_STEP, PUT_UNIT = 5 * 1024, 1024, 25 * 1024  # Bytes that a record is rounded up to.
ATHENA_BYTES_MIN = 10 * 2**20  # Of each statement.
MERGE_TRANSITIONS, TIDY_TRANSITIONS = 6, 12  # States that a run of the curated table's machine passes, about.
INDEXER_SECONDS = 0.05  # For one batch, assumed.
JQ_SECONDS = 0.001  # Firehose's query for the day of one line, assumed.
CURATED_ROW_BYTES = 10  # Of three columns of a row, that a merge reads.
KPU_STORAGE_GB = 50  # That a KPU of Managed Service for Apache Flink comes with.
KMS_CALLS_PER_HOUR = 12  # Kinesis: each who writes or reads asks for the data key every five minutes.


def parameters(part: str) -> dict[str, str]:
    """The defaults of a template's parameters. Its head is regular enough to be read without a YAML library."""
    text = (CLOUD / "templates" / part / "template.yaml").read_text()
    head = re.search(r"^Parameters:\n(.*?)^\S", text, re.S | re.M)[1]
    blocks = re.findall(r"^  (\w+):(.*(?:\n    .*)*)", head, re.M)
    found = {name: re.search(r'Default: ("[^"]*"|[^,}\n]+)', block) for name, block in blocks}
    return {name: value[1].strip().strip('"') for name, value in found.items() if value}


def alarms(part: str) -> int:
    return sum(path.read_text().count("Type: AWS::CloudWatch::Alarm") for path in (CLOUD / "templates" / part).glob("*.yaml"))


def indexer_gib() -> float:
    text = (CLOUD / "templates/live/indexer.yaml").read_text()
    return int(re.search(r"MemorySize: (\d+)", text)[1]) / 1024


def runs(schedule: str) -> float:
    """Per month, of `rate(1 hour)`; a cron expression counts as daily."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", schedule)
    return HOURS * {"minute": 60, "hour": 1, "day": 1 / 24}[rate[2]] / int(rate[1]) if rate else DAYS


def rounded(size: float, step: int) -> float:
    return math.ceil(size / step) * step


@dataclass
class Load:
    """What is measured in a month, and what becomes of it on the way."""

    readings: float
    records: float
    record_bytes: float
    per_second: float  # Records, while all measure.

    @classmethod
    def of(cls, asked: argparse.Namespace) -> "Load":
        per_second = asked.sensors * asked.hz
        readings = per_second * 3600 * asked.hours * DAYS
        return cls(readings, readings / asked.lines, LINE_BYTES * asked.lines, per_second / asked.lines)

    def gb(self, step: int = 1) -> float:
        return self.records * rounded(self.record_bytes, step) / GB


class Bill:
    def __init__(self, prices: dict, chosen: dict[str, str], asked: argparse.Namespace):
        self.prices, self.chosen, self.asked, self.load = prices, chosen, asked, Load.of(asked)
        self.fleet = fleet_of(asked)
        self.rows: list[tuple[str, str, float]] = []
        self.used: set[str] = set()

    def add(self, part: str, what: str, quantity: float, price: str, unit: float = 1, kind: str | None = None) -> None:
        self.used.add(price)
        each = self.prices[price] if kind is None else self.prices[price][kind]
        self.rows.append((part, f"{what}, at {each:g}", quantity / unit * each))

    def stream(self) -> None:
        load, hours = self.load, int(self.chosen["RetentionHours"])
        if self.chosen["StreamMode"] == "ON_DEMAND":
            readers = 1 + (self.chosen["RawDelivery"] == "yes") + self.asked.live
            size = load.gb(KINESIS_STEP)
            self.add("stream", f"{HOURS} h on demand", HOURS, "kinesis_stream_hour")
            self.add("stream", f"{size:.3f} GB in (records up to full KB)", size, "kinesis_in_gb")
            self.add("stream", f"{size:.3f} GB out x {readers} readers", size * readers, "kinesis_out_gb")
            if hours > 24:
                kept = size / HOURS * (min(hours, 168) - 24)
                self.add("stream", f"{kept:.3f} GB kept over a day", kept, "kinesis_extended_gb_month")
        else:
            shards = int(self.chosen["ShardCount"])
            units = load.records * math.ceil(load.record_bytes / PUT_UNIT)
            self.add("stream", f"{shards} shards x {HOURS} h", shards * HOURS, "kinesis_shard_hour")
            self.add("stream", f"{units:,.0f} PUT units", units, "kinesis_put_million", 1e6)
            if hours > 24:
                self.add("stream", f"{shards} shards x {HOURS} h, over a day", shards * HOURS, "kinesis_extended_shard_hour")
        if hours > 168:
            kept = load.gb() / HOURS * (hours - 168)
            self.add("stream", f"{kept:.3f} GB kept over a week", kept, "kinesis_long_gb_month")

    def delivery(self) -> None:
        size = self.load.gb(FIREHOSE_STEP)
        # A buffer ends by its time or by its size, whichever comes first.
        objects = max(HOURS * 3600 / int(self.chosen["BufferSeconds"]), self.load.gb() * GB / BUFFER_BYTES)
        self.add("delivery", f"{size:.3f} GB in (records up to full 5 KB)", size, "firehose_gb")
        self.add("delivery", f"{size:.3f} GB to Parquet", size, "firehose_conversion_gb")
        self.add("delivery", f"{size:.3f} GB by day", size, "firehose_partitioning_gb")
        hours = self.load.readings * JQ_SECONDS / 3600
        self.add("delivery", f"{hours:,.2f} h of asking for the day", hours, "firehose_jq_hour")
        self.add("delivery", f"{objects:,.0f} objects by day", objects, "firehose_objects_thousand", 1000)
        self.add("delivery", f"{objects:,.0f} PUTs", objects, "s3_put_thousand", 1000)
        if self.chosen["RawDelivery"] == "yes":
            self.add("raw delivery", f"{size:.3f} GB in", size, "firehose_gb")
            self.add("raw delivery", f"{objects:,.0f} PUTs", objects, "s3_put_thousand", 1000)
            old = self.load.readings * RAW_BYTES * self.asked.months / GB
            self.add("raw delivery", f"{old:.3f} GB lie there after {self.asked.months} months", old, "s3_glacier_ir_gb_month")

    def lake(self) -> None:
        size = self.load.readings * PARQUET_BYTES * self.asked.months / GB
        self.add("lake", f"{size:.3f} GB lie there after {self.asked.months} months", size, "s3_gb_month")
        callers = self.asked.gateways + 2 + self.asked.live
        calls = callers * KMS_CALLS_PER_HOUR * HOURS
        self.add("lake", "1 key", 1, "kms_key_month")
        self.add("lake", f"{calls:,.0f} key requests of {callers} writers and readers", calls, "kms_requests_10000", 10_000)
        number = sum(alarms(part) for part in ("lake", *(["curated"] if self.asked.curated else []), *(["live"] if self.asked.live else [])))
        self.add("alarms", f"{number} alarms", number, "cloudwatch_alarm_month")

    def curated(self) -> None:
        if not self.asked.curated:
            return
        merges, tidies = runs(self.chosen["MergeSchedule"]), runs(self.chosen["TidySchedule"])
        day = self.load.readings * PARQUET_BYTES / DAYS
        # An hourly run reads two days of either table, a daily one the week that landed and, of the curated table, three columns
        # of those days; optimizing reads what changed.
        hourly, daily = (days * day * (1 + CURATED_ROW_BYTES / PARQUET_BYTES) for days in (2, 7))
        scanned = (merges * max(hourly, ATHENA_BYTES_MIN) + tidies * (max(daily, ATHENA_BYTES_MIN) + max(day, ATHENA_BYTES_MIN))) / TB
        steps = merges * MERGE_TRANSITIONS + tidies * TIDY_TRANSITIONS
        size = self.load.readings * PARQUET_BYTES * self.asked.months / GB
        self.add("curated table", f"{merges:.0f} merges and {tidies:.0f} tidyings read {scanned:.5f} TB", scanned, "athena_tb")
        self.add("curated table", f"{steps:,.0f} state transitions", steps, "step_functions_thousand", 1000)
        self.add("curated table", f"{size:.3f} GB lie there after {self.asked.months} months", size, "s3_gb_month")

    def windows(self) -> None:
        if self.asked.windows != "flink":
            return
        units = self.fleet.shards() + 1
        shards = sizing.window_shards(self.fleet.shards()) + 1
        self.add("windows", f"{units} KPUs x {HOURS} h", units * HOURS, "flink_kpu_hour")
        self.add("windows", f"{units * KPU_STORAGE_GB} GB of their storage", units * KPU_STORAGE_GB, "flink_storage_gb_month")
        self.add("windows", f"{shards} shards of windows and alerts x {HOURS} h", shards * HOURS, "kinesis_shard_hour")

    def live(self) -> None:
        if not self.asked.live:
            return
        seconds = 3600 * self.asked.hours * DAYS
        window = int(self.chosen["BatchWindowSeconds"])
        # One invocation a shard and window at most, and one at the end of each minute.
        calls = min(self.load.records, self.fleet.shards() * seconds / max(window, 0.2)) + HOURS * 60 * self.fleet.shards()
        work = calls * INDEXER_SECONDS * indexer_gib()
        nodes, kind = int(self.chosen["NodeCount"]), self.chosen["InstanceType"]
        if kind not in self.prices["opensearch_hour"]:
            sys.exit(f"estimate.sh: no price for {kind}; there are: {', '.join(self.prices['opensearch_hour'])}")
        stored = nodes * int(self.chosen["VolumeGiB"])
        self.add("indexer", f"{calls:,.0f} invocations", calls, "lambda_million", 1e6)
        self.add("indexer", f"{work:,.0f} GB-seconds of {INDEXER_SECONDS} s each", work, "lambda_arm_gb_second")
        if has_domain(self.asked):
            return
        self.add("dashboard", f"{nodes} x {kind} x {HOURS} h", nodes * HOURS, "opensearch_hour", kind=kind)
        self.add("dashboard", f"{stored} GB of disk", stored, "opensearch_gp3_gb_month")
        self.add("dashboard", "1 secret", 1, "secret_month")

    def made(self) -> "Bill":
        for part in (self.stream, self.delivery, self.lake, self.curated, self.windows, self.live):
            part()
        return self


def fleet_of(asked: argparse.Namespace) -> sizing.Fleet:
    given = parameters("live") | {name: value for name, _, value in (pair.partition("=") for pair in asked.parameter)}
    days = [given[f"{kept}RetentionDays"] for kept in ("Readings", "Minutes")]
    if not all(text.isdecimal() and int(text) > 0 for text in days):
        sys.exit(f"estimate.sh: a number of days is wanted, not {' and '.join(days)}")
    return sizing.Fleet(asked.sensors, asked.hz, asked.hours, asked.lines, LINE_BYTES, *map(int, days))


def sized(asked: argparse.Namespace) -> dict[str, str]:
    """The parameters that follow from the load."""
    fleet = fleet_of(asked)
    return sizing.lake(fleet) | (sizing.domain(fleet) if asked.live and not has_domain(asked) else {})


def has_domain(asked: argparse.Namespace) -> bool:
    """Whether one of the account's is used: it is paid for already."""
    return any(pair.startswith("ExistingEndpoint=") and pair != "ExistingEndpoint=" for pair in asked.parameter)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="estimate.sh", usage="see --help of estimate.sh")
    positive = lambda text: value if (value := float(text)) > 0 else parser.error(f"{text} is not above 0")
    parser.add_argument("--sensors", type=positive, required=True)
    for name, default in (("gateways", 1), ("hz", 1), ("hours", 24), ("lines", 1), ("months", 12)):
        parser.add_argument(f"--{name}", type=positive, default=default)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--windows", choices=("lambda", "flink"), default="lambda")
    parser.add_argument("--parameters", action="store_true")
    parser.add_argument("--no-curated", dest="curated", action="store_false")
    parser.add_argument("--parameter", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--region", default=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1")
    parser.add_argument("--prices", type=Path, default=max(CLOUD.glob("prices-*.json")))
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    file = json.loads(asked.prices.read_text())
    if asked.parameters and asked.region not in file["regions"]:
        print(f"no prices for {asked.region}: the budget is that of us-east-1", file=sys.stderr)
        asked.region = "us-east-1"
    if asked.region not in file["regions"]:
        sys.exit(f"estimate.sh: {asked.prices.name} has no prices for {asked.region}; there are: {', '.join(file['regions'])}")
    prices = file["regions"][asked.region]
    chosen = parameters("lake") | parameters("curated") | parameters("live") | parameters("streaming")
    named = {pair.partition("=")[0] for pair in asked.parameter}
    try:
        follow = {name: value for name, value in sized(asked).items() if name not in named}
    except sizing.TooLarge as error:
        if not {"InstanceType", "NodeCount", "VolumeGiB"} <= named:
            sys.exit(f"estimate.sh: {error}")
        follow = sizing.lake(fleet_of(asked))
    chosen |= follow
    for pair in asked.parameter:
        name, _, value = pair.partition("=")
        if name not in chosen:
            sys.exit(f"estimate.sh: no template has a parameter {name} with a default")
        chosen[name] = value
    bill = Bill(prices, chosen, asked).made()
    load = bill.load
    total = sum(dollars for _, _, dollars in bill.rows)
    follow["BudgetDollars"] = sizing.budget(total)
    if asked.parameters:
        print(*(f"{name}={value}" for name, value in follow.items() if name not in named), sep="\n")
        return
    print(f"{asked.sensors:g} sensors at {asked.hz:g}/s, {asked.hours:g} h a day, {asked.gateways:g} gateways: {load.readings:,.0f} readings a month")
    print(f"in {load.records:,.0f} records of {asked.lines:g} lines ({load.record_bytes:,.0f} bytes). {asked.region}, list prices of {file['as_of']}\n")
    width = max(len(what) for _, what, _ in bill.rows)
    for part, what, dollars in bill.rows:
        print(f"{part:<14} {what:<{width}} {dollars:>10.2f}")
    print(f"{'a month':<14} {'':<{width}} {total:>10.2f}\n")
    print(f"deploy.sh --sensors {asked.sensors:g} makes it so: {' '.join(f'{name}={value}' for name, value in follow.items())}")
    print(f"Prices: {asked.prices.name}, of {file['as_of']}. {file['note']}")
    if unsure := sorted(bill.used.intersection(prices["unsure"])):
        print(f"Unsure in {asked.region}: {', '.join(unsure)}")


if __name__ == "__main__":
    main()
