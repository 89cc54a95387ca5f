"""The template against cfn-lint, checkov and our own rules; each rule against a mistake that it must see."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rules
import template as cfn

BIN = Path(sys.executable).parent
BODY_BYTES_MAX = 51_200  # CloudFormation: a template handed over without a bucket.
PARAMETERS_MAX, RESOURCES_MAX, QUERY_BYTES_MAX = 200, 500, 262_144


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "template.yaml"
    path.write_text(cfn.renderer().render())
    return path


def test_cfn_lint_finds_nothing(rendered):
    run = subprocess.run([BIN / "cfn-lint", "--include-checks", "W", "--", rendered], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


def test_checkov_finds_nothing_and_each_skip_has_a_reason(rendered):
    run = subprocess.run(
        [BIN / "checkov", "--framework", "cloudformation", "--skip-download", "--output", "json", "-f", rendered],
        capture_output=True, text=True)
    results = json.loads(run.stdout)
    assert [(c["check_id"], c["resource"]) for c in results["results"]["failed_checks"]] == []
    assert results["summary"]["passed"] > 30
    written = [s for r in cfn.load()["Resources"].values() for s in r.get("Metadata", {}).get("checkov", {}).get("skip", [])]
    assert all(len(skip["comment"]) > 20 for skip in written)
    assert {c["check_id"] for c in results["results"]["skipped_checks"]} == {skip["id"] for skip in written}


def test_the_template_stays_below_cloudformations_limits(rendered):
    template = cfn.load()
    assert rendered.stat().st_size <= BODY_BYTES_MAX
    assert len(template["Parameters"]) <= PARAMETERS_MAX
    assert len(template["Resources"]) <= RESOURCES_MAX
    for _, query in rules.of_type(template, "AWS::Athena::NamedQuery"):
        assert len(json.dumps(query["QueryString"])) <= QUERY_BYTES_MAX


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_template_keeps_the_rule(rule):
    assert list(rule(cfn.load())) == []


def s3(template, name="Delivery"):
    return template["Resources"][name]["Properties"]["ExtendedS3DestinationConfiguration"]


def properties(template, name):
    return template["Resources"][name]["Properties"]


def statement(template, name, place=0):
    return properties(template, name)["PolicyDocument"]["Statement"][place]


MISTAKES = [
    (rules.conversion_has_a_table, lambda t: s3(t)["DataFormatConversionConfiguration"]["SchemaConfiguration"].pop("TableName")),
    (rules.conversion_buffers_64_mib, lambda t: s3(t)["BufferingHints"].update(SizeInMBs=5)),
    (rules.conversion_buffers_64_mib, lambda t: s3(t)["BufferingHints"].pop("SizeInMBs")),
    (rules.conversion_compresses_inside, lambda t: s3(t).update(CompressionFormat="GZIP")),
    (rules.partitions_are_of_single_lines, lambda t: s3(t)["ProcessingConfiguration"]["Processors"].pop(0)),
    (rules.partitions_are_of_single_lines, lambda t: s3(t).update(Prefix="heart_rate_data/date=!{partitionKeyFromQuery:day}/")),
    (rules.partitions_are_of_single_lines, lambda t: s3(t).pop("DynamicPartitioningConfiguration")),
    (rules.partitions_are_where_the_table_looks, lambda t: s3(t).update(Prefix="readings/date=!{partitionKeyFromQuery:date}/")),
    (rules.partitions_are_where_the_table_looks, lambda t: properties(t, "Table")["TableInput"]["Parameters"].pop("projection.enabled")),
    (rules.errors_are_kept_by_their_kind, lambda t: s3(t).update(ErrorOutputPrefix="errors/parquet/")),
    (rules.errors_are_kept_by_their_kind, lambda t: s3(t, "RawDeliveryStream").pop("CloudWatchLoggingOptions")),
    *[(rules.everything_is_encrypted_with_the_key, lambda t, name=name, place=place: properties(t, name).pop(place))
      for name, place in [("Stream", "StreamEncryption"), ("Bucket", "BucketEncryption"), ("DeliveryLog", "KmsKeyId"),
                          ("Topic", "KmsMasterKeyId"), ("CrawlerSecurity", "EncryptionConfiguration")]],
    (rules.everything_is_encrypted_with_the_key, lambda t: s3(t).pop("EncryptionConfiguration")),
    (rules.everything_is_encrypted_with_the_key,
     lambda t: properties(t, "WorkGroup")["WorkGroupConfiguration"]["ResultConfiguration"].pop("EncryptionConfiguration")),
    (rules.no_action_is_a_wildcard, lambda t: statement(t, "GatewayPolicy").update(Action="kinesis:Put*")),
    (rules.no_action_is_a_wildcard, lambda t: properties(t, "Key")["KeyPolicy"]["Statement"][0].update(Action=["kms:*"])),
    (rules.no_principal_is_everyone, lambda t: statement(t, "TopicPolicy").update(Principal="*")),
    (rules.no_principal_is_everyone, lambda t: properties(t, "DeliveryRole")["AssumeRolePolicyDocument"]["Statement"][0].pop("Condition")),
    (rules.a_gateway_may_only_put, lambda t: statement(t, "GatewayPolicy").update(Action=["kinesis:PutRecords", "kinesis:GetRecords"])),
    (rules.a_gateway_may_only_put, lambda t: statement(t, "GatewayPolicy").update(Resource="*")),
    (rules.buckets_take_only_tls, lambda t: t["Resources"].pop("BucketPolicy")),
    (rules.buckets_take_only_tls, lambda t: statement(t, "BucketPolicy").pop("Condition")),
    (rules.data_outlives_the_stack, lambda t: t["Resources"]["Bucket"].pop("DeletionPolicy")),
    (rules.data_outlives_the_stack, lambda t: t["Resources"]["Key"].update(UpdateReplacePolicy="Delete")),
    (rules.a_query_has_a_limit, lambda t: properties(t, "WorkGroup")["WorkGroupConfiguration"].update(EnforceWorkGroupConfiguration=False)),
    (rules.failures_reach_somebody, lambda t: properties(t, "DeliveryErrorsAlarm").pop("AlarmActions")),
    (rules.failures_reach_somebody, lambda t: t["Resources"].pop("ErrorObjectRule")),
]


@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[f"{rule.__name__}-{n}" for n, (rule, _) in enumerate(MISTAKES)])
def test_a_rule_sees_the_mistake(rule, mistake):
    template = cfn.load()
    mistake(template)
    assert list(rule(template))


def test_each_rule_was_shown_a_mistake():
    assert {rule for rule, _ in MISTAKES} == set(rules.RULES)


def test_the_table_has_the_wires_fields_in_the_wires_order():
    wire = (cfn.CLOUD.parents[1] / "src" / "wire.rs").read_text()
    struct = re.search(r"pub struct WireRecord<'a> \{(.*?)\n\}", wire, re.S)[1]
    fields = re.findall(r"^    pub (\w+):", struct, re.M)
    table = properties(cfn.load(), "Table")["TableInput"]
    assert [column["Name"] for column in table["StorageDescriptor"]["Columns"]] == fields


def test_names_follow_their_parameters():
    template = cfn.load()
    own = {"TableName": "pulse", "DatabaseName": "lab"}
    for name, resource in template["Resources"].items():
        if name.startswith("Sql"):
            assert "hr_table" not in json.dumps(cfn.resolved(template, resource["Properties"], **own)), name
    assert cfn.resolved(template, properties(template, "SqlLedger"), **own)["Database"] == "lab"


def test_an_existing_stream_and_bucket_are_used_instead():
    template = cfn.load()
    stream = "arn:aws:kinesis:ap-south-1:111122223333:stream/mine"
    delivery = cfn.resolved(template, properties(template, "Delivery"), ExistingStreamArn=stream, ExistingBucket="my-lake")
    assert delivery["KinesisStreamSourceConfiguration"]["KinesisStreamARN"] == stream
    assert delivery["ExtendedS3DestinationConfiguration"]["BucketARN"] == "arn:aws:s3:::my-lake"
    table = cfn.resolved(template, properties(template, "Table"), ExistingBucket="my-lake")["TableInput"]
    assert table["StorageDescriptor"]["Location"] == "s3://my-lake/heart_rate_data/"
    policy = cfn.resolved(template, properties(template, "GatewayPolicy"), ExistingStreamArn=stream, GatewayIdentity="user")
    assert [s["Resource"] for s in policy["PolicyDocument"]["Statement"]] == [stream]
