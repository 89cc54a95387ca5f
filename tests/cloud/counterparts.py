"""What of the Terraform module stands for what of the lake's CloudFormation template, and how far they say the same.

A property's path is written as Terraform does, `extended_s3_configuration/buffering_size`, so that a table lists only
where the two differ in more than the way to write a name. What must hold: nothing of either side is passed over but
by a line of these tables.
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import template as cfn

Attributes = dict[str, Any]

# By the template's resource: the module's, the first one being the one whose paths stand for themselves.
RESOURCES = {
    "Key": ["aws_kms_key.lake"],
    "Stream": ["aws_kinesis_stream.readings"],
    "Bucket": ["aws_s3_bucket.lake", *(f"aws_s3_bucket_{part}.lake" for part in (
        "public_access_block", "ownership_controls", "versioning", "server_side_encryption_configuration", "logging",
        "notification", "lifecycle_configuration"))],
    "BucketPolicy": ["aws_s3_bucket_policy.lake"],
    "DeliveryLog": ["aws_cloudwatch_log_group.delivery"],
    "ParquetLogStream": ["aws_cloudwatch_log_stream.parquet"],
    "RawLogStream": ["aws_cloudwatch_log_stream.raw"],
    "DeliveryRole": ["aws_iam_role.delivery", "aws_iam_role_policy.delivery"],
    "Delivery": ["aws_kinesis_firehose_delivery_stream.parquet"],
    "RawDeliveryStream": ["aws_kinesis_firehose_delivery_stream.raw"],
    "Database": ["aws_glue_catalog_database.lake"],
    "Table": ["aws_glue_catalog_table.readings"],
    "CrawlerRole": ["aws_iam_role.crawler", "aws_iam_role_policy.crawler"],
    "CrawlerSecurity": ["aws_glue_security_configuration.crawler"],
    "Crawler": ["aws_glue_crawler.lake"],
    "WorkGroup": ["aws_athena_workgroup.people"],
    "GatewayPolicy": ["aws_iam_policy.gateway", "aws_iam_role_policy_attachment.gateway",
                      "aws_iam_group_policy_attachment.gateways"],
    "TrustAnchor": ["aws_rolesanywhere_trust_anchor.gateways"],
    "GatewayRole": ["aws_iam_role.gateway"],
    "GatewayProfile": ["aws_rolesanywhere_profile.gateways"],
    "GatewayGroup": ["aws_iam_group.gateways"],
    "Topic": ["aws_sns_topic.alarms"],
    "TopicPolicy": ["aws_sns_topic_policy.alarms"],
    "Mail": ["aws_sns_topic_subscription.mail"],
    "DeliveryErrors": ["aws_cloudwatch_log_metric_filter.delivery_errors"],
    "DeliveryErrorsAlarm": ["aws_cloudwatch_metric_alarm.delivery_errors"],
    "FreshnessAlarm": ["aws_cloudwatch_metric_alarm.freshness"],
    "ErrorObjectRule": ["aws_cloudwatch_event_rule.error_object", "aws_cloudwatch_event_target.error_object"],
    "Budget": ["aws_budgets_budget.account"],
    **{cfn.renderer().resource_name(path): [f"aws_glue_catalog_table.view[{path.stem}]"] for path in cfn.VIEWS},
    **{cfn.renderer().resource_name(path): [f"aws_athena_named_query.query[{path.stem}]"] for path in cfn.QUERIES},
}

# By the template's type: how its paths become the module's. An empty one is what Terraform has no words for.
PATHS = {
    "AWS::KMS::Key": [("^key_policy$", "policy")],
    "AWS::Kinesis::Stream": [
        ("^retention_period_hours$", "retention_period"), ("^stream_encryption/encryption_type$", "encryption_type"),
        ("^stream_encryption/key_id$", "kms_key_id")],
    "AWS::S3::Bucket": [
        ("^public_access_block_configuration/", "s3_bucket_public_access_block/"),
        ("^ownership_controls/rules/0/", "s3_bucket_ownership_controls/rule/"),
        ("^versioning_", "s3_bucket_versioning/versioning_"),
        ("^bucket_encryption/server_side_encryption_configuration/0/",
         "s3_bucket_server_side_encryption_configuration/rule/0/"),
        ("/server_side_encryption_by_default/", "/apply_server_side_encryption_by_default/"),
        ("^logging_configuration/destination_bucket_name$", "s3_bucket_logging/target_bucket"),
        ("^logging_configuration/log_file_prefix$", "s3_bucket_logging/target_prefix"),
        ("^notification_configuration/event_bridge_configuration/event_bridge_enabled$",
         "s3_bucket_notification/eventbridge"),
        ("^lifecycle_configuration/rules/", "s3_bucket_lifecycle_configuration/rule/"),
        ("/prefix$", "/filter/0/prefix"), ("/transitions/(.)/transition_in_days$", r"/transition/\1/days"),
        ("/transitions/", "/transition/"), ("/expiration_in_days$", "/expiration/0/days"),
        ("/noncurrent_version_expiration/", "/noncurrent_version_expiration/0/"),
        ("/abort_incomplete_multipart_upload/", "/abort_incomplete_multipart_upload/0/"),
        ("/expired_object_delete_marker$", "/expiration/0/expired_object_delete_marker")],
    "AWS::S3::BucketPolicy": [("^policy_document$", "policy")],
    "AWS::Logs::LogGroup": [("^log_group_name$", "name")],
    "AWS::Logs::LogStream": [("^log_stream_name$", "name")],
    "AWS::Logs::MetricFilter": [
        ("^filter_pattern$", "pattern"), ("^metric_transformations/0/metric_", "metric_transformation/"),
        ("^metric_transformations/0/", "metric_transformation/")],
    "AWS::IAM::Role": [
        ("^assume_role_policy_document$", "assume_role_policy"), ("^policies/0/policy_name$", "iam_role_policy/name"),
        ("^policies/0/policy_document$", "iam_role_policy/policy")],
    "AWS::IAM::ManagedPolicy": [
        ("^policy_document$", "policy"), ("^roles$", "iam_role_policy_attachment/role"),
        ("^groups$", "iam_group_policy_attachment/group")],
    "AWS::IAM::User": [("^groups$", "iam_user_group_membership/groups")],
    "AWS::KinesisFirehose::DeliveryStream": [
        ("^delivery_stream_name$", "name"), ("^delivery_stream_type$", ""),
        ("^kinesis_stream_source_", "kinesis_source_"),
        ("^extended_s3_destination_configuration/", "extended_s3_configuration/"),
        ("/buffering_hints/size_in_m_bs$", "/buffering_size"),
        ("/buffering_hints/interval_in_seconds$", "/buffering_interval"),
        ("/encryption_configuration/kms_encryption_config/awskms_key_arn$", "/kms_key_arn"),
        ("/cloud_watch_", "/cloudwatch_"), ("/retry_options/duration_in_seconds$", "/retry_duration")],
    "AWS::Glue::Database": [("^catalog_id$", ""), ("^database_input/", "")],
    "AWS::Glue::Table": [("^catalog_id$", ""), ("^table_input/", ""), ("/serde_info/", "/ser_de_info/")],
    "AWS::Glue::SecurityConfiguration": [
        ("/s3_encryptions/0/", "/s3_encryption/"), ("/cloud_watch_encryption/", "/cloudwatch_encryption/"),
        ("/cloud_watch_encryption_mode$", "/cloudwatch_encryption_mode")],
    "AWS::Glue::Crawler": [
        ("^crawler_security_configuration$", "security_configuration"),
        ("^targets/catalog_targets/", "catalog_target/")],
    "AWS::Athena::WorkGroup": [
        ("^recursive_delete_option$", "force_destroy"), ("^work_group_configuration/", "configuration/"),
        ("/publish_cloud_watch_", "/publish_cloudwatch_"), ("/enforce_work_group_", "/enforce_workgroup_"),
        ("/kms_key$", "/kms_key_arn")],
    "AWS::Athena::NamedQuery": [("^work_group$", "workgroup"), ("^query_string$", "query")],
    "AWS::SNS::TopicPolicy": [("^topics$", "arn"), ("^policy_document$", "policy")],
    "AWS::Events::Rule": [
        ("^targets/0/id$", "cloudwatch_event_target/target_id"), ("^targets/0/arn$", "cloudwatch_event_target/arn")],
    "AWS::Budgets::Budget": [
        ("^budget/budget_limit/amount$", "limit_amount"), ("^budget/budget_limit/unit$", "limit_unit"),
        ("^budget/", ""), ("^notifications_with_subscribers/(.)/notification/", r"notification/\1/"),
        ("^notifications_with_subscribers/(.)/subscribers/0/address$", r"notification/\1/subscriber_sns_topic_arns"),
        ("^notifications_with_subscribers/./subscribers/0/subscription_type$", "")],
}

# What only Terraform has words for: what an account names by itself, and how parts of one thing find each other.
OWN = [
    r"name_prefix$|^bucket_prefix$|^alarm_name$", r"^s3_bucket_\w+/bucket$", r"^iam_role_policy/role$",
    r"^iam_\w+_policy_attachment/policy_arn$", r"^iam_user_group_membership/user$", r"^cloudwatch_event_target/rule$",
]
OWN_NAMES = {"aws_iam_group.gateways", "aws_cloudwatch_log_metric_filter.delivery_errors"}
# What CloudFormation takes for granted, and the provider asks for.
GRANTED = {r"^destination$": "extended_s3", r"^notification/./threshold_type$": "PERCENTAGE"}
# What stands twice in Terraform.
TWICE = {("aws_glue_crawler.lake", "database_name"): "catalog_target/0/database_name"}

# CloudFormation's ends in `:*`, as IAM wants it; the provider cuts that off.
LOG_ARN = "arn:DeliveryLog without its end"
# How the template names what Terraform knows by another attribute or under another name.
REFERENCES = {
    "aws_sns_topic.alarms/arn": "Topic", "aws_s3_bucket.lake/bucket": "Bucket", "aws_s3_bucket.lake/id": "Bucket",
    "aws_iam_role.gateway/name": "GatewayRole", "aws_rolesanywhere_profile.gateways/arn": "GatewayProfile.ProfileArn",
    "aws_rolesanywhere_trust_anchor.gateways/arn": "TrustAnchor.TrustAnchorArn",
    "aws_cloudwatch_log_group.delivery/arn": LOG_ARN,
}
# What a reference to one of these comes to: its name, which is this property.
NAMES = {"DeliveryLog": "LogGroupName", "Delivery": "DeliveryStreamName", "ParquetLogStream": "LogStreamName",
         "RawLogStream": "LogStreamName"}
# What the module names and an account would name otherwise.
NAMED_HERE = {"GatewayGroup": "aws_iam_group.gateways"}
WHOLE = re.compile(r"(policy_document|key_policy|event_pattern)$")
MADE_UP = re.compile(r"\(aws_[a-z0-9_.]+ \d+\)")


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The paths of a resource and what stands there; a list of plain values is one of them."""
    if isinstance(value, dict) and {"Name", "Value"} == set(value):  # A dimension of an alarm.
        yield f"{path.rpartition('/')[0]}/{snake(value['Name'])}", value["Value"]
    elif isinstance(value, dict) and not WHOLE.search(path):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}/{snake(name)}" if path else snake(name))
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{place}")
    elif value not in (None, [], {}):
        yield path, value


