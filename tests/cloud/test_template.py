"""The stacks' templates against cfn-lint, checkov and our own rules; each rule against a mistake that it must see."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import delivery_rules
import rules
import template as cfn

BIN = Path(sys.executable).parent
BODY_BYTES_MAX = 51_200  # CloudFormation: a template handed over without a bucket.
PARAMETERS_MAX, RESOURCES_MAX, QUERY_BYTES_MAX = 200, 500, 262_144

every_stack = pytest.mark.parametrize("stack", cfn.STACKS)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    for stack in cfn.STACKS:
        (folder / f"{stack}.yaml").write_text(cfn.renderer().render(stack))
    return folder


def lint(path, *options):
    run = subprocess.run([BIN / "cfn-lint", "--include-checks", "W", *options, "--", path], capture_output=True, text=True)
    return run.returncode, run.stdout


@every_stack
def test_cfn_lint_finds_nothing(rendered, stack):
    assert lint(rendered / f"{stack}.yaml") == (0, "")


def test_cfn_lint_finds_nothing_in_the_state_machine(tmp_path):
    """It does not look into a text with Fn::Sub, so it is shown one without."""
    def linted(change):
        template = cfn.load("curated")
        definition = json.loads(definition_of(template))
        change(definition["States"])
        properties(template, "Maintenance")["DefinitionString"] = json.dumps(definition)
        (tmp_path / "curated.json").write_text(json.dumps(template))
        return lint(tmp_path / "curated.json", "--ignore-checks", "W2001")  # Its parameters are put in.

    assert linted(lambda states: None) == (0, "")
    assert linted(lambda states: states["Create"].pop("Next"))[0] != 0


@every_stack
def test_checkov_finds_nothing_and_each_skip_has_a_reason(rendered, stack):
    run = subprocess.run(
        [BIN / "checkov", "--framework", "cloudformation", "--skip-download", "--output", "json", "-f", rendered / f"{stack}.yaml"],
        capture_output=True, text=True)
    results = json.loads(run.stdout)
    assert [(c["check_id"], c["resource"]) for c in results["results"]["failed_checks"]] == []
    least = {"lake": 31, "curated": 20, "live": 31, "events": 12, "streaming": 13, "transform": 25, "delivery": 30}
    assert results["summary"]["passed"] >= least[stack]
    written = [s for r in cfn.load(stack)["Resources"].values() for s in r.get("Metadata", {}).get("checkov", {}).get("skip", [])]
    assert all(len(skip["comment"]) > 20 for skip in written)
    assert {c["check_id"] for c in results["results"]["skipped_checks"]} == {skip["id"] for skip in written}


@every_stack
def test_the_template_stays_below_cloudformations_limits(rendered, stack):
    template = cfn.load(stack)
    assert (rendered / f"{stack}.yaml").stat().st_size <= BODY_BYTES_MAX
    assert len(template["Parameters"]) <= PARAMETERS_MAX
    assert len(template["Resources"]) <= RESOURCES_MAX
    for _, query in rules.of_type(template, "AWS::Athena::NamedQuery"):
        assert len(json.dumps(query["QueryString"])) <= QUERY_BYTES_MAX


@every_stack
@pytest.mark.parametrize("rule", rules.RULES + delivery_rules.RULES, ids=lambda rule: rule.__name__)
def test_the_template_keeps_the_rule(rule, stack):
    assert list(rule(cfn.load(stack))) == []


@every_stack
def test_the_console_says_what_each_parameter_is_for_and_where(stack):
    template = cfn.load(stack)
    grouped = [name for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert len(parameter.get("Description", "")) > 10, name


def wired():
    """Which parameter of the other stacks deploy.sh takes from which output of the lake's."""
    listed = re.search(r"declare -A WIRED=\((.*?)\n\)", (cfn.CLOUD / "bin/deploy.sh").read_text(), re.S)[1]
    return dict(re.findall(r"\[(\w+)\]=(\w+)", listed))


