"""One sensor's documents in OpenSearch: readings, gap records and minutes."""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from aws_cli import AwsError

INDICES = "hr-readings-*,hr-minutes-*"
MISSING = "ignore_unavailable=true&allow_no_indices=true"
CALL_SECONDS_MAX = 60
TASK_SECONDS_MAX = 3600
POLL_SECONDS = 1


class Index:
    def __init__(self, endpoint: str, sensor: str):
        self.endpoint = endpoint.rstrip("/")
        self.query = {"query": {"term": {"sensor_id": sensor}}}
        words = ":".join(os.environ[name] for name in ("OPENSEARCH_USER", "OPENSEARCH_PASSWORD"))
        self.authorization = "Basic " + base64.b64encode(words.encode()).decode()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.endpoint}/{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": self.authorization})
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS_MAX) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise AwsError(f"{method} {path.partition('?')[0]}: {error}; is this machine inside --viewer?") from error

    def count(self) -> int:
        # What was written a moment ago is to be counted too.
        self.call("POST", f"{INDICES}/_refresh?{MISSING}")
        answer = self.call("POST", f"{INDICES}/_count?{MISSING}", self.query)
        if answer["_shards"]["failed"]:
            raise AwsError("not all of the index can be searched: look at the domain's health")
        return answer["count"]

    def erase(self) -> None:
        way = f"{MISSING}&conflicts=proceed&refresh=true&wait_for_completion=false"
        started = self.call("POST", f"{INDICES}/_delete_by_query?{way}", self.query)
        end = time.monotonic() + TASK_SECONDS_MAX
        while not (task := self.call("GET", f"_tasks/{started['task']}"))["completed"]:
            if time.monotonic() > end:
                raise AwsError(f"the deletion goes on in the domain after {TASK_SECONDS_MAX} s: run this again later")
            time.sleep(POLL_SECONDS)
        if task.get("error") or task["response"]["failures"]:
            raise AwsError("the index could not delete all documents")
        # A deleted document is only marked so until its segment is written anew, which few marks alone would not bring about.
        self._expunge_above(0)
        try:
            self.call("POST", f"{INDICES}/_forcemerge?{MISSING}&only_expunge_deletes=true")
        finally:
            self._expunge_above(None)

    def _expunge_above(self, percent: int | None) -> None:
        """From which share of deleted documents a segment is written anew; `None` is OpenSearch's own."""
        self.call("PUT", f"{INDICES}/_settings?{MISSING}", {"index.merge.policy.expunge_deletes_allowed": percent})
