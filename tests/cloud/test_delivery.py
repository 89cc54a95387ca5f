"""The forms of a delivery: what each stack makes and refuses, and what is found of the lines that session and raw write.

Firehose's part is played by delivered.py. DuckDB reads each day's folder; Trino reads the stack's own table by its own SerDe.
"""

import collections
import gzip
import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

import delivered
import delivery_rules
import fleet
import lake
import prefixes
import rules
import search
import template as cfn
from delivered import given, made

ZONE = "Asia/Kolkata"
KINDS = {"session": "Session", "raw": "Raw", "opensearch": "OpenSearch", "splunk": "Splunk", "redshift": "Redshift"}
SESSION_STACKS = list(itertools.product(["json", "parquet"], ["arrival", "session"]))


def lines():
    """Three evenings of two sensors, the last minute beat by beat; each crosses a midnight, in India's time or in UTC. A gap. The
    last line is of a clock never set."""
    gateway = fleet.Gateway("living-room", "00000000000000aa")
    for day, sensor in itertools.product((14, 15, 16), ("adi", "strap")):
        gateway.session(sensor)
        for second in [*range(0, 9000, 30), *range(9000, 9060)]:
            time = datetime(2025, 7, day, 17, 0, tzinfo=UTC) + timedelta(hours=day % 3 * 3, seconds=second)
            gateway.line(sensor, time, heart_rate=60 + second % 50, rr_intervals_ms=[833.0078125 + second % 2 * 9.765625])
    gateway.gap("strap", time, time + timedelta(seconds=5), "link_down")
    gateway.line("adi", datetime(1970, 1, 1, tzinfo=UTC), clock="unsynchronized", heart_rate=99)
    return gateway.lines


def arrival(line):
    """At once, but for the clock that was never set: its line came when it came."""
    return datetime.fromisoformat(line["timestamp"]) if line["timestamp"] > "2025" else datetime(2025, 7, 17, tzinfo=UTC)


