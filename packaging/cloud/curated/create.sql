-- The curated table: one row per reading_id, gap and state records included, in days (partitions) by when it was measured, in UTC.
-- Words: LAKE_BUCKET, LAKE_PREFIX, KEEP_SNAPSHOT_SECONDS.
-- Columns are the wire's fields (src/wire.rs) with times as times: Iceberg knows microseconds, the wire milliseconds.
-- copies_day: the day that every copy of the row is of, or null where a copy may be of another day. A clock that was right from
-- the start gave the reading one time for ever; others, and what lies under the lake's first day though it is older, are looked
-- for on all days. It is a partition, so that a merge opens
-- the days that landed and the few rows of other clocks, and not the whole table.
-- landed: when the object came that the row is from. merged_until: the watermark (watermark.sql), null in a row of the
-- hourly run. Nothing that a query needs to filter on: measured_at alone says which days are read.
-- A DELETE or an UPDATE marks rows in files beside the data; with a threshold of 1, OPTIMIZE rewrites every file with such
-- a mark, so that what was erased is gone once the snapshots before it are. Athena's default would leave a file with one.
CREATE TABLE IF NOT EXISTS hr_readings (
    measured_at timestamp,
    heart_rate int,
    reading_id string,
    gateway_id string,
    sensor_id string,
    session_id string,
    sequence bigint,
    sensor_contact boolean,
    energy_expended_kj int,
    rr_intervals_ms array<double>,
    sensor_location string,
    mode string,
    record string,
    battery_percent int,
    rssi_dbm int,
    gateway_version string,
    sensors int,
    sensors_streaming int,
    queue_depth bigint,
    queue_oldest_s bigint,
    disk_free_bytes bigint,
    gap_reason string,
    gap_start timestamp,
    gap_end timestamp,
    gap_readings_lost bigint,
    clock string,
    schema_version int,
    copies_day date,
    landed timestamp,
    merged_until timestamp
)
PARTITIONED BY (day(measured_at), copies_day)
LOCATION 's3://LAKE_BUCKET/LAKE_PREFIXcurated/hr_readings/'
TBLPROPERTIES (
    'table_type' = 'ICEBERG',
    'format' = 'parquet',
    'write_compression' = 'zstd',
    'optimize_rewrite_delete_file_threshold' = '1',
    'vacuum_max_snapshot_age_seconds' = 'KEEP_SNAPSHOT_SECONDS'
)
