"""How large the parts are made for so many sensors: what estimate.sh prices and deploy.sh --sensors deploys. Pure.

A parameter that is not named here has its template's default. The domain is sized by what it has to hold until the retention
takes it away, with the quarter of the disk free that DomainSpaceAlarm wants; what it can index in a
second was not measured on AWS.
"""

import math
from dataclasses import dataclass

GIB = 2**30
# Measured: README.md, "The dashboard and the alerts".
READING_BYTES, MINUTE_BYTES = 74, 126  # Rather much for a reading; of a minute where a gateway has ten sensors.
MONTH_DAYS = 31
BY_DAY_DAYS_MAX = 31  # As the indexer has it (indexer/src/index.rs).
FREE_PART = 0.3
VOLUME_GIB_MIN = 10
SHARD_BYTES, SHARD_RECORDS = 1e6, 1000  # A shard takes so much in a second.
# Of what is measured in a second: what was kept through an outage leaves in about as long as that took (docs/scale.md).
STREAM_HEADROOM = 2
# A query over a month of all sensors, and not much more. README.md, "What it reads": hrv reads most, 0.94 MB of 70,000 readings.
QUERY_BYTES, QUERY_DAYS, SCAN_BYTES_MIN = 14, 31, 2**30
# Instance, nodes, and the largest volume of a node that AWS gives it, as recalled in November 2026.
DOMAINS = (
    ("t3.small.search", 1, 100), ("t3.medium.search", 1, 200), ("m7g.medium.search", 2, 400), ("m7g.large.search", 2, 800),
    ("m7g.large.search", 4, 800), ("m7g.large.search", 6, 800),
)  # fmt: skip
SHARD_GIB = 30
SMALL_SENSORS = 50  # More than these want more than a burst of CPU now and then.


class TooLarge(Exception):
    """No domain of this template holds it."""


@dataclass(frozen=True)
class Fleet:
    """What is measured."""

    sensors: float
    hz: float = 1
    hours: float = 24
    lines: float = 1
    line_bytes: float = 313.4
    readings_days: int = 400
    minutes_days: int = 1100

    def per_second(self) -> float:
        return self.sensors * self.hz

    def shards(self) -> int:
        bytes_, records = self.per_second() * self.line_bytes / SHARD_BYTES, self.per_second() / self.lines / SHARD_RECORDS
        return max(1, math.ceil(STREAM_HEADROOM * max(bytes_, records)))

    def scan_bytes(self) -> int:
        return max(SCAN_BYTES_MIN, math.ceil(self.per_second() * 3600 * self.hours * QUERY_DAYS * QUERY_BYTES))

    def index_bytes(self) -> float:
        """One copy, when it is as large as it gets."""
        readings = self.per_second() * 3600 * self.hours * READING_BYTES * (self.readings_days + period_days(self.readings_days))
        return readings + self.sensors * 60 * self.hours * MINUTE_BYTES * (self.minutes_days + MONTH_DAYS)


def period_days(readings_days: int) -> int:
    """Of one index of readings, which goes whole."""
    return 1 if readings_days <= BY_DAY_DAYS_MAX else MONTH_DAYS


def lake(fleet: Fleet) -> dict[str, str]:
    return {"ShardCount": str(fleet.shards()), "ScanLimitBytes": str(fleet.scan_bytes())}


def domain(fleet: Fleet) -> dict[str, str]:
    """The smallest that holds the index."""
    for kind, nodes, volume_max in DOMAINS:
        copies = 1 if nodes == 1 else 2
        volume = math.ceil(fleet.index_bytes() * copies / nodes / (1 - FREE_PART) / GIB)
        if volume <= volume_max and (nodes > 1 or fleet.sensors <= SMALL_SENSORS):
            return {"InstanceType": kind, "NodeCount": str(nodes), "VolumeGiB": str(max(volume, VOLUME_GIB_MIN))}
    raise TooLarge(
        f"an index of {fleet.index_bytes() / GIB:,.0f} GiB is more than a domain of this template holds: keep less (--parameter "
        "ReadingsRetentionDays=2, MinutesRetentionDays=400), index fewer --hours, or name a domain of your own (deploy.sh --endpoint)"
    )


def window_shards(shards: int) -> int:
    """Of the stream of windows, for so many of the readings' own: each sensor changes its minute and five sliding windows every ten
    seconds, and a shard of readings is for 500 sensors."""
    return math.ceil(shards * SHARD_RECORDS / STREAM_HEADROOM * 0.6 / SHARD_RECORDS)


def index_shards(nodes: int, volume_gib: int, readings_days: int, minutes_days: int) -> int:
    """Of an index of readings, on a domain that is as full as it may become. An index that rolled over by its size instead
    would hold a reading twice that came twice, before and after."""
    period = period_days(readings_days)
    # At a reading a second.
    readings, minutes = 60 * READING_BYTES * (readings_days + period), MINUTE_BYTES * (minutes_days + MONTH_DAYS)
    held = volume_gib * nodes / (1 if nodes == 1 else 2) * (1 - FREE_PART) * readings / (readings + minutes)
    return max(1, math.ceil(held * period / (readings_days + period) / SHARD_GIB))


def budget(dollars: float) -> str:
    """A budget that a usual month does not reach."""
    return str(5 * math.ceil(dollars * 1.3 / 5))
