"""The Terraform module against the AWS provider's schema, and against the lake's CloudFormation template.

OpenTofu evaluates the module for each choice of the parameters; what each resource would be told is then compared with
the template's resource, property by property. The comparison is shown that no value can change unseen, and OpenTofu
mistakes that it must see.
"""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import counterparts
import template as cfn
import tofu

STREAM = "arn:aws:kinesis:ap-south-1:111122223333:stream/mine"
CHOICES = {
    "nothing chosen": {},
    "all that there was before": {
        "ExistingBucket": "my-lake", "ExistingStreamArn": STREAM, "Prefix": "hr/",
        "ExistingStreamKeyArn": "arn:aws:kms:ap-south-1:111122223333:key/streams",
        "ExistingKeyArn": "arn:aws:kms:ap-south-1:111122223333:key/lakes"},
    "certificates and all extras": {
        "GatewayIdentity": "roles-anywhere", "CaCertificate": "PEM", "CrawlerName": "hr_data_crawler",
        "RawDelivery": "yes", "AlarmEmail": "ward@example.org", "AccessLogBucket": "logs", "DeliveryName": "pulse",
        "ParquetCompression": "SNAPPY", "BufferSeconds": 300, "DeliveryTimeZone": "Asia/Kolkata",
        "FirstDay": "2026-02-03", "ColdAfterDays": 90, "DatabaseName": "lab", "TableName": "pulse",
        "WorkGroupName": "ward", "ScanLimitBytes": 20000000, "BudgetDollars": 7, "StreamName": "beats",
        "ShardCount": 3, "RetentionHours": 48, "Prefix": "hr/"},
    "a user, on demand, no budget": {"GatewayIdentity": "user", "StreamMode": "ON_DEMAND", "BudgetDollars": 0},
    "a user of a stream without a key": {"GatewayIdentity": "user", "ExistingStreamArn": STREAM},
}
ALL_EXTRAS = CHOICES["certificates and all extras"]


@pytest.fixture
def module(tmp_path):
    return tofu.Module(tmp_path)


@pytest.fixture(scope="module")
def extras(tmp_path_factory):
    """What is made with all extras."""
    return tofu.Module(tmp_path_factory.mktemp("extras")).apply(**variables(ALL_EXTRAS))[0]


def variables(parameters):
    """The template's parameters as the module's variables; the stack's name is a variable there."""
    translate = {"": None, "yes": True, "no": False}
    chosen = {counterparts.snake(name): translate.get(value, value) for name, value in parameters.items()}
    return {"name": "hr"} | chosen


def test_the_module_is_formatted_and_valid(module):
    module.tofu("fmt", "-check", "-recursive", "-diff")
    module.tofu("validate")


@pytest.mark.parametrize(("file", "old", "new"), [
    ("delivery.tf", "retention_in_days ", "retention_days "),
    ("catalogue.tf", '    name    = "date"\n', ""),
    ("queries.tf", "      encryption_configuration {", "      encryption {"),
    ("bucket.tf", '= "BucketOwnerEnforced"', '= ["BucketOwnerEnforced"]'),
    ("stream.tf", "  stream_mode_details {", "  stream_mode_details {}\n  stream_mode_details {"),
    ("outputs.tf", "aws_sns_topic.alarms.arn", "aws_sns_topic.alarms.amazon_resource_name"),
], ids=["unknown argument", "missing argument", "unknown block", "wrong type", "block too many", "unknown attribute"])
def test_the_providers_schema_refuses(module, file, old, new):
    module.edit(file, old, new)
    with pytest.raises(tofu.Refused):
        module.tofu("validate")


@pytest.mark.parametrize("parameters", CHOICES.values(), ids=CHOICES.keys())
def test_the_module_makes_what_the_template_makes(module, parameters):
    made, outputs = module.apply(**variables(parameters))
    template = cfn.load()
    assert list(counterparts.differences(template, parameters, module.schema, made)) == []
    names = counterparts.references(made)
    for name, output in template["Outputs"].items():
        condition = output.get("Condition")
        choice = {"Fn::If": [condition, output["Value"], {"Ref": "AWS::NoValue"}]} if condition else output["Value"]
        wanted = cfn.resolved(template, choice, **parameters)
        found = counterparts.referring(outputs.get(counterparts.snake(name)), names)
        assert OUTPUT_NAMES.get((name, found), found) == wanted, name


# An output that is a name: the template's resolver gives the resource's.
OUTPUT_NAMES = {("DeliveryName", "hr_firehose"): "Delivery", ("DeliveryName", "pulse"): "Delivery",
                ("GatewayGroupName", "hr-gateways"): "GatewayGroup"}


def test_no_resource_can_be_left_out_unseen(extras):
    template = cfn.load()
    for address in extras:
        rest = {name: attributes for name, attributes in extras.items() if name != address}
        assert list(counterparts.differences(template, ALL_EXTRAS, tofu.schema(), rest)), address


