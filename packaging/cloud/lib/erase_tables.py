"""One sensor's rows in the tables: the landed Parquet (the lake's table) and the curated Iceberg table, by Athena.

What must hold: what replaces a landed object keeps the time in its name, by which the curated table's MERGE finds it
(curated/merge.sql); the object goes only after its replacement is there; while snapshots are expired at once, no other
writer is at the table, or its files would be taken for leftovers.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import render
from aws_cli import AwsError, aws
from erase_objects import delete_all, delete_object
from object_versions import answers

POLL_SECONDS = float(os.environ.get("HR_POLL_SECONDS", "2"))
QUERY_SECONDS_MAX = 3600
MAINTENANCE_SECONDS_MAX = 4 * 3600
RUNS_MAX = 50  # OPTIMIZE and VACUUM do a part, and say that more is to be done.
EXPIRE_SECONDS = 1  # For this one VACUUM.
SNAPSHOT_SECONDS_USUAL = 432_000  # Athena's own.
LIST_LAG_SECONDS = 8 * POLL_SECONDS  # The list of executions does not show a new one at once.
AHEAD_DAYS = 800  # As the table shows them (templates/lake/catalogue.yaml).
CURATED = "curated/hr_readings/"  # Below the lake's prefix, as is the landed data.


def ask(sql: str, *parameters: str) -> list[list[str]]:
    """The statement's rows."""
    request: dict[str, Any] = {
        "QueryString": sql, "WorkGroup": os.environ["WORK_GROUP"],
        "QueryExecutionContext": {"Database": os.environ["LAKE_DATABASE"]}}
    if parameters:
        request["ExecutionParameters"] = [f"'{one}'" for one in parameters]
    run = aws("athena", "start-query-execution", request=request)["QueryExecutionId"]
    end = time.monotonic() + QUERY_SECONDS_MAX
    while True:
        status = aws("athena", "get-query-execution", "--query-execution-id", run)["QueryExecution"]["Status"]
        if status["State"] == "SUCCEEDED":
            break
        if status["State"] in ("FAILED", "CANCELLED") or time.monotonic() > end:
            raise AwsError(f"Athena: {status.get('StateChangeReason', status['State'])}")
        time.sleep(POLL_SECONDS)
    if not sql.startswith("SELECT"):
        return []
    rows = aws("athena", "get-query-results", "--query-execution-id", run)["ResultSet"]["Rows"]
    return [[cell.get("VarCharValue", "") for cell in row["Data"]] for row in rows[1:]]


def repeatedly(sql: str) -> None:
    for _ in range(RUNS_MAX):
        try:
            ask(sql)
            return
        except AwsError as error:
            if "MORE_RUNS_NEEDED" not in str(error):
                raise
    raise AwsError(f"still not done after {RUNS_MAX} runs: {sql.split()[0]}")


def statement(name: str) -> str:
    return render.body((render.CLOUD / "curated" / name).read_text()).rstrip(";")