def buffers(written):
    """The lines in buffers of a quarter of an hour: when the first of each arrived, and the records."""
    by_quarter = collections.defaultdict(list)
    for line in sorted(written, key=arrival):
        by_quarter[int(arrival(line).timestamp()) // 900].append(line)
    for group in by_quarter.values():
        yield arrival(group[0]), list(fleet.records(group))


def deliver(root, parameters):
    """All lines through the stack's delivery; how many lines each day's folders should hold."""
    objects, written = delivered.Objects(root, parameters), lines()
    zone, expected = ZoneInfo(parameters.get("DeliveryTimeZone", "UTC")), collections.Counter()
    for arrived, records in buffers(written):
        objects.deliver(records, arrived)
        for line in (json.loads(line) for record in records for line in record.splitlines()):
            by_event = parameters.get("SessionDivision") == "session"
            expected[max(line["timestamp"][:10], "2025-01-01") if by_event else f"{arrived.astimezone(zone):%Y-%m-%d}"] += 1
    assert objects.refused == [] and sum(expected.values()) == len(written)
    return expected


def day_folders(root, parameters, day):
    """Where the stack's table looks for that day."""
    place = delivered.table(parameters)["Parameters"]["storage.location.template"].replace("s3://the-lake/", f"{root}/")
    keys = {"year": day[:4], "month": day[5:7], "day": day[8:], "arrived": day}
    return re.sub(r"\$\{(\w+)\}", lambda key: keys[key[1]], place)


def counted(root, parameters, day):
    """The lines of that day, by DuckDB, from all that lies below its folder."""
    files = f"{day_folders(root, parameters, day)}**/*"
    as_parquet = parameters["Form"] == "session" and parameters["SessionFormat"] == "parquet"
    reader = f"read_parquet('{files}')" if as_parquet else f"read_json('{files}', format = 'newline_delimited', compression = 'gzip')"
    return duckdb.sql(f"SELECT count(*), count(DISTINCT reading_id) FROM {reader}").fetchall()[0]


@pytest.mark.parametrize(("form_of", "division"), SESSION_STACKS)
def test_a_days_session_folders_hold_the_days_lines(tmp_path, form_of, division):
    parameters = given("session", SessionFormat=form_of, SessionDivision=division, DeliveryTimeZone=ZONE)
    expected = deliver(tmp_path, parameters)
    assert len(expected) >= 3
    assert {day: counted(tmp_path, parameters, day) for day in expected} == {day: (n, n) for day, n in expected.items()}
    folders = {path.name for path in tmp_path.glob("sessions/*/*/*/*")}
    if division == "session":
        assert folders == {f"session_{line['session_id']}" for line in lines()}
    else:
        assert folders and all(re.fullmatch(r"session_\d\d-\d\d-\d\d", name) for name in folders)


def test_a_folder_is_named_after_the_arrival_in_the_chosen_zone():
    delivery, = made("AWS::KinesisFirehose::DeliveryStream", given("session")).values()
    prefix = delivery["ExtendedS3DestinationConfiguration"]["Prefix"]
    arrived = datetime(2025, 7, 15, 19, 40, 33, tzinfo=UTC)
    assert prefixes.evaluated(prefix, arrived, "UTC", {}) == "sessions/2025/07/15/session_19-40-33/"
    assert prefixes.evaluated(prefix, arrived, ZONE, {}) == "sessions/2025/07/16/session_01-10-33/"


def test_a_line_without_a_session_or_a_day_is_refused(tmp_path):
    objects = delivered.Objects(tmp_path, given("session", SessionDivision="session"))
    good = lines()[0]
    foreign = [{"session_id": "../elsewhere"}, {"session_id": None}, {"timestamp": "yesterday"}, {"reading_id": ""}]
    objects.deliver([fleet.as_record([good, *(good | one for one in foreign)]), b"no json\n"], datetime(2025, 7, 15, tzinfo=UTC))
    assert len(objects.refused) == 5 and len(list(tmp_path.rglob("*.parquet"))) == 1


@pytest.mark.parametrize("newline", ["no", "yes"])
def test_raw_lines_are_the_gateways_bytes_by_their_arrival(tmp_path, newline):
    parameters = given("raw", AppendNewline=newline, DeliveryTimeZone=ZONE)
    expected = deliver(tmp_path, parameters)
    assert {day: counted(tmp_path, parameters, day) for day in expected} == {day: (n, n) for day, n in expected.items()}
    kept = collections.Counter(gzip.decompress(path.read_bytes()) for path in tmp_path.rglob("*.ndjson.gz"))
    end = b"\n" if newline == "yes" else b""
    assert kept == collections.Counter(b"".join(record + end for record in records) for _, records in buffers(lines()))


@pytest.fixture(scope="module")
def trino(tmp_path_factory):
    root = tmp_path_factory.mktemp("delivery")
    with lake.Trino(root) as engine:
        yield root, engine


def in_trino(trino, name, parameters):
    """The stack's table over its objects, in a folder of its own."""
    root, engine = trino
    expected = deliver(root / name, parameters)
    described = json.dumps(delivered.table(parameters)).replace("s3://the-lake/", f"file://{root / name}/")
    engine.ask(json.loads(re.sub(r"s3://RawBucket/", f"file://{root / name}/", described)) | {"Name": name})
    return expected


@pytest.mark.parametrize(("form_of", "division"), SESSION_STACKS)
def test_the_session_table_is_asked_by_day(trino, form_of, division):
    parameters = given("session", SessionFormat=form_of, SessionDivision=division, DeliveryTimeZone=ZONE)
    name = f"sessions_{form_of}_{division}"
    expected = in_trino(trino, name, parameters)
    rows = trino[1].rows(f"SELECT year || '-' || month || '-' || day AS day, count(*) AS lines FROM {name} GROUP BY 1")
    assert {row["day"]: row["lines"] for row in rows} == expected
    one, = trino[1].rows(f"SELECT count(*) AS lines FROM {name} WHERE year = '2025' AND month = '07' AND day = '16'")
    assert one["lines"] == expected["2025-07-16"]


SAVED = [path.stem for path in sorted((cfn.CLOUD / "queries").glob("*.sql"))]


@pytest.mark.parametrize("table", ["answers_json_arrival", "answers_parquet_session", "answers_raw"])
def test_the_saved_queries_answer_of_another_deliverys_table_what_they_answer_of_the_lakes(trino, table):
    root, engine = trino
    if not list((root / "heart_rate_data").iterdir()):
        lake.Firehose(root).deliver(fleet.records(lines()))
    _, form_of, *division = table.split("_")
    named = {"SessionFormat": form_of, "SessionDivision": division[0]} if division else {}
    in_trino(trino, table, given("session" if division else "raw", DeliveryTimeZone=ZONE, **named))
    texts = cfn.renderer().query_text
    for name in SAVED:
        sql = texts.find(name).read_text()
        values = {word: {"day": "2025-01-01", "time": "2025-07-14 00:00"}.get(kind, example)
                  for word, (kind, example) in texts.parameters(sql).items()}
        values |= {word: {"day": "2025-07-17", "time": "2025-07-18 00:00"}[kind]
                   for word, (kind, _) in texts.parameters(sql).items() if word == "to"}
        asked = texts.filled(sql, values)
        expected = engine.rows(cfn.renderer().body(asked))
        assert engine.rows(cfn.renderer().body(texts.over(asked, table, "2025-01-01"))) == expected, name
        assert expected or name == "missing_sequences", name


@pytest.mark.parametrize("encryption", ["key", "s3"])
def test_the_raw_table_is_read_as_it_is_by_arrival(trino, encryption):
    """By Hive's SerDe: the Trino that Athena is made of does not know OpenX's, which Athena brings itself."""
    parameters = given("raw", Encryption=encryption, DeliveryTimeZone=ZONE)
    expected = in_trino(trino, f"raw_{encryption}", parameters)
    rows = trino[1].rows(f"SELECT arrived AS day, count(reading_id) AS lines, sum(cardinality(rr_intervals_ms)) AS intervals "
                         f"FROM raw_{encryption} GROUP BY 1")
    assert {row["day"]: row["lines"] for row in rows} == expected
    assert sum(row["intervals"] or 0 for row in rows) == sum(len(line.get("rr_intervals_ms", [])) for line in lines())


def test_a_newline_that_is_not_needed_is_what_hives_serde_stumbles_over(trino):
    in_trino(trino, "raw_newline", given("raw", AppendNewline="yes"))
    with pytest.raises(lake.Refused, match="Start token not found"):
        trino[1].rows("SELECT count(reading_id) FROM raw_newline")


@pytest.mark.parametrize(("serde", "library", "settings"), [
    ("hive", "org.apache.hive.hcatalog.data.JsonSerDe", None),
    ("openx", "org.openx.data.jsonserde.JsonSerDe", {"ignore.malformed.json": "TRUE"})])
def test_the_raw_table_names_the_chosen_serde(serde, library, settings):
    chosen = delivered.table(given("raw", Serde=serde))["StorageDescriptor"]["SerdeInfo"]
    assert (chosen["SerializationLibrary"], chosen.get("Parameters")) == (library, settings)


def test_open_search_takes_a_record_of_one_line_and_no_other(opensearch):
    """What Firehose does with a record is a bulk request of one action for each."""
    def bulk(records):
        body = "".join(f'{{"index": {{"_index": "hr-delivered-2025-07"}}}}\n{record.decode()}\n' for record in records)
        return opensearch.call("POST", "_bulk?refresh=true", body)

    written = lines()[:6]
    assert bulk([fleet.as_record([line]) for line in written])["errors"] is False
    assert opensearch.call("GET", "hr-delivered-2025-07/_count")["count"] == 6
    with pytest.raises(search.Refused, match="Malformed action/metadata line"):
        bulk([fleet.as_record(written[:2])])
    answer = bulk([fleet.as_record(written[:2]).replace(b"\n", b"")])
    assert answer["errors"] is True
    assert opensearch.call("GET", "hr-delivered-2025-07/_count")["count"] == 6


@pytest.mark.parametrize("form", KINDS)
def test_a_stack_makes_its_forms_delivery_and_no_other(form):
    parameters = given(form)
    assert list(made("AWS::KinesisFirehose::DeliveryStream", parameters)) == [f"{KINDS[form]}Delivery"]
    assert len(made("AWS::Glue::Table", parameters)) == (form in ("session", "raw"))
    assert not made("AWS::S3::Bucket", parameters)
    freshness = made("AWS::CloudWatch::Alarm", parameters)["FreshnessAlarm"]
    expected = {"opensearch": "DeliveryToAmazonOpenSearchService", "splunk": "DeliveryToSplunk"}.get(form, "DeliveryToS3")
    assert freshness["MetricName"] == f"{expected}.DataFreshness"
    assert ("CopyAlarm" in made("AWS::CloudWatch::Alarm", parameters)) is (form == "redshift")


@pytest.mark.parametrize("form", KINDS)
def test_a_role_writes_only_where_its_form_writes(form):
    parameters = given(form)
    role = made("AWS::IAM::Role", parameters)["Role"]
    put, = (one for one in rules.statements(role["Policies"]) if "s3:PutObject" in one["Action"])
    own = {"session": {"sessions/*"}, "raw": {"raw-lines/*"}, "redshift": {"redshift/hr/*"}}.get(form, set())
    assert {one.removeprefix("arn:aws:s3:::the-lake/") for one in put["Resource"]} == own | {"delivery_errors/hr/*"}
    further = {one["PolicyName"] for one in made("AWS::IAM::RolePolicy", parameters).values()}
    assert further == {{"session": "table", "opensearch": "domain", "splunk": "secret", "redshift": "secret"}.get(form)} - {None}


def test_s3s_own_keys_have_a_bucket_of_their_own():
    parameters = given("raw", Encryption="s3")
    delivery, = made("AWS::KinesisFirehose::DeliveryStream", parameters).values()
    settings = delivery["ExtendedS3DestinationConfiguration"]
    assert settings["BucketARN"] == "arn:RawBucket" and settings["EncryptionConfiguration"] == {"NoEncryptionConfig": "NoEncryption"}
    assert set(made("AWS::S3::Bucket", parameters)) == {"RawBucket"} == {
        one["Bucket"] for one in made("AWS::S3::BucketPolicy", parameters).values()}
    watched = made("AWS::Events::Rule", parameters)["ErrorObjectRule"]["EventPattern"]["detail"]["bucket"]["name"]
    assert watched == ["the-lake", "RawBucket"]
    assert not made("AWS::S3::Bucket", given("session", Encryption="s3"))


def refusals(parameters):
    """What CloudFormation answers to these parameters, by the template's own Rules."""
    template = cfn.load("delivery")

    def holds(test):
        (function, value), = test.items()
        match function:
            case "Fn::Not": return not holds(value[0])
            case "Fn::Contains": return cfn.resolved(template, value[1], **parameters) in value[0]
            case "Fn::Equals": return cfn.resolved(template, value[0], **parameters) == cfn.resolved(template, value[1], **parameters)
        raise ValueError(function)

    return [one["AssertDescription"] for rule in template["Rules"].values()
            if "RuleCondition" not in rule or holds(rule["RuleCondition"]) for one in rule["Assertions"] if not holds(one["Assert"])]


@pytest.mark.parametrize(("form", "missing", "said"), [
    ("opensearch", {"LinesPerRecord": "several"}, "record_readings_max = 1"), ("opensearch", {"DomainArn": ""}, "DomainArn"),
    ("splunk", {"SecretArn": ""}, "SecretArn"), ("splunk", {"HecEndpoint": ""}, "HecEndpoint"),
    ("redshift", {"SecretArn": ""}, "SecretArn"), ("redshift", {"JdbcUrl": ""}, "JdbcUrl"),
    ("session", {"SessionFolder": "errors"}, "SessionFolder"), ("raw", {"RawFolder": "raw"}, "RawFolder"),
])
def test_a_stack_that_would_not_deliver_is_refused(form, missing, said):
    assert refusals(given(form)) == []
    refusal, = refusals(given(form, **missing))
    assert said in refusal


def test_redshifts_table_has_the_lines_fields():
    text = (cfn.CLOUD / "templates/delivery/redshift.sql").read_text()
    declared = dict(re.findall(r'^    "?(\w+)"? ([A-Z]+)', text, re.M))
    kinds = {"string": {"VARCHAR", "TIMESTAMPTZ"}, "int": {"INTEGER"}, "bigint": {"BIGINT"}, "boolean": {"BOOLEAN"},
             "array<double>": {"SUPER"}}
    columns = cfn.load("lake")["Resources"]["Table"]["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]
    assert list(declared) == [column["Name"] for column in columns]
    assert all(declared[column["Name"]] in kinds[column["Type"]] for column in columns)


def test_a_deliverys_tables_have_the_lakes_columns():
    columns = [{"Name": c["Name"], "Type": c["Type"]} for c in
               cfn.load("lake")["Resources"]["Table"]["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]]
    for form in ("session", "raw"):
        own = delivered.table(given(form))["StorageDescriptor"]["Columns"]
        assert [{"Name": c["Name"], "Type": c["Type"]} for c in own] == columns


def of(template, name):
    return template["Resources"][name]["Properties"]


def destination(template, form):
    settings = of(template, f"{form}Delivery")
    return settings[next(word for word in settings if word.endswith("DestinationConfiguration"))]


def session_prefix(template, prefix):
    destination(template, "Session")["Prefix"]["Fn::If"][2] = {"Fn::Sub": prefix}


def without_delimiter(template):
    destination(template, "Session")["ProcessingConfiguration"]["Fn::If"][1]["Processors"].pop()


MISTAKES = [
    (rules.partitions_are_where_the_table_looks, lambda t: session_prefix(t, "${Prefix}sessions/!{timestamp:yyyy/MM/dd}/")),
    (rules.partitions_are_where_the_table_looks,
     lambda t: session_prefix(t, "${Prefix}${SessionFolder}/!{timestamp:yyyy}/!{timestamp:dd}/!{timestamp:MM}/")),
    (rules.partitions_are_where_the_table_looks,
     lambda t: destination(t, "Raw").update(Prefix={"Fn::Sub": "${Prefix}${RawFolder}/day=!{timestamp:yyyy-MM-dd}/"})),
    (rules.partitions_are_of_single_lines,
     lambda t: destination(t, "Session")["ProcessingConfiguration"]["Fn::If"][1]["Processors"].pop(0)),
    (rules.partitions_are_of_single_lines, lambda t: destination(t, "Session").pop("DynamicPartitioningConfiguration")),
    (rules.conversion_compresses_inside, lambda t: destination(t, "Session").update(CompressionFormat="GZIP")),
    (rules.errors_are_kept_by_their_kind, lambda t: destination(t, "Raw").update(ErrorOutputPrefix={"Fn::Sub": "${Prefix}lost/"})),
    (rules.everything_is_encrypted_with_the_key, lambda t: destination(t, "Session").pop("EncryptionConfiguration")),
    (rules.everything_is_encrypted_with_the_key, lambda t: of(t, "RawBucket").pop("BucketEncryption")),
    (rules.no_role_reaches_everything, lambda t: of(t, "SecretPolicy")["PolicyDocument"]["Statement"][0].update(Resource="*")),
    (rules.buckets_take_only_tls, lambda t: t["Resources"].pop("RawBucketPolicy")),
    (rules.data_outlives_the_stack, lambda t: t["Resources"]["RawBucket"].pop("DeletionPolicy")),
    (rules.failures_reach_somebody, lambda t: t["Resources"].pop("ErrorObjectRule")),
    (rules.what_can_fail_is_alarmed, lambda t: t["Resources"].pop("DeliveryErrorsAlarm")),
    *[(delivery_rules.what_is_refused_is_kept, lambda t, form=form, word=word: destination(t, form).pop(word))
      for form in ("OpenSearch", "Splunk", "Redshift") for word in ("S3BackupMode", "S3Configuration", "CloudWatchLoggingOptions")],
    *[(delivery_rules.what_is_refused_is_kept, lambda t, word=word: destination(t, "Splunk")["S3Configuration"].pop(word))
      for word in ("BucketARN", "EncryptionConfiguration", "ErrorOutputPrefix", "CloudWatchLoggingOptions")],
    *[(delivery_rules.errors_are_replayed_to_no_other_reader,
       lambda t, form=form: (destination(t, form) if form == "Raw" else destination(t, form)["S3Configuration"]).update(
           ErrorOutputPrefix={"Fn::Sub": "${Prefix}errors/more/!{firehose:error-output-type}/"})) for form in ("Raw", "OpenSearch")],
    (delivery_rules.a_secret_is_in_no_parameter, lambda t: t["Parameters"].update(HecToken={"Type": "String", "NoEcho": True})),
    (delivery_rules.a_secret_is_in_no_parameter, lambda t: destination(t, "Splunk").update(HECToken={"Ref": "Hec"})),
    (delivery_rules.a_secret_is_in_no_parameter, lambda t: destination(t, "Redshift").update(Username="hr", Password="{{resolve:ssm:hr}}")),
    (delivery_rules.a_secret_is_in_no_parameter, lambda t: destination(t, "Splunk").pop("SecretsManagerConfiguration")),
    (delivery_rules.a_secret_is_in_no_parameter, lambda t: destination(t, "Redshift")["SecretsManagerConfiguration"].update(Enabled=False)),
    (delivery_rules.open_search_gets_single_lines, lambda t: t["Rules"].pop("OpenSearchTakesOneLineARecord")),
    (delivery_rules.parted_lines_end_again, without_delimiter),
    (delivery_rules.less_than_the_key_is_asked_for, lambda t: t["Parameters"]["Encryption"].update(Default="s3")),
    (delivery_rules.less_than_the_key_is_asked_for, lambda t: t["Resources"]["RawBucket"].update(Condition="IsRaw")),
    (delivery_rules.less_than_the_key_is_asked_for,
     lambda t: destination(t, "Splunk")["S3Configuration"].update(EncryptionConfiguration={"NoEncryptionConfig": "NoEncryption"})),
    (delivery_rules.less_than_the_key_is_asked_for,
     lambda t: destination(t, "Raw")["EncryptionConfiguration"]["Fn::If"].__setitem__(0, "AppendsNewline")),
]


@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[f"{rule.__name__}-{n}" for n, (rule, _) in enumerate(MISTAKES)])
def test_a_rule_sees_the_mistake(rule, mistake):
    template = cfn.load("delivery")
    assert list(rule(template)) == []
    mistake(template)
    assert list(rule(template))