def places(value, path=()):
    """The way to each value that somebody set."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from places(inner, (*path, place))
    elif value not in (None, "", 0, False) and not (isinstance(value, str) and counterparts.MADE_UP.fullmatch(value)):
        yield path


def test_no_value_can_change_unseen(extras):
    template, unseen = cfn.load(), set()
    for address, attributes in extras.items():
        for path in places(attributes):
            changed = {**extras, address: copy.deepcopy(attributes)}
            at = changed[address]
            for step in path[:-1]:
                at = at[step]
            value = at[path[-1]]
            at[path[-1]] = f"{value} and more" if isinstance(value, str) else not value if value is True else value + 1
            if not any(counterparts.differences(template, ALL_EXTRAS, tofu.schema(), changed)):
                unseen.add(f"{address}/{'/'.join(map(str, path))}")
    assert unseen == UNSEEN


# Names that an account would choose by itself.
UNSEEN = {
    "aws_cloudwatch_log_metric_filter.delivery_errors/name", "aws_cloudwatch_metric_alarm.delivery_errors/alarm_name",
    "aws_cloudwatch_metric_alarm.freshness/alarm_name", "aws_s3_bucket.lake/bucket_prefix",
    *(f"aws_{address}/name_prefix" for address in (
        "budgets_budget.account", "cloudwatch_event_rule.error_object", "iam_policy.gateway", "iam_role.crawler",
        "iam_role.delivery", "iam_role.gateway", "sns_topic.alarms")),
}


@pytest.mark.parametrize(("file", "old", "new", "seen"), [
    ("alarms.tf", "threshold           = 3600", "threshold           = 36000", "FreshnessAlarm: threshold"),
    ("gateways.tf", 'Action = "kinesis:PutRecords"', 'Action = ["kinesis:PutRecords", "kinesis:GetRecords"]',
     "GatewayPolicy: policy"),
    ("delivery.tf", "raw/arrived=", "raw/came=", "RawDeliveryStream: extended_s3_configuration/prefix"),
    ("catalogue.tf", "NOW+800DAYS", "NOW", "Table: parameters/projection.date.range"),
    ("key.tf", '"kms:UpdateKeyDescription",', '"kms:UpdateKeyDescription", "kms:Sign",', "Key: policy"),
    ("queries.tf", '"{${parameter[0]}}" =>', '"${parameter[0]}" =>', "SqlLedger: query"),
    ("bucket.tf", "storage_class = \"GLACIER_IR\"", "storage_class = \"DEEP_ARCHIVE\"", "Bucket: "),
    ("../templates/lake/partition.jq", "== 24", "== 25", "Delivery: "),
    ("../queries/views/hr_gaps.sql", "SELECT", "SELECT DISTINCT", "SqlHrGaps: view_original_text"),
    ("locals.tf", 'var.crawler_name != null', 'var.crawler_name == null', "Crawler: made by the template alone"),
], ids=lambda value: value if value.endswith((".tf", ".jq", ".sql")) else "")
def test_a_mistake_is_seen(module, file, old, new, seen):
    template = cfn.load()
    module.edit(file, old, new)
    made, _ = module.apply(**variables(ALL_EXTRAS))
    assert any(seen in finding for finding in counterparts.differences(template, ALL_EXTRAS, module.schema, made))


def test_each_parameter_is_a_variable_with_the_same_default(module):
    declared, parameters = module.declared(), cfn.load()["Parameters"]
    assert declared.keys() == {counterparts.snake(name) for name in parameters} | {"name"}
    for name, default in variables({name: parameter["Default"] for name, parameter in parameters.items()}).items():
        # Empty is null, but for what is a part of a text.
        assert name == "name" or (declared[name].get("default") or None) == (default or None), name
    assert all(len(variable["description"]) > 10 for variable in declared.values())


def refused_values():
    """For each parameter what the template refuses."""
    for name, parameter in cfn.load()["Parameters"].items():
        if "AllowedPattern" in parameter:
            yield name, "Not allowed!"
        if "AllowedValues" in parameter and name != "RawDelivery":
            yield name, "else"
        if "MinValue" in parameter:
            yield name, parameter["MinValue"] - 1
        if "MaxValue" in parameter:
            yield name, parameter["MaxValue"] + 1


def test_what_the_template_refuses_the_module_refuses(module):
    refused = [*refused_values()]
    for values in (refused, [*reversed(refused)]):  # A minimum, then a maximum.
        with pytest.raises(tofu.Refused) as error:
            module.plan(**variables(dict(values)))
        named = set(re.findall(r'Invalid value for variable\n.*?variable "(\w+)"', str(error.value), re.DOTALL))
        assert named == {counterparts.snake(name) for name, _ in refused}
    with pytest.raises(tofu.Refused, match="roles-anywhere needs ca_certificate"):
        module.plan(gateway_identity="roles-anywhere")


@pytest.mark.parametrize("kept", ["key.tf", "stream.tf", "bucket.tf"])
def test_readings_and_their_key_cannot_be_destroyed(module, kept):
    for other in {"key.tf", "stream.tf", "bucket.tf"} - {kept}:
        module.edit(other, "prevent_destroy = true", "prevent_destroy = false")
    module.apply(**variables({}))
    with pytest.raises(tofu.Refused, match=rf"cannot be destroyed\s+on {kept}"):
        module.plan("-destroy", **variables({}))


def test_checkov_finds_nothing(module):
    run = subprocess.run(
        [Path(sys.executable).parent / "checkov", "--framework", "terraform", "--skip-download", "--output", "json",
         "-d", module.folder], capture_output=True, text=True, check=False)
    results = json.loads(run.stdout)
    assert [(c["check_id"], c["resource"]) for c in results["results"]["failed_checks"]] == []
    assert results["summary"]["passed"] >= 40
