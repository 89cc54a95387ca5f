"""What the templates must keep to and no service says before it is too late. Pure: template in, findings out.

Each rule is a generator of findings; its document string is the rule, with its source where it is a service's. All rules
hold for all stacks. They are Python and not cfn-guard's language because most compare places of a template with each
other or read JSON inside a text, and so that the mistakes that show them at work are seeded into the same data.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from prefixes import looks_at
from variants import variants

Template = dict[str, Any]
Rule = Callable[[Template], Iterator[str]]


def of_type(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def deliveries(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings of each one to S3 in each of its variants, its prefixes as texts."""
    for name, properties in of_type(template, "AWS::KinesisFirehose::DeliveryStream"):
        for settings in variants(properties.get("ExtendedS3DestinationConfiguration", [])):
            if settings:
                yield name, settings | {word: as_text(settings[word]) for word in ("Prefix", "ErrorOutputPrefix") if word in settings}


def as_text(value: Any) -> str:
    """What a `!Sub` says, or a text."""
    return value["Fn::Sub"] if isinstance(value, dict) else value


def processors(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    listed = settings.get("ProcessingConfiguration", {}).get("Processors", [])
    return {p["Type"]: {q["ParameterName"]: q["ParameterValue"] for q in p["Parameters"]} for p in listed}


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement, wherever it stands, in a text of JSON too."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        if isinstance(value.get("PolicyDocument", {}).get("Fn::Sub"), str):
            value = json.loads(value["PolicyDocument"]["Fn::Sub"])
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from statements(inner)


def alarmed(template: Template) -> set[tuple[str, str]]:
    """What alarms look at: the metric, and the resource that a dimension names."""
    seen = set()
    for _, properties in of_type(template, "AWS::CloudWatch::Alarm"):
        for metric in [properties, *(m["MetricStat"]["Metric"] for m in properties.get("Metrics", []) if "MetricStat" in m)]:
            for dimension in metric.get("Dimensions", [{}]):
                (value,) = dimension.get("Value", {"": ""}).values()
                seen.add((json.dumps(metric.get("MetricName")).strip('"'), value[0] if isinstance(value, list) else value))
    return seen


def with_the_key(value: Any) -> bool:
    """The lake's key, by its resource there and by its parameter elsewhere."""
    return any(json.dumps(key) in json.dumps(value) for key in ({"Fn::GetAtt": ["Key", "Arn"]}, {"Ref": "KeyArn"}))


def left_to_s3(template: Template) -> set[str]:
    """Buckets whose default is S3's own keys."""
    buckets = of_type(template, "AWS::S3::Bucket")
    return {name for name, properties in buckets if '"AES256"' in json.dumps(properties.get("BucketEncryption"))}


def function_roles(template: Template) -> set[str]:
    return {properties["Role"]["Fn::GetAtt"][0] for _, properties in of_type(template, "AWS::Lambda::Function")}


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
                if not re.search(rf"[{{,]\s*{key}:", as_text(query)):
                    yield f"{name}: the prefix asks for {key}, the query does not extract it"
        elif "partitionKeyFromQuery" in settings["Prefix"]:
            yield f"{name}: the prefix asks for a partition, partitioning is off"


def partitions_are_where_the_table_looks(template: Template) -> Iterator[str]:
    """Where Firehose writes is where projection reads from, in each variant of one delivery. A date is the event's own."""
    prefixes: dict[str, list[str]] = {}
    for name, settings in deliveries(template):
        prefixes.setdefault(name, []).append(settings["Prefix"])
    for name, properties in of_type(template, "AWS::Glue::Table"):
        settings = properties["TableInput"].get("Parameters", {})
        if properties["TableInput"]["TableType"] != "EXTERNAL_TABLE":
            continue
        place = settings.get("storage.location.template", {"Fn::Sub": [""]})["Fn::Sub"][0]
        place = place.partition("${Lake}/")[2]
        if not place or not any(all(looks_at(place, one) for one in written) for written in prefixes.values()):
            yield f"{name}: projection looks where nothing is written"
        if settings.get("projection.enabled") != "true":
            yield f"{name}: has no projection"


def errors_are_kept_by_their_kind(template: Template) -> Iterator[str]:
    """What cannot be delivered lands under errors/ or NAME_errors/, apart by kind, and is logged."""
    for name, settings in deliveries(template):
        prefix = settings.get("ErrorOutputPrefix", "")
        if not re.match(r"\$\{Prefix\}(\w+_)?errors/", prefix) or "!{firehose:error-output-type}" not in prefix:
            yield f"{name}: keeps its errors elsewhere, or all together"
        if not settings.get("CloudWatchLoggingOptions", {}).get("Enabled"):
            yield f"{name}: fails in silence"


def everything_is_encrypted_with_the_key(template: Template) -> Iterator[str]:
    """Health records: whatever holds them or tells of them. The key is ours, so that it can be taken away."""
    places = {
        "AWS::Kinesis::Stream": "StreamEncryption",
        "AWS::S3::Bucket": "BucketEncryption",
        "AWS::Logs::LogGroup": "KmsKeyId",
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::Glue::SecurityConfiguration": "EncryptionConfiguration",
        "AWS::SQS::Queue": "KmsMasterKeyId",
        "AWS::SecretsManager::Secret": "KmsKeyId",
        "AWS::OpenSearchService::Domain": "EncryptionAtRestOptions",
        "AWS::StepFunctions::StateMachine": "EncryptionConfiguration",
        "AWS::Lambda::Function": "KmsKeyArn",
    }
    for kind, place in places.items():
        for name, properties in of_type(template, kind):
            if not with_the_key(properties.get(place)) and name not in left_to_s3(template):
                yield f"{name}: {place} is not with the key"
    for name, properties in of_type(template, "AWS::KinesisFirehose::DeliveryStream"):
        settings = properties.get("ExtendedS3DestinationConfiguration")
        if settings and not with_the_key(settings.get("EncryptionConfiguration")):
            yield f"{name}: delivers without the key"
    for name, properties in of_type(template, "AWS::Athena::WorkGroup"):
        if not with_the_key(properties["WorkGroupConfiguration"]["ResultConfiguration"].get("EncryptionConfiguration")):
            yield f"{name}: results are not with the key"


def no_action_is_a_wildcard(template: Template) -> Iterator[str]:
    """Who may do what is spelled out. To deny is free."""
    for statement in statements(template["Resources"]):
        for action in as_list(statement["Action"]):
            if statement["Effect"] == "Allow" and "*" in action:
                yield f"allows {action}"


def no_role_reaches_everything(template: Template) -> Iterator[str]:
    """A role names what it reaches. For log deliveries CloudWatch Logs knows no narrower resource."""
    for name, properties in [*of_type(template, "AWS::IAM::Role"), *of_type(template, "AWS::IAM::RolePolicy")]:
        for statement in statements(properties.get("Policies", properties.get("PolicyDocument", []))):
            if "*" in as_list(statement["Resource"]) and not all(a.startswith("logs:") for a in as_list(statement["Action"])):
                yield f"{name}: allows {statement['Action']} everywhere"


def no_principal_is_everyone(template: Template) -> Iterator[str]:
    """Nobody from just anywhere, and no service on another account's behalf, where it is known to say on whose it acts.

    EventBridge does not say it to a topic. Whether Lambda does when it takes a function's role is not documented; to
    hand it a role takes iam:PassRole in the role's own account.
    """
    for statement in statements(template["Resources"]):
        principal = statement.get("Principal")
        addresses = as_list(statement.get("Condition", {}).get("IpAddress", {}).get("aws:SourceIp", "0.0.0.0/0"))
        if statement["Effect"] == "Allow" and principal in ("*", {"AWS": "*"}) and any(str(a).endswith("/0") for a in addresses):
            yield f"allows everyone {statement['Action']}"
        service = principal.get("Service") if isinstance(principal, dict) else None
        silent = (None, "events.amazonaws.com", "lambda.amazonaws.com")
        if statement["Effect"] == "Allow" and service not in silent and "Condition" not in statement:
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
    """Readings, and the key that opens them, stay when the stack goes or is changed. A stream of what can be computed again
    says that it goes."""
    for kind in ("AWS::KMS::Key", "AWS::Kinesis::Stream", "AWS::S3::Bucket"):
        for name, resource in template["Resources"].items():
            policies = {resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")}
            if resource["Type"] == kind and policies != {"Retain"} and (kind != "AWS::Kinesis::Stream" or policies != {"Delete"}):
                yield f"{name}: goes with the stack"


def a_query_has_a_limit(template: Template) -> Iterator[str]:
    """A workgroup stops a query that reads too much, and nobody can set that aside."""
    for name, properties in of_type(template, "AWS::Athena::WorkGroup"):
        settings = properties["WorkGroupConfiguration"]
        if "BytesScannedCutoffPerQuery" not in settings or not settings.get("EnforceWorkGroupConfiguration"):
            yield f"{name}: has no limit that holds"


def a_used_workgroup_can_be_deleted(template: Template) -> Iterator[str]:
    """Athena deletes a workgroup in which a query was ever run only if told so (DeleteWorkGroup, RecursiveDeleteOption)."""
    for name, properties in of_type(template, "AWS::Athena::WorkGroup"):
        if properties.get("RecursiveDeleteOption") is not True:
            yield f"{name}: keeps its stack from being deleted"


def failures_reach_somebody(template: Template) -> Iterator[str]:
    """Each alarm tells the topic, and a delivery's errors/ is watched."""
    for name, properties in of_type(template, "AWS::CloudWatch::Alarm"):
        if not {"Topic", "TopicArn"} & {action["Ref"] for action in properties.get("AlarmActions", [])}:
            yield f"{name}: tells nobody"
    watched = any("errors/" in json.dumps(p["EventPattern"]) for _, p in of_type(template, "AWS::Events::Rule"))
    if list(deliveries(template)) and not watched:
        yield "nothing watches errors/"


def what_can_fail_is_alarmed(template: Template) -> Iterator[str]:
    """A queue of failures that fills, a function that fails or falls behind, a run that fails, a counted log line."""
    metrics = {
        "AWS::SQS::Queue": ["ApproximateNumberOfMessagesVisible"],
        "AWS::Lambda::Function": ["Errors", *(["IteratorAge"] if list(of_type(template, "AWS::Lambda::EventSourceMapping")) else [])],
        "AWS::StepFunctions::StateMachine": ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"],
        "AWS::Scheduler::ScheduleGroup": ["InvocationDroppedCount"],
        "AWS::OpenSearchService::Domain": ["ClusterStatus.red", "FreeStorageSpace", "ClusterIndexWritesBlocked", "KMSKeyInaccessible"],
    }
    seen = alarmed(template)
    for kind, names in metrics.items():
        for name, _ in of_type(template, kind):
            for metric in names:
                if (metric, name) not in seen:
                    yield f"{name}: nobody hears of its {metric}"
    for name, properties in of_type(template, "AWS::Logs::MetricFilter"):
        if (json.dumps(properties["MetricTransformations"][0]["MetricName"]).strip('"'), "") not in seen:
            yield f"{name}: counts for nobody"


def a_schedule_may_use_the_key(template: Template) -> Iterator[str]:
    """Who starts an execution of a state machine with a key of its own needs that key (Step Functions, StartExecution:
    KmsAccessDeniedException)."""
    own = {name for name, properties in of_type(template, "AWS::StepFunctions::StateMachine") if "EncryptionConfiguration" in properties}
    for name, properties in of_type(template, "AWS::IAM::Role"):
        allowed = list(statements(properties))
        starts = any("states:StartExecution" in as_list(one.get("Action")) for one in allowed)
        uses = any({"kms:Decrypt", "kms:GenerateDataKey"} <= set(as_list(one.get("Action"))) and with_the_key(one) for one in allowed)
        if own and starts and not uses:
            yield f"{name}: starts what it has no key for"


def a_sum_of_metrics_is_filled(template: Template) -> Iterator[str]:
    """A metric without a datapoint has no value, and neither has a sum with it (CloudWatch, "Using metric math")."""
    for name, properties in of_type(template, "AWS::CloudWatch::Alarm"):
        for metric in properties.get("Metrics", []):
            terms = str(metric.get("Expression", "")).split(" + ")
            if len(terms) > 1 and not all(re.fullmatch(r"FILL\(\w+, 0\)", term) for term in terms):
                yield f"{name}: a sum of what may not be there"


def a_bad_record_blocks_no_shard(template: Template) -> Iterator[str]:
    """Lambda's defaults repeat a whole batch until it expires, and then forget it (Lambda, "Kinesis: batch errors")."""
    for name, properties in of_type(template, "AWS::Lambda::EventSourceMapping"):
        if properties.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{name}: repeats what was done"
        if properties.get("BisectBatchOnFunctionError") is not True:
            yield f"{name}: does not narrow down what fails"
        age = properties.get("MaximumRecordAgeInSeconds", -1)
        least = template["Parameters"][age["Ref"]].get("MinValue", -1) if isinstance(age, dict) else age
        if least < 60:
            yield f"{name}: repeats for ever"
        destination = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", {}).get("Fn::GetAtt", [""])
        if template["Resources"].get(destination[0], {}).get("Type") != "AWS::SQS::Queue":
            yield f"{name}: forgets what failed"


def a_window_has_one_reader(template: Template) -> Iterator[str]:
    """A tumbling window goes only with a parallelization factor of 1 (Lambda, "Kinesis: tumbling windows")."""
    for name, properties in of_type(template, "AWS::Lambda::EventSourceMapping"):
        if properties.get("TumblingWindowInSeconds") and properties.get("ParallelizationFactor", 1) != 1:
            yield f"{name}: several invocations would share a window"


def a_function_reads_one_stream(template: Template) -> Iterator[str]:
    """It reads the stream that is named, and of the domain it reaches some calls, not the whole."""
    reads = {"kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"}
    for role in function_roles(template):
        for statement in statements(template["Resources"][role]["Properties"]["Policies"]):
            actions = set(as_list(statement["Action"]))
            if any(a.startswith("kinesis:") for a in actions) and (not actions <= reads or statement["Resource"] != {"Ref": "StreamArn"}):
                yield f"{role}: does more than read the stream"
            for resource in as_list(statement["Resource"]) if "es:" in json.dumps(sorted(actions)) else []:
                if not re.search(r'/_(bulk|mget|refresh|search)"', json.dumps(resource)):
                    yield f"{role}: reaches more of the domain than its calls"


def a_domain_keeps_its_door(template: Template) -> Iterator[str]:
    """TLS 1.2 or later outside and between nodes, users of its own, a password that is in no template."""
    for name, properties in of_type(template, "AWS::OpenSearchService::Domain"):
        endpoint, security = properties.get("DomainEndpointOptions", {}), properties.get("AdvancedSecurityOptions", {})
        if not endpoint.get("EnforceHTTPS") or not endpoint.get("TLSSecurityPolicy", "").startswith("Policy-Min-TLS-1-2"):
            yield f"{name}: answers without TLS 1.2"
        if not properties.get("NodeToNodeEncryptionOptions", {}).get("Enabled"):
            yield f"{name}: talks openly between its nodes"
        if not security.get("Enabled") or not security.get("InternalUserDatabaseEnabled"):
            yield f"{name}: has no users"
        if "{{resolve:secretsmanager:" not in json.dumps(security.get("MasterUserOptions", {}).get("MasterUserPassword")):
            yield f"{name}: has a password that is not a secret"
        if not properties.get("AccessPolicies", {}).get("Statement"):
            yield f"{name}: has no policy"


def a_domain_logs_no_values(template: Template) -> Iterator[str]:
    """Its failures are logged; its slow logs would quote readings and queries."""
    for name, properties in of_type(template, "AWS::OpenSearchService::Domain"):
        logs = properties.get("LogPublishingOptions", {})
        if not logs.get("ES_APPLICATION_LOGS", {}).get("Enabled"):
            yield f"{name}: fails in silence"
        if any("SLOW" in kind for kind in logs):
            yield f"{name}: logs readings"


def a_run_is_logged_and_ends(template: Template) -> Iterator[str]:
    """A state machine logs, ends by itself, and has an end to waiting for each task and to repeating it."""
    for name, properties in of_type(template, "AWS::StepFunctions::StateMachine"):
        logging = properties.get("LoggingConfiguration", {})
        if logging.get("Level") not in ("ALL", "ERROR") or not logging.get("Destinations"):
            yield f"{name}: runs in silence"
        definition = json.loads(properties["DefinitionString"]["Fn::Sub"])
        if "TimeoutSeconds" not in definition:
            yield f"{name}: can run for ever"
        for state, settings in definition["States"].items():
            if settings["Type"] == "Task" and ("TimeoutSeconds" not in settings or not settings.get("Retry")):
                yield f"{name}: {state} can wait for ever, or gives up at once"
            if any(not 0 < retry.get("MaxAttempts", 3) <= 20 for retry in settings.get("Retry", [])):
                yield f"{name}: {state} repeats without an end"


RULES: list[Rule] = [
    a_schedule_may_use_the_key,
    a_sum_of_metrics_is_filled,
    conversion_has_a_table, conversion_buffers_64_mib, conversion_compresses_inside, partitions_are_of_single_lines,
    partitions_are_where_the_table_looks, errors_are_kept_by_their_kind, everything_is_encrypted_with_the_key,
    no_action_is_a_wildcard, no_role_reaches_everything, no_principal_is_everyone, a_gateway_may_only_put,
    buckets_take_only_tls, data_outlives_the_stack, a_query_has_a_limit, a_used_workgroup_can_be_deleted,
    failures_reach_somebody, what_can_fail_is_alarmed, a_bad_record_blocks_no_shard, a_window_has_one_reader,
    a_function_reads_one_stream, a_domain_keeps_its_door, a_domain_logs_no_values, a_run_is_logged_and_ends,
]
