-- One row per reading, however often its delivery was repeated; gap and state records are not readings.
-- A repetition is of the same id on the same UTC day: the day stays a filter that prunes. A reading that was sent once
-- before and once after its clock was set may lie on two days; the ledger's ids_on_several_days counts those.
-- Reads: of the days asked for, all columns but the other records' own. Filter on "date".
-- column date varchar
-- column measured_at timestamp(3)
-- column heart_rate integer
-- column reading_id varchar
-- column gateway_id varchar
-- column sensor_id varchar
-- column session_id varchar
-- column sequence bigint
-- column sensor_contact boolean
-- column energy_expended_kj integer
-- column rr_intervals_ms array(double)
-- column sensor_location varchar
-- column mode varchar
-- column clock varchar
SELECT "date", measured_at, heart_rate, reading_id, gateway_id, sensor_id, session_id, sequence, sensor_contact,
    energy_expended_kj, rr_intervals_ms, sensor_location, mode, clock
FROM (
    SELECT "date", heart_rate, reading_id, gateway_id, sensor_id, session_id, sequence, sensor_contact,
        energy_expended_kj, rr_intervals_ms, sensor_location, mode, clock,
        -- Without a zone, in UTC: Athena keeps no view with a zone in a column.
        CAST(from_iso8601_timestamp("timestamp") AT TIME ZONE 'UTC' AS timestamp(3)) AS measured_at,
        row_number() OVER (
            PARTITION BY "date", reading_id
            ORDER BY CASE clock WHEN 'synchronized' THEN 0 WHEN 'corrected' THEN 1 ELSE 2 END, "timestamp"
        ) AS copy
    FROM hr_table
    -- A 0, as optical sensors send it off the skin, is no heart rate.
    WHERE heart_rate > 0
) AS copies
WHERE copy = 1