@pytest.mark.parametrize("stack", ["curated", "live"])
def test_what_a_stack_asks_for_is_what_deploy_hands_over(stack):
    outputs, handed_over = cfn.load("lake")["Outputs"], wired()
    for name, parameter in cfn.load(stack)["Parameters"].items():
        if name in handed_over:
            assert handed_over[name] in outputs
            # What the lake does not always have may be missing.
            assert "Default" in parameter or "Condition" not in outputs[handed_over[name]], name
        else:
            assert "Default" in parameter or name == "CodeKey", name


def s3(template, name="Delivery"):
    return template["Resources"][name]["Properties"]["ExtendedS3DestinationConfiguration"]


def properties(template, name):
    return template["Resources"][name]["Properties"]


def statement(template, name, place=0):
    return properties(template, name)["PolicyDocument"]["Statement"][place]


def policy(template, role, place=0):
    return properties(template, role)["Policies"][0]["PolicyDocument"]["Statement"][place]


def definition_of(template):
    text = cfn.resolved(template, properties(template, "Maintenance")["DefinitionString"], **FROM_THE_LAKE)
    assert "${" not in text
    return text


def redefine(template, change):
    text = properties(template, "Maintenance")["DefinitionString"]
    definition = json.loads(text["Fn::Sub"])
    change(definition)
    text["Fn::Sub"] = json.dumps(definition)


FROM_THE_LAKE = {
    "Bucket": "the-lake", "KeyArn": "arn:aws:kms:ap-south-1:111122223333:key/one", "DatabaseName": "hr_data", "TableName": "hr_table",
    "TopicArn": "arn:aws:sns:ap-south-1:111122223333:topic",
    "StreamArn": "arn:aws:kinesis:ap-south-1:111122223333:stream/hr-kinesis-stream", "CodeKey": "artifacts/hr-indexer-0.zip",
}