class Tables:
    def __init__(self, sensor: str):
        self.sensor, self.prefix = sensor, os.environ["LAKE_PREFIX"]
        self.bucket, self.database, self.table = (os.environ[name] for name in ("LAKE_BUCKET", "LAKE_DATABASE", "LAKE_TABLE"))

    def landed(self) -> int:
        self._refuse_hidden_days()
        return int(ask(f"SELECT count(*) FROM {self.table} WHERE sensor_id = ?", self.sensor)[0][0])

    def _refuse_hidden_days(self) -> None:
        """A clock that ran ahead lands readings on days that the table does not show yet."""
        shown = (os.environ["FIRST_DAY"], time.strftime("%Y-%m-%d", time.gmtime(time.time() + AHEAD_DAYS * 86_400)))
        listed = aws("s3api", "list-objects-v2", "--bucket", self.bucket, "--prefix", f"{self.prefix}heart_rate_data/date=", "--delimiter", "/")
        folders = [one["Prefix"] for one in listed.get("CommonPrefixes") or []]
        hidden = [folder for folder in folders if not shown[0] <= folder.partition("=")[2].rstrip("/") <= shown[1]]
        if hidden:
            raise AwsError(f"the table shows {shown[0]} to {shown[1]} only, and there is {', '.join(hidden[:5])}: look there by hand")

    def has_curated(self) -> bool:
        """Whether there is, or was, a curated table whose files are still there."""
        return self._curated_exists() or any(answer.get("Versions") for answer in answers(self.bucket, self.prefix + CURATED))

    def curated(self) -> int:
        if not self._curated_exists():
            if self.has_curated():
                raise AwsError(f"{self.prefix}{CURATED} holds files of a table that is gone: run deploy.sh with the curated stack, or delete that folder")
            return 0
        return int(ask("SELECT count(*) FROM hr_readings WHERE sensor_id = ?", self.sensor)[0][0])

    def erase_landed(self) -> None:
        paths = [row[0] for row in ask(f'SELECT DISTINCT "$path" FROM {self.table} WHERE sensor_id = ?', self.sensor)]
        if not paths:
            return
        if os.environ["STATE_MACHINE"]:
            run_maintenance()  # What lies longer than MERGE looks back is in the curated table before it is touched.
        described = aws("glue", "get-table", "--database-name", self.database, "--name", self.table)["Table"]
        columns = ", ".join(f'"{column["Name"]}"' for column in described["StorageDescriptor"]["Columns"])
        for path in paths:
            self._rewrite(path, columns)

    def _rewrite(self, path: str, columns: str) -> None:
        """The same day, in a folder of its own: UNLOAD writes only where nothing is."""
        key = path.removeprefix(f"s3://{self.bucket}/")
        landed = re.findall(r"-\d{4}(?:-\d\d){5}-", key)
        name = hashlib.sha256(f"{self.sensor} {key}".encode()).hexdigest()[:16]
        folder = f"{key.rpartition('/')[0]}/rewritten{landed[-1] if landed else '-'}{name}/"
        # What an earlier, interrupted run left there would come twice.
        delete_all(self.bucket, folder)
        quoted = path.replace("'", "''")
        others = f"WHERE \"$path\" = '{quoted}' AND sensor_id IS DISTINCT FROM '{self.sensor}'"
        expected = self._lines(others)
        ask(f"UNLOAD (SELECT {columns} FROM {self.table} {others}) "
            f"TO 's3://{self.bucket}/{folder}' WITH (format = 'PARQUET', compression = 'GZIP')")
        quoted_folder = f"s3://{self.bucket}/{folder}".replace("'", "''")
        written = self._lines(f"WHERE starts_with(\"$path\", '{quoted_folder}')")
        if written != expected:
            raise AwsError(f"{key} holds {expected} lines of others, its replacement {written}: it stays. Is another erasure under way?")
        delete_object(self.bucket, key)

    def _lines(self, condition: str) -> int:
        return int(ask(f"SELECT count(*) FROM {self.table} {condition}")[0][0])

    def erase_curated(self) -> None:
        if not self._curated_exists():
            return
        wait_until_idle()
        ask(statement("erase.sql").replace("SENSOR_ID", self.sensor))
        repeatedly(statement("optimize.sql"))
        self._keep_snapshots(EXPIRE_SECONDS)
        try:
            time.sleep(EXPIRE_SECONDS + 1)
            repeatedly(statement("vacuum.sql"))
        finally:
            self._keep_snapshots(int(os.environ["SNAPSHOT_SECONDS"] or SNAPSHOT_SECONDS_USUAL))
        # The bucket keeps versions: what VACUUM deleted is still there.
        delete_all(self.bucket, self.prefix + CURATED, old_only=True)

    def _keep_snapshots(self, seconds: int) -> None:
        ask(f"ALTER TABLE hr_readings SET TBLPROPERTIES ('vacuum_max_snapshot_age_seconds' = '{seconds}')")

    def _curated_exists(self) -> bool:
        """The first run of the maintenance makes it."""
        try:
            aws("glue", "get-table", "--database-name", self.database, "--name", "hr_readings")
        except AwsError as error:
            if "EntityNotFound" in str(error):
                return False
            raise
        return True


def run_maintenance() -> None:
    """A run of the state machine over all days, to its end."""
    machine = os.environ["STATE_MACHINE"]
    run = aws("stepfunctions", "start-execution", "--state-machine-arn", machine, "--input", '{"tidy": true}')["executionArn"]
    end = time.monotonic() + MAINTENANCE_SECONDS_MAX
    while (status := aws("stepfunctions", "describe-execution", "--execution-arn", run)["status"]) == "RUNNING":
        if time.monotonic() > end:
            aws("stepfunctions", "stop-execution", "--execution-arn", run)
            raise AwsError("the curated table's maintenance does not end, and was stopped")
        time.sleep(POLL_SECONDS)
    if status != "SUCCEEDED":
        raise AwsError(f"the curated table's maintenance ended as {status}; status.sh says more. Nothing that is not merged is rewritten")


def wait_until_idle() -> None:
    """No run of the state machine is under way."""
    if not os.environ["STATE_MACHINE"]:
        return
    time.sleep(LIST_LAG_SECONDS)
    end = time.monotonic() + MAINTENANCE_SECONDS_MAX
    running = ("--state-machine-arn", os.environ["STATE_MACHINE"], "--status-filter", "RUNNING")
    while aws("stepfunctions", "list-executions", *running).get("executions"):
        if time.monotonic() > end:
            raise AwsError("the curated table's maintenance does not end")
        time.sleep(POLL_SECONDS)


@contextmanager
def maintenance_paused() -> Iterator[None]:
    """No scheduled run begins, and none is under way. Switched on again at the end, whatever happened."""
    machine = os.environ["STATE_MACHINE"]
    if not machine:
        yield
        return
    group = machine.rpartition(":")[2]
    names = [one["Name"] for one in aws("scheduler", "list-schedules", "--group-name", group)["Schedules"]]
    try:
        for name in names:
            switch(group, name, "DISABLED")
        wait_until_idle()
        yield
    finally:
        for name in names:
            switch(group, name, "ENABLED")


def switch(group: str, name: str, state: str) -> None:
    """A schedule can only be written as a whole."""
    known = aws("scheduler", "get-schedule", "--group-name", group, "--name", name)
    keep = ("Name", "GroupName", "Description", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow",
            "Target", "StartDate", "EndDate", "KmsKeyArn", "ActionAfterCompletion")
    aws("scheduler", "update-schedule", request={key: known[key] for key in keep if known.get(key) is not None} | {"State": state})