def plain(value: Any) -> Any:
    """What a value says, however it is written."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        said = sorted((plain(one) for one in value), key=json.dumps)
        return said[0] if len(said) == 1 else said
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if abs(value) < 1e6 else str(int(value))
    if view := re.fullmatch(r"/\* Presto View: (\S+) \*/", value):
        return plain(json.loads(base64.b64decode(view[1])))
    if value.startswith("{") and "\n" not in value:
        try:
            return plain(json.loads(value))
        except json.JSONDecodeError:
            pass
    # A named query's lines stand further in.
    return "\n".join(line.lstrip() for line in value.splitlines())


def translated(path: str, kind: str) -> str:
    for pattern, words in PATHS.get(kind, []):
        path = re.sub(pattern, words, path)
    return path


def unwrapped(block: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """A resource's attributes without the lists around blocks of which there is one at most."""
    done = {name: value for name, value in attributes.items() if name in block["attributes"]}
    for name, nested in block["blocks"].items():
        items = attributes.get(name) or []
        inner = [unwrapped(nested["block"], item) for item in (items if isinstance(items, list) else [items])]
        done[name] = inner if nested["max"] != 1 else inner[0] if inner else None
    return done


def references(made: dict[str, Attributes]) -> dict[str, str]:
    """What the provider made up, and how the template refers to it."""
    logical = {address: name for name, addresses in RESOURCES.items() for address in addresses}
    names = {}
    for address, attributes in made.items():
        for attribute, value in attributes.items():
            if address in logical and isinstance(value, str) and made_up_for(address, attribute, value):
                known = f"arn:{logical[address]}" if attribute == "arn" else f"{logical[address]}.{attribute}"
                names[value] = REFERENCES.get(f"{address}/{attribute}", known)
    return names


