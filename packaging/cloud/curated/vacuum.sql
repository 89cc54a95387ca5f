-- Forgets the snapshots older than KEEP_SNAPSHOT_SECONDS (create.sql), and removes the files that only they needed.
-- What was erased is on the disk until then; in a bucket with versions, until the lifecycle rule removes the old version.
-- Reads: metadata. Fails with ICEBERG_VACUUM_MORE_RUNS_NEEDED where one run is not enough: to be run again.
VACUUM hr_readings
