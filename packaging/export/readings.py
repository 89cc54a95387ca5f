#!/usr/bin/env python3
"""Readings in the forms that others read: of a directory sink's files, of a synced raw lake, or of `hr-gatewayd queue export`.

    packaging/export/readings.py FORM [FILE or FOLDER ...]      (without any: standard input)

    beats          CSV, a row for each heartbeat
    kubios         text, an RR-Interval in milliseconds a line: --sensor (and --session) say whose
    hrv            CSV, five minutes a row: RMSSD and SDNN after artefact correction, and the share of artefacts
    parquet        the lake's own schema, into --output; needs pyarrow
    open-mhealth   NDJSON: heart-rate 2.0 and rr-interval 1.0 with IEEE 1752.1 headers
    fhir           NDJSON: a FHIR R5 Observation for each minute, of --subject
    tcx            a session as a Garmin training file: --sensor and --session say which

Readings that came twice count once. Plain Python, but for Parquet."""

import argparse
import csv
import gzip
import json
import os
import sys
import uuid
from datetime import datetime, timedelta, timezone
from itertools import groupby
from xml.sax.saxutils import escape

import hrv

# A heart that was heard again after so long is another run of beats.
RUN_PAUSE = timedelta(seconds=3)
WINDOW = timedelta(minutes=5)
WINDOW_BEATS_MIN = 60
NAMESPACE = uuid.UUID("0b1f3c8e-5f0e-5d0f-9a3e-6d1d7d6a2c11")

# As in packaging/cloud/templates/lake/catalogue.yaml.
LAKE = [
    ("timestamp", "string"), ("heart_rate", "int32"), ("reading_id", "string"), ("gateway_id", "string"),
    ("sensor_id", "string"), ("session_id", "string"), ("sequence", "int64"), ("sensor_contact", "bool"),
    ("energy_expended_kj", "int32"), ("rr_intervals_ms", "list<double>"), ("sensor_location", "string"),
    ("mode", "string"), ("record", "string"), ("battery_percent", "int32"), ("rssi_dbm", "int32"),
    ("gateway_version", "string"), ("sensors", "int32"), ("sensors_streaming", "int32"), ("queue_depth", "int64"),
    ("queue_oldest_s", "int64"), ("disk_free_bytes", "int64"),
    ("gap_reason", "string"), ("gap_start", "string"), ("gap_end", "string"), ("gap_readings_lost", "int64"),
    ("clock", "string"), ("schema_version", "int32"),
]


def files(paths):
    for path in paths:
        if os.path.isdir(path):
            for folder, folders, names in os.walk(path):
                folders.sort()
                yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith((".ndjson", ".json", ".gz")))
        else:
            yield path


def lines(paths):
    """Each record once, by sensor and time."""
    seen = {}

    def take(stream, name):
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                seen.setdefault(record["reading_id"], record)
                parse(record["timestamp"])
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"{name}, line {number}: no record of hr-gatewayd ({error})")

    if not paths:
        take(sys.stdin, "standard input")
    for path in files(paths):
        with gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="utf-8") as stream:
            take(stream, path)
    return sorted(seen.values(), key=lambda record: (record["sensor_id"], record["timestamp"], record["sequence"]))


def parse(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def shown(time):
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def beats(records):
    """Rows of (record, time of the beat, interval, whether it follows the one before). The last beat of a reading was
    when it was taken."""
    before = None
    for record in records:
        if "heart_rate" not in record:
            before = None if "gap_reason" in record else before
            continue
        taken, intervals = parse(record["timestamp"]), record.get("rr_intervals_ms", [])
        follows = (
            before is not None
            and before["sensor_id"] == record["sensor_id"]
            and before["session_id"] == record["session_id"]
            and taken - parse(before["timestamp"]) < RUN_PAUSE
        )
        for index, interval in enumerate(intervals):
            at = taken - timedelta(milliseconds=sum(intervals[index + 1 :]))
            yield record, at, interval, follows or index > 0
        before = record


def write_beats(records, out):
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["sensor_id", "session_id", "beat_at", "rr_ms", "follows"])
    for record, at, interval, follows in beats(records):
        rows.writerow([record["sensor_id"], record["session_id"], shown(at), interval, str(follows).lower()])


def write_kubios(records, out):
    sensors = {record["sensor_id"] for record in records if "rr_intervals_ms" in record}
    if len(sensors) > 1:
        sys.exit(f"there are {len(sensors)} sensors; name one with --sensor: {', '.join(sorted(sensors))}")
    for _, _, interval, _ in beats(records):
        out.write(f"{interval:.3f}\n")


def write_hrv(records, out):
    """Windows of a sensor; within one, what did not follow is corrected apart."""
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["sensor_id", "window_start", "source", "beats", "artefact_share", "rmssd_ms", "sdnn_ms"])

    def window(beat):
        record, at = beat[0], beat[1]
        return record["sensor_id"], at - (at - datetime.min.replace(tzinfo=timezone.utc)) % WINDOW

    for (sensor, start), inside in groupby(beats(records), window):
        inside = list(inside)
        runs = []
        for _, _, interval, follows in inside:
            if not follows or not runs:
                runs.append([])
            runs[-1].append(interval)
        corrected = [hrv.correct(run) for run in runs]
        share = sum(count for _, count in corrected) / len(inside)
        locations = {record.get("sensor_location") for record, *_ in inside}
        source = "ecg" if locations == {"chest"} else "unknown" if locations == {None} else "optical"
        row = [sensor, shown(start), source, len(inside), f"{share:.3f}", "", ""]
        if len(inside) >= WINDOW_BEATS_MIN and share <= hrv.ARTEFACT_SHARE_MAX:
            squares = [(b - a) ** 2 for run, _ in corrected for a, b in zip(run, run[1:])]
            every = [interval for run, _ in corrected for interval in run]
            mean = sum(every) / len(every)
            row[5] = f"{(sum(squares) / len(squares)) ** 0.5:.1f}" if squares else ""
            row[6] = f"{(sum((rr - mean) ** 2 for rr in every) / (len(every) - 1)) ** 0.5:.1f}"
        rows.writerow(row)


