-- Heart-rate variability per sensor and five minutes: RMSSD and SDNN in ms, pNN50 in %, from RR-Intervals.
-- Parameters: first and last UTC day, as '2025-07-15', '2025-07-16'.
-- A difference is taken only between beats that followed each other: not across a missing sequence, a gap record, a new
-- session, or an interval outside 300 to 2000 ms, which counts as an artefact. SDNN is the sample standard deviation;
-- pNN50 is of the successive differences (Shaffer and Ginsberg 2017). A stretch with fewer than 30 of them is left out.
-- sensor_location: what a sensor at the chest measures is an ECG; elsewhere it is optical as a rule, and its numbers are
-- pulse-rate variability, which is near it at rest alone. Null where the sensor does not say where it is worn.
-- Reads: of the days asked for, nine columns: about 13 bytes a line.
WITH asked AS (
    SELECT CAST(? AS varchar) AS first_day, CAST(? AS varchar) AS last_day
),
lines AS (
    SELECT gateway_id, split_part(reading_id, '-', 1) AS epoch, sequence, max(sensor_id) AS sensor_id,
        max(session_id) AS session_id, max(gap_reason) AS gap_reason, arbitrary(rr_intervals_ms) AS rr_intervals_ms,
        max(sensor_location) AS sensor_location,
        CAST(from_iso8601_timestamp(min("timestamp")) AT TIME ZONE 'UTC' AS timestamp(3)) AS measured_at
    FROM hr_table
    CROSS JOIN asked
    WHERE "date" BETWEEN first_day AND last_day
    GROUP BY gateway_id, split_part(reading_id, '-', 1), sequence
),
runs AS (
    SELECT gateway_id, epoch, sequence, sensor_id, session_id, sensor_location, rr_intervals_ms,
        date_add('minute', 0 - (minute(measured_at) % 5), date_trunc('minute', measured_at)) AS began_at,
        -- Constant as long as no sequence is missing, of any sensor.
        sequence - row_number() OVER (PARTITION BY gateway_id, epoch ORDER BY sequence) AS island,
        count(gap_reason) OVER (PARTITION BY gateway_id, epoch, sensor_id ORDER BY sequence) AS gaps_before
    FROM lines
),
beats AS (
    SELECT sensor_id, sensor_location, began_at, rr,
        lag(rr) OVER (
            PARTITION BY gateway_id, epoch, sensor_id, session_id, began_at, island, gaps_before ORDER BY sequence, place
        ) AS before
    FROM runs
    CROSS JOIN UNNEST(rr_intervals_ms) WITH ORDINALITY AS beat (rr, place)
),
judged AS (
    SELECT sensor_id, sensor_location, began_at, rr, CASE WHEN before BETWEEN 300e0 AND 2000e0 THEN rr - before END AS difference
    FROM beats
    WHERE rr BETWEEN 300e0 AND 2000e0
)
SELECT sensor_id, began_at, max(sensor_location) AS sensor_location, count(*) AS beats, count(difference) AS differences,
    sqrt(avg(difference * difference)) AS rmssd, stddev_samp(rr) AS sdnn,
    100e0 * CAST(count_if(abs(difference) > 50e0) AS double) / CAST(count(difference) AS double) AS pnn50
FROM judged
GROUP BY sensor_id, began_at
HAVING count(difference) >= 30
ORDER BY sensor_id, began_at
