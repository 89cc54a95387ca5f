-- Seconds in each heart-rate zone, per sensor: below 60, 70, 80, 90 % of the highest rate, and above.
-- Parameters: first and last UTC day, highest heart rate in bpm.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- parameter highest rate 190
-- A reading stands for the time until the session's next, for 5 s at most: what was not measured is in no zone.
-- Reads: of the days asked for, seven columns: about 11 bytes a line.
WITH asked AS (
    SELECT '{from}' AS first_day, '{to}' AS last_day, CAST({highest} AS double) AS highest
),
spans AS (
    SELECT sensor_id, 100e0 * CAST(heart_rate AS double) / highest AS percent,
        least(5000, coalesce(date_diff('millisecond', measured_at,
            lead(measured_at) OVER (PARTITION BY sensor_id, session_id ORDER BY measured_at, sequence)), 0)) AS span_ms
    FROM hr_readings_unique
    CROSS JOIN asked
    WHERE "date" BETWEEN first_day AND last_day
)
SELECT sensor_id,
    CASE WHEN percent < 60e0 THEN 1 WHEN percent < 70e0 THEN 2 WHEN percent < 80e0 THEN 3 WHEN percent < 90e0 THEN 4 ELSE 5 END AS zone,
    CAST(sum(span_ms) AS double) / 1000e0 AS seconds
FROM spans
GROUP BY 1, 2
ORDER BY 1, 2