def write_parquet(records, output):
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit("Parquet needs pyarrow: pip install pyarrow")
    types = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "bool": pa.bool_(), "list<double>": pa.list_(pa.float64())}
    schema = pa.schema([(name, types[kind]) for name, kind in LAKE])
    pq.write_table(pa.Table.from_pylist(records, schema=schema), output, compression="zstd")


def open_mhealth(record, kind, version, at, body):
    return {
        "header": {
            "uuid": str(uuid.uuid5(NAMESPACE, f"{record['reading_id']} {kind} {at}")),
            "schema_id": {"namespace": "omh", "name": kind, "version": version},
            "source_creation_date_time": record["timestamp"],
            "modality": "sensed",
        },
        "body": {"effective_time_frame": {"date_time": at}, **body},
    }


def write_open_mhealth(records, out):
    for record in records:
        if "heart_rate" in record:
            rate = {"heart_rate": {"unit": "beats/min", "value": record["heart_rate"]}}
            json.dump(open_mhealth(record, "heart-rate", "2.0", record["timestamp"], rate), out)
            out.write("\n")
    for record, at, interval, _ in beats(records):
        body = {"rr_interval": {"unit": "ms", "value": interval}}
        json.dump(open_mhealth(record, "rr-interval", "1.0", shown(at), body), out)
        out.write("\n")


def write_fhir(records, out, subject):
    if not subject:
        sys.exit("whose heart it is: --subject Patient/ID")
    readings = [record for record in records if "heart_rate" in record]
    for (sensor, minute), inside in groupby(readings, lambda record: (record["sensor_id"], record["timestamp"][:16])):
        rates = [record["heart_rate"] for record in inside]
        start = datetime.strptime(minute, "%Y-%m-%dT%H:%M")
        observation = {
            "resourceType": "Observation",
            "id": str(uuid.uuid5(NAMESPACE, f"{subject} {sensor} {minute}")),
            "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
            "subject": {"reference": subject},
            "effectivePeriod": {"start": f"{minute}:00Z", "end": (start + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")},
            "valueQuantity": {
                "value": round(sum(rates) / len(rates), 1), "unit": "beats/minute",
                "system": "http://unitsofmeasure.org", "code": "/min",
            },
            "device": {"display": sensor},
            "note": [{"text": f"mean of {len(rates)} readings, {min(rates)} to {max(rates)} per minute"}],
        }
        json.dump(observation, out)
        out.write("\n")


def write_tcx(records, out):
    readings = [record for record in records if record.get("heart_rate", 0) in range(1, 256)]
    sessions = {(record["sensor_id"], record["session_id"]) for record in readings}
    if len(sessions) != 1:
        found = "".join(f"\n  --sensor {sensor} --session {session}" for sensor, session in sorted(sessions))
        sys.exit(f"a training file is of one session; here are {len(sessions)}:{found}")
    first, last = readings[0]["timestamp"], readings[-1]["timestamp"]
    seconds = (parse(last) - parse(first)).total_seconds()
    points = "".join(
        f"<Trackpoint><Time>{record['timestamp']}</Time><HeartRateBpm><Value>{record['heart_rate']}</Value></HeartRateBpm></Trackpoint>\n"
        for record in readings
    )
    out.write(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"><Activities>'
        f'<Activity Sport="Other"><Id>{first}</Id><Lap StartTime="{first}"><TotalTimeSeconds>{seconds}</TotalTimeSeconds>'
        "<DistanceMeters>0</DistanceMeters><Calories>0</Calories><Intensity>Active</Intensity><TriggerMethod>Manual</TriggerMethod>"
        f"<Track>\n{points}</Track></Lap><Notes>{escape(readings[0]['sensor_id'])}</Notes></Activity></Activities>"
        "</TrainingCenterDatabase>\n"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=["beats", "kubios", "hrv", "parquet", "open-mhealth", "fhir", "tcx"])
    parser.add_argument("paths", nargs="*", metavar="FILE or FOLDER")
    parser.add_argument("--sensor", help="only this sensor's")
    parser.add_argument("--session", help="only this session's")
    parser.add_argument("--subject", help="for fhir: the patient's reference, Patient/ID")
    parser.add_argument("--output", help="the file; by default standard output")
    options = parser.parse_args(arguments)
    # Health data: its owner's alone.
    os.umask(0o077)
    records = [
        record for record in lines(options.paths)
        if options.sensor in (None, record["sensor_id"]) and options.session in (None, record["session_id"])
    ]
    if not records:
        sys.exit("there is no such record")
    if options.form == "parquet":
        if not options.output:
            sys.exit("Parquet is written into a file: --output FILE")
        return write_parquet(records, options.output)
    out = open(options.output, "w", encoding="utf-8") if options.output else sys.stdout
    write = {"beats": write_beats, "kubios": write_kubios, "hrv": write_hrv, "open-mhealth": write_open_mhealth, "tcx": write_tcx}
    if options.form == "fhir":
        write_fhir(records, out, options.subject)
    else:
        write[options.form](records, out)
    out.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