def referring(value: Any, names: dict[str, str]) -> Any:
    """The value with the template's references in the place of what the provider made up."""
    text = MADE_UP.sub(lambda found: names.get(found[0], found[0]), json.dumps(value))
    return json.loads(text.replace(f"{LOG_ARN}:*", "arn:DeliveryLog"))


def made_up_for(address: str, attribute: str, value: str) -> bool:
    """Whether this is what the provider made up for just this attribute of just such a resource."""
    return bool(MADE_UP.fullmatch(value)) and value.startswith(f"({address.partition('.')[0]}.{attribute} ")


def differences(template: dict[str, Any], parameters: dict[str, Any], schema: dict[str, Any],
                made: dict[str, Attributes]) -> Iterator[str]:
    """Where the module makes something else than the template does."""
    known = references(made)
    made = {address: {name: value if isinstance(value, str) and made_up_for(address, name, value)
                      else referring(value, known) for name, value in attributes.items()}
            for address, attributes in made.items()}
    unclaimed = set(made)
    names = {name: cfn.resolved(template, template["Resources"][name]["Properties"][word], **parameters)
             for name, word in NAMES.items() if name in template["Resources"]}
    names |= {name: made[address]["name"] for name, address in NAMED_HERE.items() if address in made}
    for name, resource in template["Resources"].items():
        if name not in RESOURCES:
            yield f"{name}: not in the table"
            continue
        condition = resource.get("Condition")
        wanted = not condition or cfn.resolved(template, {"Fn::If": [condition, "yes", "no"]}, **parameters) == "yes"
        addresses = [address for address in RESOURCES[name] if address in made]
        unclaimed -= set(addresses)
        if wanted != bool(addresses):
            yield f"{name}: made by {'the template' if wanted else 'the module'} alone"
        elif wanted:
            properties = cfn.resolved(template, resource.get("Properties", {}), **parameters)
            said = {translated(path, resource["Type"]): plain(value) for path, value in leaves(properties)}
            said = {path: names.get(value, value) if isinstance(value, str) else value for path, value in said.items()}
            said.pop("", None)
            yield from (f"{name}: {finding}" for finding in compared(said, dict(module(addresses, schema, made))))
    yield from (f"{address}: made by the module alone" for address in sorted(unclaimed))