LAKE_MISTAKES = [
    (rules.conversion_has_a_table, lambda t: s3(t)["DataFormatConversionConfiguration"]["SchemaConfiguration"].pop("TableName")),
    (rules.conversion_buffers_64_mib, lambda t: s3(t)["BufferingHints"].update(SizeInMBs=5)),
    (rules.conversion_buffers_64_mib, lambda t: s3(t)["BufferingHints"].pop("SizeInMBs")),
    (rules.conversion_compresses_inside, lambda t: s3(t).update(CompressionFormat="GZIP")),
    (rules.partitions_are_of_single_lines, lambda t: s3(t)["ProcessingConfiguration"]["Processors"].pop(0)),
    (rules.partitions_are_of_single_lines, lambda t: s3(t).update(Prefix="${Prefix}heart_rate_data/date=!{partitionKeyFromQuery:day}/")),
    (rules.partitions_are_of_single_lines, lambda t: s3(t).pop("DynamicPartitioningConfiguration")),
    (rules.partitions_are_where_the_table_looks, lambda t: s3(t).update(Prefix="${Prefix}readings/date=!{partitionKeyFromQuery:date}/")),
    (rules.partitions_are_where_the_table_looks, lambda t: s3(t).update(Prefix="${Prefix}heart_rate_data/date=!{timestamp:yyyy-MM-dd}/")),
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
    (rules.no_role_reaches_everything, lambda t: policy(t, "DeliveryRole").update(Resource="*")),
    (rules.a_used_workgroup_can_be_deleted, lambda t: properties(t, "WorkGroup").pop("RecursiveDeleteOption")),
]
CURATED_MISTAKES = [
    *[(rules.everything_is_encrypted_with_the_key, lambda t, name=name, place=place: properties(t, name).pop(place))
      for name, place in [("Maintenance", "EncryptionConfiguration"), ("MaintenanceLog", "KmsKeyId")]],
    (rules.no_role_reaches_everything, lambda t: policy(t, "MaintenanceRole").update(Resource=["*"])),
    (rules.no_principal_is_everyone, lambda t: properties(t, "ScheduleRole")["AssumeRolePolicyDocument"]["Statement"][0].pop("Condition")),
    (rules.a_query_has_a_limit, lambda t: properties(t, "WorkGroup")["WorkGroupConfiguration"].pop("BytesScannedCutoffPerQuery")),
    (rules.a_schedule_may_use_the_key, lambda t: properties(t, "ScheduleRole")["Policies"][0]["PolicyDocument"]["Statement"].pop(1)),
    (rules.a_sum_of_metrics_is_filled, lambda t: properties(t, "MaintenanceAlarm")["Metrics"][0].update(Expression="failed + FILL(late, 0)")),
    (rules.failures_reach_somebody, lambda t: properties(t, "MaintenanceAlarm").update(AlarmActions=[])),
    *[(rules.what_can_fail_is_alarmed, lambda t, n=n: properties(t, "MaintenanceAlarm")["Metrics"].pop(n)) for n in (1, 2, 3, 4)],
    (rules.a_run_is_logged_and_ends, lambda t: properties(t, "Maintenance").pop("LoggingConfiguration")),
    (rules.a_run_is_logged_and_ends, lambda t: properties(t, "Maintenance")["LoggingConfiguration"].update(Level="OFF")),
    (rules.a_run_is_logged_and_ends, lambda t: redefine(t, lambda d: d.pop("TimeoutSeconds"))),
    (rules.a_run_is_logged_and_ends, lambda t: redefine(t, lambda d: d["States"]["Merge"].pop("TimeoutSeconds"))),
    (rules.a_run_is_logged_and_ends, lambda t: redefine(t, lambda d: d["States"]["Merge"].pop("Retry"))),
    (rules.a_run_is_logged_and_ends, lambda t: redefine(t, lambda d: d["States"]["Vacuum"]["Retry"][0].update(MaxAttempts=99999))),
]
LIVE_MISTAKES = [
    *[(rules.everything_is_encrypted_with_the_key, lambda t, name=name, place=place: properties(t, name).pop(place))
      for name, place in [("FailureQueue", "KmsMasterKeyId"), ("IndexerLog", "KmsKeyId"), ("MasterSecret", "KmsKeyId"),
                          ("Domain", "EncryptionAtRestOptions"), ("DomainAuditLog", "KmsKeyId"), ("Indexer", "KmsKeyArn")]],
    (rules.no_action_is_a_wildcard, lambda t: properties(t, "DomainLogPolicy")["PolicyDocument"].update(
        {"Fn::Sub": properties(t, "DomainLogPolicy")["PolicyDocument"]["Fn::Sub"].replace("logs:CreateLogStream", "logs:*")})),
    (rules.no_action_is_a_wildcard, lambda t: policy(t, "IndexerRole", 5).update(Action=["es:ESHttp*"])),
    (rules.no_role_reaches_everything, lambda t: policy(t, "AlertRole").update(Resource="*")),
    (rules.no_principal_is_everyone, lambda t: viewers(t).pop("Condition")),
    (rules.no_principal_is_everyone, lambda t: viewers(t).update(Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})),
    (rules.no_principal_is_everyone, lambda t: properties(t, "AlertRole")["AssumeRolePolicyDocument"]["Statement"][0].pop("Condition")),
    (rules.failures_reach_somebody, lambda t: properties(t, "IndexerLateAlarm").pop("AlarmActions")),
    *[(rules.what_can_fail_is_alarmed, lambda t, name=name: t["Resources"].pop(name))
      for name in ("FailureQueueAlarm", "LinesSetAsideAlarm", "IndexerLateAlarm", "IndexerErrorsAlarm", "DomainRedAlarm",
                   "DomainBlockedAlarm", "DomainKeyAlarm", "DomainSpaceAlarm")],
    (rules.a_bad_record_blocks_no_shard, lambda t: properties(t, "IndexerInput").pop("FunctionResponseTypes")),
    (rules.a_bad_record_blocks_no_shard, lambda t: properties(t, "IndexerInput").update(BisectBatchOnFunctionError=False)),
    (rules.a_bad_record_blocks_no_shard, lambda t: properties(t, "IndexerInput").pop("MaximumRecordAgeInSeconds")),
    (rules.a_bad_record_blocks_no_shard, lambda t: properties(t, "IndexerInput").update(MaximumRecordAgeInSeconds=-1)),
    (rules.a_bad_record_blocks_no_shard, lambda t: t["Parameters"]["RecordAgeSeconds"].update(MinValue=-1)),
    (rules.a_bad_record_blocks_no_shard, lambda t: properties(t, "IndexerInput").pop("DestinationConfig")),
    (rules.a_window_has_one_reader, lambda t: properties(t, "IndexerInput").update(ParallelizationFactor=2)),
    (rules.a_function_reads_one_stream, lambda t: policy(t, "IndexerRole").update(Resource="arn:aws:kinesis:*:*:stream/*")),
    (rules.a_function_reads_one_stream, lambda t: policy(t, "IndexerRole")["Action"].append("kinesis:PutRecords")),
    (rules.a_function_reads_one_stream, lambda t: policy(t, "IndexerRole", 5).update(Resource={"Fn::Sub": "${Domain.Arn}/*"})),
    (rules.a_domain_keeps_its_door, lambda t: properties(t, "Domain")["DomainEndpointOptions"].update(EnforceHTTPS=False)),
    (rules.a_domain_keeps_its_door,
     lambda t: properties(t, "Domain")["DomainEndpointOptions"].update(TLSSecurityPolicy="Policy-Min-TLS-1-0-2019-07")),
    (rules.a_domain_keeps_its_door, lambda t: properties(t, "Domain").pop("NodeToNodeEncryptionOptions")),
    (rules.a_domain_keeps_its_door, lambda t: properties(t, "Domain")["AdvancedSecurityOptions"].update(Enabled=False)),
    (rules.a_domain_keeps_its_door,
     lambda t: properties(t, "Domain")["AdvancedSecurityOptions"]["MasterUserOptions"].update(MasterUserPassword="Secret-1")),
    (rules.a_domain_keeps_its_door, lambda t: properties(t, "Domain").pop("AccessPolicies")),
    (rules.a_domain_logs_no_values, lambda t: properties(t, "Domain")["LogPublishingOptions"].update(SEARCH_SLOW_LOGS={"Enabled": True})),
    (rules.a_domain_logs_no_values, lambda t: properties(t, "Domain").pop("LogPublishingOptions")),
]
EVENTS_MISTAKES = [
    (rules.partitions_are_of_single_lines, lambda t: s3(t).update(Prefix="${Prefix}app_events/day=!{partitionKeyFromQuery:day}/")),
    (rules.partitions_are_where_the_table_looks,
     lambda t: s3(t).update(Prefix="${Prefix}app_events/name=!{partitionKeyFromQuery:event_name}/date=!{partitionKeyFromQuery:date}/")),
    (rules.errors_are_kept_by_their_kind, lambda t: s3(t).update(ErrorOutputPrefix="${Prefix}app_events/!{firehose:error-output-type}/")),
    (rules.everything_is_encrypted_with_the_key, lambda t: properties(t, "Stream").pop("StreamEncryption")),
    (rules.failures_reach_somebody, lambda t: t["Resources"].pop("ErrorObjectRule")),
    (rules.what_can_fail_is_alarmed, lambda t: t["Resources"].pop("DeliveryErrorsAlarm")),
]
MISTAKES = [(rule, stack, mistake)
            for stack, made in [("lake", LAKE_MISTAKES), ("curated", CURATED_MISTAKES), ("live", LIVE_MISTAKES), ("events", EVENTS_MISTAKES)]
            for rule, mistake in made]


