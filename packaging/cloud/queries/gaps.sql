-- What was not measured, per gateway, sensor and reason: how often, how long, how many readings were lost.
-- Parameters: first and last UTC day on which a gap ended.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- Reads: of the days asked for, seven columns: about 4 bytes a line.
WITH asked AS (
    SELECT '{from}' AS first_day, '{to}' AS last_day
)
SELECT gateway_id, sensor_id, gap_reason, count(*) AS gaps,
    CAST(sum(date_diff('millisecond', began_at, ended_at)) AS double) / 1000e0 AS seconds,
    CAST(max(date_diff('millisecond', began_at, ended_at)) AS double) / 1000e0 AS longest_seconds,
    sum(readings_lost) AS readings_lost
FROM hr_gaps
CROSS JOIN asked
WHERE "date" BETWEEN first_day AND last_day
GROUP BY gateway_id, sensor_id, gap_reason
ORDER BY gateway_id, sensor_id, gap_reason
