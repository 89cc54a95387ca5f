"""What a delivery must keep to that goes elsewhere than into the lake. Pure, as rules.py is; all stacks are held to these too."""

import json
import re
from collections.abc import Iterator
from typing import Any

import rules
from rules import Rule, Template, as_text, of_type

# The setting of a destination that is not S3, and what keeps what it refuses; a COPY's objects lie on S3 already.
BACKED_UP = {
    "AmazonopensearchserviceDestinationConfiguration": {"FailedDocumentsOnly", "AllDocuments"},
    "SplunkDestinationConfiguration": {"FailedEventsOnly", "AllEvents"},
    "RedshiftDestinationConfiguration": {"Disabled", "Enabled"},
}
WITH_A_SECRET = ("SplunkDestinationConfiguration", "RedshiftDestinationConfiguration")
CREDENTIALS = {"AccessKey", "HECToken", "Password", "Username"}


def destinations(template: Template) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Of each delivery its stream's name, its destination's kind and settings, and how it writes to S3."""
    for name, properties in of_type(template, "AWS::KinesisFirehose::DeliveryStream"):
        for kind, settings in properties.items():
            if kind.endswith("DestinationConfiguration"):
                yield name, kind, settings, settings.get("S3Configuration", {}) if kind in BACKED_UP else settings


def what_is_refused_is_kept(template: Template) -> Iterator[str]:
    """What a destination refuses lands on S3, with the key and apart from what it took, and both ways are logged."""
    for name, kind, settings, on_s3 in destinations(template):
        if kind in BACKED_UP:
            if settings.get("S3BackupMode") not in BACKED_UP[kind] or "BucketARN" not in on_s3:
                yield f"{name}: forgets what was refused"
            if not rules.with_the_key(on_s3.get("EncryptionConfiguration")):
                yield f"{name}: keeps without the key what was refused"
            if not re.match(r"\$\{Prefix\}\w+_errors/", as_text(on_s3.get("ErrorOutputPrefix", ""))):
                yield f"{name}: keeps its errors elsewhere"
            if not all(one.get("CloudWatchLoggingOptions", {}).get("Enabled") for one in (settings, on_s3)):
                yield f"{name}: fails in silence"


def errors_are_replayed_to_no_other_reader(template: Template) -> Iterator[str]:
    """replay.sh puts all that lies under errors/ on the stream: what one more reader refused would come to every reader again."""
    for name, properties in of_type(template, "AWS::KinesisFirehose::DeliveryStream"):
        one_more = properties["KinesisStreamSourceConfiguration"]["KinesisStreamARN"] == {"Ref": "StreamArn"}
        written = re.findall(r"\$\{Prefix\}errors/", json.dumps(properties))
        if one_more and written:
            yield f"{name}: its errors would be replayed"


def a_secret_is_in_no_parameter(template: Template) -> Iterator[str]:
    """Passwords and tokens come from Secrets Manager at each connection; a parameter would show them to whoever reads the stack."""
    for name in template["Parameters"]:
        if re.search(r"password|token|secret", name, re.IGNORECASE) and not name.endswith("Arn"):
            yield f"{name}: is a secret in a parameter"
    for name, kind, settings, _ in destinations(template):
        if CREDENTIALS & settings.keys():
            yield f"{name}: has its credentials in the template"
        secret = settings.get("SecretsManagerConfiguration", {})
        if kind in WITH_A_SECRET and (secret.get("Enabled") is not True or "SecretARN" not in secret):
            yield f"{name}: takes its credentials from no secret"


def open_search_gets_single_lines(template: Template) -> Iterator[str]:
    """Firehose takes records apart only for dynamic partitions on S3: several lines would be one document, which OpenSearch refuses."""
    for name, kind, *_ in destinations(template):
        if kind.startswith("Amazonopensearch"):
            asserted = json.dumps([rule["Assertions"] for rule in template.get("Rules", {}).values()])
            if '{"Fn::Equals": [{"Ref": "LinesPerRecord"}, "one"]}' not in asserted:
                yield f"{name}: takes records that the domain refuses"


def parted_lines_end_again(template: Template) -> Iterator[str]:
    """De-aggregation takes the newlines away: as JSON, the lines of an object would be one ("Apply dynamic partitioning to aggregated
    data"). A function ends what it writes itself."""
    for name, settings in rules.deliveries(template):
        kinds, as_json = rules.processors(settings).keys(), "DataFormatConversionConfiguration" not in settings
        if as_json and "RecordDeAggregation" in kinds and not kinds & {"AppendDelimiterToRecord", "Lambda"}:
            yield f"{name}: writes its lines without an end"


def less_than_the_key_is_asked_for(template: Template) -> Iterator[str]:
    """S3's own keys are taken only where a parameter asks for them, whose default is the key; and then in a bucket for that."""
    asks = {"Fn::Equals": [{"Ref": "Encryption"}, "s3"]}
    asked = {name for name, test in template.get("Conditions", {}).items() if asks in test.get("Fn::And", [])}
    for name in rules.left_to_s3(template):
        if template["Resources"][name].get("Condition") not in asked:
            yield f"{name}: is without the key unasked"
        if template["Parameters"].get("Encryption", {}).get("Default") != "key":
            yield f"{name}: is without the key by default"
    for name, properties in of_type(template, "AWS::KinesisFirehose::DeliveryStream"):
        text = json.dumps(properties)
        if set(re.findall(r'(?:"Fn::If": \["(\w+)", )?\{"NoEncryptionConfig"', text)) - asked:
            yield f"{name}: delivers without the key unasked"


RULES: list[Rule] = [
    what_is_refused_is_kept, errors_are_replayed_to_no_other_reader, a_secret_is_in_no_parameter, open_search_gets_single_lines,
    parted_lines_end_again, less_than_the_key_is_asked_for,
]
