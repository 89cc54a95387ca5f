-- One row per gap record: from when to when there was nothing to measure, or readings were lost, and why.
-- Reads: of the days asked for (the day a gap ended), seven columns. Filter on "date".
-- column date varchar
-- column reading_id varchar
-- column gateway_id varchar
-- column sensor_id varchar
-- column sequence bigint
-- column gap_reason varchar
-- column began_at timestamp(3)
-- column ended_at timestamp(3)
-- column readings_lost bigint
SELECT "date", reading_id, max(gateway_id) AS gateway_id, max(sensor_id) AS sensor_id, max(sequence) AS sequence,
    max(gap_reason) AS gap_reason,
    max(CAST(TRY(from_iso8601_timestamp(gap_start)) AT TIME ZONE 'UTC' AS timestamp(3))) AS began_at,
    max(CAST(TRY(from_iso8601_timestamp(gap_end)) AT TIME ZONE 'UTC' AS timestamp(3))) AS ended_at,
    max(coalesce(gap_readings_lost, 0)) AS readings_lost
FROM hr_table
WHERE gap_reason IS NOT NULL
GROUP BY "date", reading_id