def module(addresses: list[str], schema: dict[str, Any], made: dict[str, Attributes]) -> Iterator[tuple[str, Any]]:
    """The paths of the resources and what was set there, by whoever wrote the module."""
    for place, address in enumerate(addresses):
        kind = address.partition(".")[0]
        found = dict(leaves(unwrapped(schema["resources"][kind], made[address])))
        for path, value in found.items():
            full = f"{kind.removeprefix('aws_')}/{path}" if place else path
            made_up = isinstance(value, str) and made_up_for(address, path.rpartition("/")[2], value)
            named = path == "name" and address in OWN_NAMES or any(re.search(own, full) for own in OWN)
            granted = any(re.search(pattern, full) and value == word for pattern, word in GRANTED.items())
            again = (address, path) in TWICE and found[TWICE[address, path]] == value
            if not (made_up or named or granted or again):
                yield full, plain(value)


def compared(template: dict[str, Any], module: dict[str, Any]) -> Iterator[str]:
    for path in sorted(template.keys() | module.keys()):
        if path not in module:
            yield f"{path}: only the template says {template[path]}"
        elif path not in template:
            # What nobody set, the provider made up.
            if module[path] not in ("", "0", "false"):
                yield f"{path}: only the module says {module[path]}"
        elif template[path] != module[path]:
            yield f"{path}: {template[path]} in the template, {module[path]} in the module"
