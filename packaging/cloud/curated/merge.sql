-- Brings what landed in hr_table into hr_readings: one row per reading_id, gap and state records included.
-- Words: DAYS_BACK; LANDED_AFTER, LANDED_UNTIL, FIRST_DAY, LAST_DAY and MERGED_UNTIL, the answer of watermark.sql.
--   DAYS_BACK = 1, every hour: today and yesterday, only lines whose clock was right from the start. Such a line has one
--     time for ever, so its copies are of its own day, and no other day of either table has to be read.
--   DAYS_BACK = 0, every day: all days and clocks, whatever landed since the last such run: late arrivals, corrected
--     clocks, and what hourly runs missed. Only this run moves the watermark, so no failed or left-out run loses anything.
-- Which copy: the clock to be trusted most, then the earliest time, in the batch as against what is there. So the table
--   is the same whatever the order, number and ending of the runs. One commit: a run that dies changes nothing, and one
--   that finds nothing new makes no snapshot. A reading whose clock was corrected leaves the day of its wrong clock.
-- Landed: when an object came, by its name: Firehose's end in YYYY-MM-DD-HH-MM-SS and a UUID, the time being when the first
--   of its records arrived. An object of a day more than 800 days ahead counts as landed when hr_table first shows it.
--   One that was rewritten (erase-sensor.sh) has to keep, in its name or its folder's, `-` and the time of the youngest that
--   it replaces and `-`. An object without such a time is never merged.
-- Watermark: rows of a run over all days carry MERGED_UNTIL as merged_until; where that is '', other runs over other days of
--   the same landings are to follow. Where hourly runs had brought everything, the rows of the youngest object are written
--   again to carry it. Once erased with its rows it falls back, and nothing is lost.
-- What has no id or no time that can be read stays in hr_table alone.
-- Reads, measured: the lines looked at, about 14 bytes each, and of the curated rows of those days and of those whose clock was
--   not right from the start (copies_day) measured_at, reading_id and clock, 7 bytes each, 12 where the files are small and
--   read whole. With DAYS_BACK = 0 also the footer of every older object: 16 KB and one request. An hourly run over one sensor worn day and night: at most 4 MB.
--   Stands and falls with the condition on "$path" being alone beside the scan: one on a column has every object read whole.
MERGE INTO hr_readings AS kept
USING (
    SELECT *
    FROM (
        SELECT *, row_number() OVER (PARTITION BY reading_id ORDER BY doubt, measured_at, landed DESC) AS copy,
            max(landed) OVER () AS youngest
        FROM (
            SELECT reading_id, gateway_id, sensor_id, session_id, sequence, heart_rate, sensor_contact, energy_expended_kj,
                rr_intervals_ms, sensor_location, mode, record, battery_percent, rssi_dbm, gateway_version, sensors, sensors_streaming,
                queue_depth, queue_oldest_s, disk_free_bytes, gap_reason, gap_readings_lost,
                clock, schema_version,
                CAST(TRY(from_iso8601_timestamp("timestamp") AT TIME ZONE 'UTC') AS timestamp(6)) AS measured_at,
                CAST(TRY(from_iso8601_timestamp(gap_start) AT TIME ZONE 'UTC') AS timestamp(6)) AS gap_start,
                CAST(TRY(from_iso8601_timestamp(gap_end) AT TIME ZONE 'UTC') AS timestamp(6)) AS gap_end,
                IF(clock = 'synchronized' AND "date" = substr("timestamp", 1, 10), TRY(CAST("date" AS date))) AS copies_day,
                CASE clock WHEN 'synchronized' THEN 0 WHEN 'corrected' THEN 1 ELSE 2 END AS doubt,
                CAST(TRY(date_parse(greatest(
                    regexp_extract("$path", '/date=.*-(\d{4}(-\d\d){5})-', 1),
                    date_format(date_parse(regexp_extract("$path", '/date=([^/]+)/', 1), '%Y-%m-%d') - INTERVAL '800' DAY, '%Y-%m-%d-00-00-00')
                ), '%Y-%m-%d-%H-%i-%s')) AS timestamp(6)) AS landed,
                CAST(date_parse(nullif('MERGED_UNTIL', ''), '%Y-%m-%d-%H-%i-%s') AS timestamp(6)) AS merged_until
            FROM hr_table
            WHERE greatest(
                    regexp_extract("$path", '/date=.*-(\d{4}(-\d\d){5})-', 1),
                    date_format(date_parse(regexp_extract("$path", '/date=([^/]+)/', 1), '%Y-%m-%d') - INTERVAL '800' DAY, '%Y-%m-%d-00-00-00')
                ) BETWEEN 'LANDED_AFTER' AND 'LANDED_UNTIL'
                AND "date" BETWEEN 'FIRST_DAY' AND 'LAST_DAY'
                AND (DAYS_BACK = 0 OR clock = 'synchronized'
                    AND "date" BETWEEN CAST(current_date - INTERVAL 'DAYS_BACK' DAY AS varchar) AND CAST(current_date + INTERVAL '1' DAY AS varchar))
        ) AS copies
        WHERE DAYS_BACK = 0 OR measured_at >= CAST(current_date - INTERVAL 'DAYS_BACK' DAY AS timestamp(6))
    ) AS ranked
    WHERE copy = 1
) AS fresh
ON kept.reading_id = fresh.reading_id
    AND (DAYS_BACK = 0 OR kept.measured_at >= CAST(current_date - INTERVAL 'DAYS_BACK' DAY AS timestamp(6)))
    AND (kept.copies_day IS NULL OR kept.copies_day BETWEEN DATE 'FIRST_DAY' AND DATE 'LAST_DAY')