def viewers(template):
    """The statement of the domain's policy that lets people in."""
    return properties(template, "Domain")["AccessPolicies"]["Statement"][0]


@pytest.mark.parametrize(("rule", "stack", "mistake"), MISTAKES, ids=[f"{rule.__name__}-{n}" for n, (rule, *_) in enumerate(MISTAKES)])
def test_a_rule_sees_the_mistake(rule, stack, mistake):
    template = cfn.load(stack)
    mistake(template)
    assert list(rule(template))


def test_each_rule_was_shown_a_mistake():
    assert {rule for rule, *_ in MISTAKES} == set(rules.RULES)


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


def test_a_domain_that_the_account_has_is_used_instead():
    template = cfn.load("live")
    own = FROM_THE_LAKE | {"ExistingEndpoint": "https://search.example.org", "ExistingDomainArn": "arn:aws:es:ap-south-1:111122223333:domain/mine"}
    indexer = cfn.resolved(template, properties(template, "Indexer"), **own)
    assert indexer["Environment"]["Variables"] == {"OPENSEARCH_ENDPOINT": "https://search.example.org", "READINGS_RETENTION_DAYS": "400"}
    assert policy_resources(template, own) == {f"{own['ExistingDomainArn']}/{call}" for call in ("_bulk", *INDEX_CALLS)}
    made = {name for name, resource in template["Resources"].items() if resource.get("Condition") == "MakeDomain"}
    assert {"Domain", "MasterSecret", "DomainRedAlarm"} <= made
    assert "Domain" not in json.dumps(cfn.resolved(template, template["Outputs"]["Endpoint"]["Value"], **own))


