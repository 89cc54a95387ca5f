"""What the template must keep to and no service says before it is too late. Pure: template in, findings out.

Each rule is a generator of findings; its document string is the rule, with its source where it is a service's.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Template = dict[str, Any]
Rule = Callable[[Template], Iterator[str]]


def of_type(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def deliveries(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, properties in of_type(template, "AWS::KinesisFirehose::DeliveryStream"):
        yield name, properties["ExtendedS3DestinationConfiguration"]


def processors(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    listed = settings.get("ProcessingConfiguration", {}).get("Processors", [])
    return {p["Type"]: {q["ParameterName"]: q["ParameterValue"] for q in p["Parameters"]} for p in listed}


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement, wherever it stands."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from statements(inner)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def conversion_has_a_table(template: Template) -> Iterator[str]:
    """Format conversion needs a Glue table (Firehose, "Convert input data format")."""
    for name, settings in deliveries(template):
        conversion = settings.get("DataFormatConversionConfiguration")
        if conversion and conversion["SchemaConfiguration"].get("TableName") != {"Ref": "Table"}:
            yield f"{name}: converts without the template's own table"


def conversion_buffers_64_mib(template: Template) -> Iterator[str]:
    """Conversion and dynamic partitioning need a buffer of at least 64 MiB (Firehose, "Configure buffering hints")."""
    for name, settings in deliveries(template):
        if "DataFormatConversionConfiguration" in settings and settings["BufferingHints"].get("SizeInMBs", 5) < 64:
            yield f"{name}: buffers less than 64 MiB"


def conversion_compresses_inside(template: Template) -> Iterator[str]:
    """With conversion on, CompressionFormat must stay unset: Parquet compresses itself (Firehose, API reference)."""
    for name, settings in deliveries(template):
        if "DataFormatConversionConfiguration" in settings and settings.get("CompressionFormat", "UNCOMPRESSED") != "UNCOMPRESSED":
            yield f"{name}: compresses around Parquet"


def partitions_are_of_single_lines(template: Template) -> Iterator[str]:
    """A record holds several lines: without JSON de-aggregation all would go where the first one belongs."""
    for name, settings in deliveries(template):
        if settings.get("DynamicPartitioningConfiguration", {}).get("Enabled"):
            if processors(settings).get("RecordDeAggregation", {}).get("SubRecordType") != "JSON":
                yield f"{name}: partitions whole records"
            query = processors(settings).get("MetadataExtraction", {}).get("MetadataExtractionQuery", "")
            for key in re.findall(r"partitionKeyFromQuery:(\w+)", settings["Prefix"]):
                if f"{{{key}:" not in json.dumps(query):
                    yield f"{name}: the prefix asks for {key}, the query does not extract it"
        elif "partitionKeyFromQuery" in settings["Prefix"]:
            yield f"{name}: the prefix asks for a partition, partitioning is off"


def partitions_are_where_the_table_looks(template: Template) -> Iterator[str]:
    """The prefix that Firehose writes to is the one that projection reads from, and is the event's own date."""
    prefixes = {settings["Prefix"] for _, settings in deliveries(template)}
    for name, properties in of_type(template, "AWS::Glue::Table"):
        settings = properties["TableInput"].get("Parameters", {})
        if properties["TableInput"]["TableType"] != "EXTERNAL_TABLE":
            continue
        place = settings.get("storage.location.template", {"Fn::Sub": [""]})["Fn::Sub"][0]
        if place.partition("${Lake}/")[2].replace("${!date}", "!{partitionKeyFromQuery:date}") not in prefixes:
            yield f"{name}: projection looks where nothing is written"
        if settings.get("projection.enabled") != "true":
            yield f"{name}: has no projection"


def errors_are_kept_by_their_kind(template: Template) -> Iterator[str]:
    """What cannot be delivered lands under errors/, apart by kind, and is logged."""
    for name, settings in deliveries(template):
        prefix = settings.get("ErrorOutputPrefix", "")
        if not prefix.startswith("errors/") or "!{firehose:error-output-type}" not in prefix:
            yield f"{name}: keeps its errors elsewhere, or all together"
        if not settings.get("CloudWatchLoggingOptions", {}).get("Enabled"):
            yield f"{name}: fails in silence"


