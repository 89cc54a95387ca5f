-- The table of the form redshift: once, in the database that JdbcUrl names, before the stack. Its columns are the wire's fields.
-- COPY with JSON 'auto' finds them by name; a field that is not here is left out, one that a line has not is NULL.
-- rr_intervals_ms is SUPER: JSON 'auto' puts an array there. A line that came twice is twice in it; hr_readings_unique is once each.
-- The secret's user needs: GRANT INSERT ON hr_readings TO user.
-- By hand, for objects that a manifest under .../errors/manifests/ lists:
--   COPY hr_readings FROM 's3://BUCKET/MANIFEST' IAM_ROLE 'ROLE' MANIFEST JSON 'auto' GZIP TIMEFORMAT 'auto';
CREATE TABLE hr_readings (
    "timestamp" TIMESTAMPTZ NOT NULL,
    heart_rate INTEGER,
    reading_id VARCHAR(64) NOT NULL,
    gateway_id VARCHAR(128) NOT NULL,
    sensor_id VARCHAR(128) NOT NULL,
    session_id VARCHAR(64) NOT NULL,
    sequence BIGINT NOT NULL,
    sensor_contact BOOLEAN,
    energy_expended_kj INTEGER,
    rr_intervals_ms SUPER,
    sensor_location VARCHAR(32),
    mode VARCHAR(32),
    record VARCHAR(16),
    battery_percent INTEGER,
    rssi_dbm INTEGER,
    gateway_version VARCHAR(32),
    sensors INTEGER,
    sensors_streaming INTEGER,
    queue_depth BIGINT,
    queue_oldest_s BIGINT,
    disk_free_bytes BIGINT,
    gap_reason VARCHAR(32),
    gap_start TIMESTAMPTZ,
    gap_end TIMESTAMPTZ,
    gap_readings_lost BIGINT,
    clock VARCHAR(32) NOT NULL,
    schema_version INTEGER NOT NULL
)
DISTKEY (sensor_id)
SORTKEY ("timestamp");

CREATE VIEW hr_readings_unique AS
SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY reading_id ORDER BY "timestamp") AS nth FROM hr_readings
) AS numbered
WHERE nth = 1;