WHEN MATCHED AND fresh.measured_at IS NOT NULL AND (
        fresh.doubt < CASE kept.clock WHEN 'synchronized' THEN 0 WHEN 'corrected' THEN 1 ELSE 2 END
        OR fresh.clock = kept.clock AND fresh.measured_at < kept.measured_at
        OR fresh.clock = kept.clock AND fresh.measured_at = kept.measured_at AND fresh.landed = fresh.youngest
            AND fresh.merged_until IS NOT NULL AND fresh.merged_until IS DISTINCT FROM kept.merged_until
    ) THEN UPDATE SET
        measured_at = fresh.measured_at, heart_rate = fresh.heart_rate, reading_id = fresh.reading_id,
        gateway_id = fresh.gateway_id, sensor_id = fresh.sensor_id, session_id = fresh.session_id,
        sequence = fresh.sequence, sensor_contact = fresh.sensor_contact, energy_expended_kj = fresh.energy_expended_kj,
        rr_intervals_ms = fresh.rr_intervals_ms, sensor_location = fresh.sensor_location, mode = fresh.mode,
        record = fresh.record, battery_percent = fresh.battery_percent, rssi_dbm = fresh.rssi_dbm,
        gateway_version = fresh.gateway_version, sensors = fresh.sensors,
        sensors_streaming = fresh.sensors_streaming, queue_depth = fresh.queue_depth,
        queue_oldest_s = fresh.queue_oldest_s, disk_free_bytes = fresh.disk_free_bytes,
        gap_reason = fresh.gap_reason, gap_start = fresh.gap_start,
        gap_end = fresh.gap_end, gap_readings_lost = fresh.gap_readings_lost, clock = fresh.clock,
        schema_version = fresh.schema_version, copies_day = fresh.copies_day, landed = fresh.landed, merged_until = fresh.merged_until
WHEN NOT MATCHED AND fresh.reading_id IS NOT NULL AND fresh.measured_at IS NOT NULL THEN INSERT (
        measured_at, heart_rate, reading_id, gateway_id, sensor_id, session_id, sequence, sensor_contact,
        energy_expended_kj, rr_intervals_ms, sensor_location, mode, record, battery_percent, rssi_dbm,
        gateway_version, sensors, sensors_streaming, queue_depth, queue_oldest_s, disk_free_bytes,
        gap_reason, gap_start, gap_end, gap_readings_lost, clock, schema_version,
        copies_day, landed, merged_until
    ) VALUES (
        fresh.measured_at, fresh.heart_rate, fresh.reading_id, fresh.gateway_id, fresh.sensor_id, fresh.session_id,
        fresh.sequence, fresh.sensor_contact, fresh.energy_expended_kj, fresh.rr_intervals_ms, fresh.sensor_location,
        fresh.mode, fresh.record, fresh.battery_percent, fresh.rssi_dbm,
        fresh.gateway_version, fresh.sensors, fresh.sensors_streaming, fresh.queue_depth,
        fresh.queue_oldest_s, fresh.disk_free_bytes, fresh.gap_reason,
        fresh.gap_start, fresh.gap_end, fresh.gap_readings_lost, fresh.clock, fresh.schema_version, fresh.copies_day, fresh.landed,
        fresh.merged_until
    )