def everything_is_encrypted_with_the_key(template: Template) -> Iterator[str]:
    """Health records: stream, bucket, deliveries, logs, topic, results. The key is ours, so that it can be taken away."""
    places = {
        "AWS::Kinesis::Stream": "StreamEncryption",
        "AWS::S3::Bucket": "BucketEncryption",
        "AWS::Logs::LogGroup": "KmsKeyId",
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::Glue::SecurityConfiguration": "EncryptionConfiguration",
    }
    key = json.dumps({"Fn::GetAtt": ["Key", "Arn"]})
    for kind, place in places.items():
        for name, properties in of_type(template, kind):
            if key not in json.dumps(properties.get(place)):
                yield f"{name}: {place} is not with the key"
    for name, settings in deliveries(template):
        if key not in json.dumps(settings.get("EncryptionConfiguration")):
            yield f"{name}: delivers without the key"
    for name, properties in of_type(template, "AWS::Athena::WorkGroup"):
        if key not in json.dumps(properties["WorkGroupConfiguration"]["ResultConfiguration"].get("EncryptionConfiguration")):
            yield f"{name}: results are not with the key"


def no_action_is_a_wildcard(template: Template) -> Iterator[str]:
    """Who may do what is spelled out. To deny is free."""
    for statement in statements(template["Resources"]):
        for action in as_list(statement["Action"]):
            if statement["Effect"] == "Allow" and "*" in action:
                yield f"allows {action}"


def no_principal_is_everyone(template: Template) -> Iterator[str]:
    """Nobody outside the account, and no service on another account's behalf, but for EventBridge and the topic."""
    for statement in statements(template["Resources"]):
        principal = statement.get("Principal")
        if statement["Effect"] == "Allow" and principal in ("*", {"AWS": "*"}):
            yield f"allows everyone {statement['Action']}"
        service = principal.get("Service", "events.amazonaws.com") if isinstance(principal, dict) else "events.amazonaws.com"
        if statement["Effect"] == "Allow" and service != "events.amazonaws.com" and "Condition" not in statement:
            yield f"trusts {service} for any account"


def a_gateway_may_only_put(template: Template) -> Iterator[str]:
    """A stolen gateway can add readings. It can read nothing, and reach nothing else."""
    for name, properties in of_type(template, "AWS::IAM::ManagedPolicy"):
        for statement in statements(properties["PolicyDocument"]):
            if not set(as_list(statement["Action"])) <= {"kinesis:PutRecords", "kms:GenerateDataKey"}:
                yield f"{name}: allows {statement['Action']}"
            if statement["Resource"] == "*":
                yield f"{name}: is not bound to the stream"


def buckets_take_only_tls(template: Template) -> Iterator[str]:
    """Every bucket has a policy that denies what comes without TLS, to objects and to itself."""
    denied = set()
    for _, properties in of_type(template, "AWS::S3::BucketPolicy"):
        for statement in statements(properties["PolicyDocument"]):
            plain = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
            if statement["Effect"] == "Deny" and plain and len(as_list(statement["Resource"])) == 2:
                denied.add(properties["Bucket"]["Ref"])
    for name, _ in of_type(template, "AWS::S3::Bucket"):
        if name not in denied:
            yield f"{name}: answers without TLS"


def data_outlives_the_stack(template: Template) -> Iterator[str]:
    """Readings, and the key that opens them, stay when the stack goes or is changed."""
    for kind in ("AWS::KMS::Key", "AWS::Kinesis::Stream", "AWS::S3::Bucket"):
        for name, resource in template["Resources"].items():
            if resource["Type"] == kind and {resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")} != {"Retain"}:
                yield f"{name}: goes with the stack"


def a_query_has_a_limit(template: Template) -> Iterator[str]:
    """The workgroup stops a query that reads too much, and nobody can set that aside."""
    for name, properties in of_type(template, "AWS::Athena::WorkGroup"):
        settings = properties["WorkGroupConfiguration"]
        if "BytesScannedCutoffPerQuery" not in settings or not settings.get("EnforceWorkGroupConfiguration"):
            yield f"{name}: has no limit that holds"


def failures_reach_somebody(template: Template) -> Iterator[str]:
    """Each alarm and each rule for errors/ tells the topic."""
    for name, properties in of_type(template, "AWS::CloudWatch::Alarm"):
        if {"Ref": "Topic"} not in properties.get("AlarmActions", []):
            yield f"{name}: tells nobody"
    if not any("errors/" in json.dumps(p["EventPattern"]) for _, p in of_type(template, "AWS::Events::Rule")):
        yield "nothing watches errors/"


RULES: list[Rule] = [
    conversion_has_a_table, conversion_buffers_64_mib, conversion_compresses_inside, partitions_are_of_single_lines,
    partitions_are_where_the_table_looks, errors_are_kept_by_their_kind, everything_is_encrypted_with_the_key,
    no_action_is_a_wildcard, no_principal_is_everyone, a_gateway_may_only_put, buckets_take_only_tls,
    data_outlives_the_stack, a_query_has_a_limit, failures_reach_somebody,
]