INDEX_CALLS = ("hr-readings-*/_refresh", "hr-readings-*/_search", "hr-minutes-*/_mget")


def policy_resources(template, parameters):
    role = cfn.resolved(template, properties(template, "IndexerRole"), **parameters)
    allowed, = (s for s in rules.statements(role["Policies"]) if "es:ESHttpPost" in s["Action"])
    return set(allowed["Resource"])


@pytest.mark.parametrize(("given", "lets_in"), [("203.0.113.0/24", "203.0.113.0/24"), ("", "192.0.2.0/32")])
def test_the_domains_door_opens_for_nobody_but_who_views(given, lets_in):
    template = cfn.load("live")
    domain = cfn.resolved(template, properties(template, "Domain"), **FROM_THE_LAKE, ViewerCidr=given)
    statement, = domain["AccessPolicies"]["Statement"]
    assert statement["Condition"] == {"IpAddress": {"aws:SourceIp": [lets_in]}}


@pytest.mark.parametrize(("cidr", "taken"), [
    ("", True), ("203.0.113.7/32", True), ("10.0.0.0/8", True), ("0.0.0.0/0", False), ("128.0.0.0/1", False), ("203.0.113.7", False)])
def test_a_viewer_cannot_be_the_world(cidr, taken):
    pattern = cfn.load("live")["Parameters"]["ViewerCidr"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, cidr)) is taken


def test_the_indexer_asks_for_nothing_that_its_role_may_not():
    """Each path that it POSTs to is one that the role names."""
    paths = set()
    for source in sorted((cfn.CLOUD / "indexer/src").glob("*.rs")):
        paths |= set(re.findall(r'format!\("/(?:\{[^}]*\}/)?(_\w+)', source.read_text()))
    assert paths == {"_bulk", "_mget", "_refresh", "_search"}


def test_lines_set_aside_are_counted_by_the_indexers_own_words():
    pattern = properties(cfn.load("live"), "LinesSetAside")["FilterPattern"].strip('"')
    assert any(pattern in source.read_text() for source in (cfn.CLOUD / "indexer/src").glob("*.rs"))
