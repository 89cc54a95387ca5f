#!/usr/bin/env python3
"""Counts or deletes everything in a bucket, old versions and marks of deletion included.

    object_versions.py count BUCKET [PREFIX]
    object_versions.py delete BUCKET [PREFIX]
"""

import sys

from collections.abc import Iterator

from aws_cli import AwsError, aws

OBJECTS_MAX = 1000  # DeleteObjects takes no more in one call.


def answers(bucket: str, prefix: str = "") -> Iterator[dict]:
    """The listing of all versions, page by page as S3 gives it: the CLI's own paging leaves out marks of deletion."""
    more: tuple[str, ...] = ()
    while True:
        answer = aws("s3api", "list-object-versions", "--no-paginate", "--bucket", bucket, "--prefix", prefix, *more)
        yield answer
        if not answer.get("IsTruncated"):
            return
        more = ("--key-marker", answer["NextKeyMarker"], "--version-id-marker", answer.get("NextVersionIdMarker") or "null")


def listed(answer: dict) -> list[dict[str, str]]:
    """Key and version of each entry."""
    entries = (answer.get("Versions") or []) + (answer.get("DeleteMarkers") or [])
    return [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]


def count(bucket: str, prefix: str = "") -> int:
    return sum(len(listed(answer)) for answer in answers(bucket, prefix))


def delete(bucket: str, prefix: str = "") -> None:
    """Asks anew after each thousand: what was deleted is no longer in the list, so a second run goes on from there."""
    gone = 0
    while entries := listed(next(answers(bucket, prefix)))[:OBJECTS_MAX]:
        answer = aws("s3api", "delete-objects", request={"Bucket": bucket, "Delete": {"Objects": entries, "Quiet": True}})
        if errors := answer.get("Errors"):
            first = errors[0]
            raise AwsError(f"{len(errors)} objects could not be deleted; {first['Key']}: {first.get('Code')} {first.get('Message')}")
        gone += len(entries)
        print(f"deleted: {gone} objects", flush=True)


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["count", bucket, *prefix]:
                print(count(bucket, *prefix))
            case ["delete", bucket, *prefix]:
                delete(bucket, *prefix)
            case _:
                sys.exit(__doc__)
    except AwsError as error:
        sys.exit(f"versions.py: {error}")
