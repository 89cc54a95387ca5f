"""What estimate.sh says against sums done by hand here, from the price file and the documented ways of rounding."""

import json
import math
import re
import subprocess
import sys

import pytest

import aws

PRICES = json.loads(max(aws.CLOUD.glob("prices-*.json")).read_text())
HOURS, DAYS, GB = 730, 730 / 24, 2**30
LINE_BYTES, PARQUET_BYTES = 313.4, 14.6  # packaging/cloud/README.md, "What it reads".


def estimate(*words, code=0):
    run = subprocess.run([aws.BIN / "estimate.sh", *words], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert run.returncode == code, run.stderr
    return run.stdout if code == 0 else run.stderr


def rows(text):
    """Dollars by part and what."""
    found = re.findall(r"^(\S+(?: \S+)?)  +(\S.*?), at \S+ +(\d+\.\d\d)$", text, re.M)
    return [(part, what, float(dollars)) for part, what, dollars in found]


def dollars(text, part, word):
    (amount,) = [amount for name, what, amount in rows(text) if name == part and word in what]
    return amount


def total(text):
    return float(re.search(r"^a month +(\d+\.\d\d)$", text, re.M)[1])


def test_a_small_fleet_comes_to_what_a_hand_comes_to():
    price = PRICES["regions"]["us-east-1"]
    text = estimate("--sensors", "100", "--gateways", "10", "--live", "--months", "12", "--lines", "20")
    readings = 100 * 3600 * 24 * DAYS
    records = readings / 20
    billed = records * math.ceil(20 * LINE_BYTES / 5120) * 5120 / GB  # Firehose: up to full 5 KB.
    assert dollars(text, "stream", "shards") == pytest.approx(730 * price["kinesis_shard_hour"], abs=0.01)
    assert dollars(text, "stream", "PUT units") == pytest.approx(records / 1e6 * price["kinesis_put_million"], abs=0.01)
    assert dollars(text, "delivery", "GB in") == pytest.approx(billed * price["firehose_gb"], abs=0.01)
    assert dollars(text, "delivery", "to Parquet") == pytest.approx(billed * price["firehose_conversion_gb"], abs=0.01)
    assert dollars(text, "lake", "GB lie") == pytest.approx(readings * 12 * PARQUET_BYTES / GB * price["s3_gb_month"], abs=0.01)
    assert dollars(text, "lake", "key requests") == pytest.approx((10 + 3) * 12 * 730 / 10_000 * price["kms_requests_10000"], abs=0.01)
    assert dollars(text, "dashboard", "m7g.medium.search") == pytest.approx(2 * 730 * 0.068, abs=0.01)
    # Readings for 431 days and minutes for 1,131, both twice, on two nodes with 30 % free.
    index = 100 * 86_400 * 74 * 431 + 100 * 1440 * 126 * 1131
    assert dollars(text, "dashboard", "GB of disk") == pytest.approx(2 * math.ceil(index / 0.7 / GB) * price["opensearch_gp3_gb_month"], abs=0.01)
    assert dollars(text, "delivery", "asking for the day") == pytest.approx(readings * 0.001 / 3600 * price["firehose_jq_hour"], abs=0.01)
    assert total(text) == pytest.approx(sum(amount for *_, amount in rows(text)), abs=0.15)


def test_an_on_demand_stream_counts_each_record_up_to_a_full_kilobyte():
    price = PRICES["regions"]["us-east-1"]
    text = estimate("--sensors", "10", "--parameter", "StreamMode=ON_DEMAND", "--hours", "8", "--lines", "20")
    size = 10 * 3600 * 8 * DAYS / 20 * math.ceil(20 * LINE_BYTES / 1024) * 1024 / GB
    assert dollars(text, "stream", "on demand") == pytest.approx(730 * price["kinesis_stream_hour"], abs=0.01)
    assert dollars(text, "stream", "GB in") == pytest.approx(size * price["kinesis_in_gb"], abs=0.01)
    assert dollars(text, "stream", "GB out") == pytest.approx(size * price["kinesis_out_gb"], abs=0.01)


def test_one_line_a_record_costs_firehose_ten_times_as_much():
    packed, single = (estimate("--sensors", "1000", "--lines", lines) for lines in ("20", "1"))
    # 20 lines fill two steps of 5 KB, one line takes one.
    assert dollars(single, "delivery", "GB in") == pytest.approx(10 * dollars(packed, "delivery", "GB in"), rel=0.01)


def test_a_fleet_beyond_one_shard_gets_more():
    # 4,000 readings a second are 1.25 MB.
    assert "3 shards" in estimate("--sensors", "4000", "--lines", "20"), "twice what is measured"


def test_retention_and_raw_delivery_are_counted():
    text = estimate("--sensors", "1", "--parameter", "RetentionHours=168", "--parameter", "RawDelivery=yes")
    assert dollars(text, "stream", "over a day") == pytest.approx(730 * 0.02, abs=0.01)
    assert any(part == "raw delivery" for part, *_ in rows(text))


def test_what_it_does_not_know_it_says():
    assert "has no prices for mars-1" in estimate("--sensors", "1", "--region", "mars-1", code=1)
    assert "no template has a parameter Foo" in estimate("--sensors", "1", "--parameter", "Foo=1", code=1)
    assert "no price for r9.large.search" in estimate("--sensors", "1", "--live", "--parameter", "InstanceType=r9.large.search", code=1)
    assert "Unsure in ap-south-1:" in estimate("--sensors", "1", "--region", "ap-south-1")


def test_the_price_file_is_dated_and_whole():
    assert re.fullmatch(r"\d{4}-\d\d", PRICES["as_of"]) and "check" in PRICES["note"] and PRICES["pages"]
    for region in PRICES["regions"].values():
        assert set(region) - {"unsure"} == set(PRICES["units"])
        assert set(region["unsure"]) <= set(PRICES["units"])


def test_a_domain_holds_the_index_until_the_retention_takes_it_away():
    def made(*words):
        return dict(line.split("=") for line in estimate(*words, "--live", "--parameters").split())

    assert made("--sensors", "1")["InstanceType"] == "t3.small.search"
    assert made("--sensors", "60")["NodeCount"] == "2", "more than bursts of CPU"
    large = made("--sensors", "1000", "--hours", "8")
    assert int(large["VolumeGiB"]) * int(large["NodeCount"]) * GB > 2 * 1000 * 8 * 3600 * 74 * 431 / 0.7
    assert "more than a domain of this template holds" in estimate("--sensors", "9000", "--live", code=1)
    named = made("--sensors", "1", "--parameter", "VolumeGiB=55")
    assert "VolumeGiB" not in named and named["NodeCount"] == "1"


def test_the_usual_month_is_below_the_budget():
    for words in (("--sensors", "1"), ("--sensors", "1", "--live"), ("--sensors", "200", "--live", "--hours", "12")):
        budget = re.search(r"BudgetDollars=(\d+)", text := estimate(*words))[1]
        assert int(budget) > 1.25 * total(text)
    default = int(re.search(r"BudgetDollars: \{Type: Number, Default: (\d+)", (aws.CLOUD / "templates/lake/template.yaml").read_text())[1])
    assert default > 1.25 * total(estimate("--sensors", "1", "--live"))


def test_a_merge_reads_what_changed_however_old_the_table_is():
    young, old = (dollars(estimate("--sensors", "1000", "--months", months), "curated table", "merges") for months in ("1", "24"))
    assert old == young > 0


def test_a_query_over_a_month_of_all_sensors_is_let_through_and_no_more_than_that():
    limits = [int(re.search(r"ScanLimitBytes=(\d+)", estimate("--sensors", sensors))[1]) for sensors in ("1", "10000")]
    month = 10_000 * 86_400 * 31 * 944_804 / 70_000  # README.md, "What it reads": hrv.
    assert limits[0] == GB and month < limits[1] < 1.1 * month


def test_deploy_makes_what_the_estimate_priced(server):
    server.reset()
    run = server.script("deploy.sh", "--no-live", "--no-curated", "--sensors", "8000", "--parameter", "BudgetDollars=77")
    assert run.returncode == 0, run.stderr
    described = server.aws("cloudformation", "describe-stacks", "--stack-name", "hr-gatewayd")["Stacks"][0]
    made = {one["ParameterKey"]: one["ParameterValue"] for one in described["Parameters"]}
    shards = re.search(r"ShardCount=(\d+)", estimate("--sensors", "8000"))[1]
    assert (made["ShardCount"], made["BudgetDollars"]) == (shards, "77")
    assert f"for --sensors 8000: ShardCount={shards}" in run.stdout
    wrong = server.script("deploy.sh", "--no-live", "--hours", "8")
    assert wrong.returncode == 2 and "--sensors" in wrong.stderr


def test_a_months_index_has_shards_that_lucene_can_count():
    sys.path.insert(0, str(aws.CLOUD / "lib"))
    import sizing

    assert sizing.index_shards(1, 10, 400, 1100) == 1
    for sensors in (1, 60, 500, 2000):
        try:
            made = sizing.domain(fleet := sizing.Fleet(sensors, hours=12))
        except sizing.TooLarge:
            continue
        shards = sizing.index_shards(int(made["NodeCount"]), int(made["VolumeGiB"]), fleet.readings_days, fleet.minutes_days)
        month = fleet.per_second() * 3600 * 12 * 31
        assert month / shards < 2**31 / 1.5 and month * 74 / shards < 50e9, sensors
    assert sizing.index_shards(6, 800, 400, 1100) == 4
    # A day of 10,000 sensors.
    assert sizing.index_shards(2, 792, 2, 400) == math.ceil(10_000 * 86_400 * 74 / (30 * GB))


def test_a_fleets_minutes_and_last_hours_are_held_by_a_domain_of_the_template():
    sys.path.insert(0, str(aws.CLOUD / "lib"))
    import sizing

    short = ("--parameter", "ReadingsRetentionDays=2", "--parameter", "MinutesRetentionDays=400")
    assert "ReadingsRetentionDays=2" in estimate("--live", "--sensors", "10000", code=1)
    text = estimate("--live", "--sensors", "10000", *short)
    made = {name: int(re.search(rf"{name}=(\d+)", text)[1]) for name in ("NodeCount", "VolumeGiB")}
    readings, minutes = 10_000 * 86_400 * 74 * 3, 10_000 * 1440 * sizing.MINUTE_BYTES * 431
    assert made["NodeCount"] * made["VolumeGiB"] * GB * 0.7 >= 2 * (readings + minutes)
    assert "a number of days" in estimate("--sensors", "1", "--parameter", "ReadingsRetentionDays=two", code=1)


def test_windows_by_flink_are_priced_with_a_kpu_for_each_shard_and_one_more():
    without, text = estimate("--sensors", "4000"), estimate("--sensors", "4000", "--windows", "flink")
    price = PRICES["regions"]["us-east-1"]
    assert dollars(text, "windows", "9 KPUs") == pytest.approx(9 * 730 * price["flink_kpu_hour"], abs=0.01)
    assert dollars(text, "windows", "4 shards") == pytest.approx(4 * 730 * price["kinesis_shard_hour"], abs=0.01)
    assert total(text) > total(without) + 700
    assert "Parallelism" not in estimate("--sensors", "1", "--parameter", "CorrectDays=2")
