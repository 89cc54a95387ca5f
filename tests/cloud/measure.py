"""JSON against Parquet on a fleet of 700,000 readings, 1 % of them twice: prints the tables of packaging/cloud/README.md.

Bytes read are those of the column chunks that a reader must touch: Trino's plan says which columns and which days, the
files' own metadata how long their chunks are. JSON has no columns: a reader touches the whole of the days asked for.
What the curated table's runs read and take is what Trino counted; it reads what lies between two chunks with them.
"""

import gzip
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

import fleet
import lake
import template as cfn

GATEWAYS, SENSORS_EACH, SECONDS, DAYS = 5, 2, 7_000, 10
FIRST = datetime(2025, 7, 1, 6, 0, tzinfo=UTC)
BUFFER_S = 900
PARAMETERS = {
    "heart_rate_range": ["2025-07-05 06:00", "2025-07-05 07:00", "UTC"],
    "zones": ["2025-07-05", "2025-07-05", 190],
    "resting_rate": ["2025-07-05", "2025-07-05", "UTC"],
    "ledger": ["2025-07-01", "2025-07-10"],
    "missing_sequences": ["2025-07-01", "2025-07-10"],
}


def buffers():
    """What arrives in each of Firehose's intervals."""
    random_ = random.Random(700_000)
    gateways = [fleet.Gateway(f"gateway-{n}", f"{n:016x}") for n in range(GATEWAYS)]
    for day in range(DAYS):
        hearts = [[fleet.heart(random_, random_.uniform(60, 150)) for _ in range(SENSORS_EACH)] for _ in gateways]
        for gateway in gateways:
            gateway.sessions.clear()
        for second in range(SECONDS):
            time = FIRST + timedelta(days=day, seconds=second)
            for gateway, own in zip(gateways, hearts, strict=True):
                for n, heart in enumerate(own):
                    bpm, rr = next(heart)
                    moment = time + timedelta(milliseconds=random_.randrange(900))
                    gateway.line(f"{gateway.name}-sensor-{n}", moment, heart_rate=bpm, sensor_contact=True,
                                 **({"rr_intervals_ms": rr} if rr else {}))
            if (second + 1) % BUFFER_S == 0 or second + 1 == SECONDS:
                lines = [line for gateway in gateways for line in gateway.lines]
                lines += random_.sample(lines, len(lines) // 100)
                for gateway in gateways:
                    gateway.lines.clear()
                yield lines


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        firehose = lake.Firehose(root)
        plain: dict[str, int] = {}
        zipped = objects = arrived = 0
        for lines in buffers():
            records = list(fleet.records(lines))
            firehose.deliver(records, datetime.fromisoformat(lines[0]["timestamp"]))
            text = b"".join(records)
            day = lines[0]["timestamp"][:10]
            plain[day] = plain.get(day, 0) + len(text)
            zipped += len(gzip.compress(text, 6))
            objects += 1
            arrived += len(lines)
        assert not firehose.refused
        files = sorted(root.glob("heart_rate_data/*/*.parquet"))
        stored = sum(path.stat().st_size for path in files)
        print(f"| {arrived:,} lines as | objects | bytes | a line |\n| --- | --- | --- | --- |")
        for name, count, size in [("NDJSON", objects, sum(plain.values())), ("NDJSON, GZIP (raw delivery)", objects, zipped),
                                  (f"Parquet, {firehose.compression}", len(files), stored)]:
            print(f"| {name} | {count} | {size:,} | {size / arrived:.1f} |")
        with lake.Trino(root) as trino:
            curated(trino, files)
            print("\n| query | days | columns | reads of Parquet | of NDJSON | share |\n| --- | --- | --- | --- | --- | --- |")
            for path in cfn.QUERIES:
                sql = lake.filled(path.stem, *PARAMETERS.get(path.stem, ["2025-07-05", "2025-07-05"]))
                (columns, days), = trino.scans(sql)
                read = sum(chunk_bytes(file, columns) for file in files if file.parent.name[5:] in days)
                whole = sum(plain.get(day, 0) for day in days)
                print(f"| `{path.stem}` | {len(set(days) & set(plain))} | {len(columns)} | {read:,} | {whole:,} | {100 * read / whole:.1f} % |")


def curated(trino: lake.Trino, files: list[Path]) -> None:
    """What the curated table's runs read. The hourly runs of the last day come when each of its objects has landed."""
    def state() -> str:
        row, = trino.rows('SELECT count(*) AS n, sum(file_size_in_bytes) AS bytes FROM iceberg.hr_data."hr_readings$files"')
        return f"{row['n']} | {row['bytes'] or 0:,}"

    def run(name: str, days_back: int = 0) -> None:
        answer = trino.merge(days_back)
        print(f"| {name} | {answer['rows'][0][0]:,} | {answer['bytes']:,} | {state()} |")

    last_day = [path for path in files if path.parent.name == files[-1].parent.name]
    aside = {path: path.rename(trino.root / path.name) for path in last_day}
    days_back = (datetime.now(UTC).date() - (FIRST + timedelta(days=DAYS - 2)).date()).days
    trino.create()
    print("\n| run | rows changed | bytes read | files | bytes stored |\n| --- | --- | --- | --- | --- |")
    run("daily, the first: 9 days")
    for n, (path, place) in enumerate(aside.items(), start=1):
        place.rename(path)
        run(f"hourly, object {n} of the last day", days_back)
    run("daily")
    run("daily, nothing new")
    trino.ask("ALTER TABLE iceberg.hr_data.hr_readings EXECUTE optimize")
    print(f"| optimize | 0 | | {state()} |")


def chunk_bytes(path: Path, columns: set[str]) -> int:
    metadata = pq.ParquetFile(path).metadata
    groups = (metadata.row_group(n) for n in range(metadata.num_row_groups))
    chunks = (group.column(n) for group in groups for n in range(group.num_columns))
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


if __name__ == "__main__":
    main()
