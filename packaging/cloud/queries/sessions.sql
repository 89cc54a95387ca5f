-- Sessions: when each began and ended, how many readings, lowest, mean and highest heart rate.
-- Parameters: first and last UTC day; of a session that crosses them, the part inside.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- Reads: of the days asked for, seven columns: about 11 bytes a line.
WITH asked AS (
    SELECT '{from}' AS first_day, '{to}' AS last_day
)
SELECT session_id, sensor_id, gateway_id, min(began_at) AS began_at, max(ended_at) AS ended_at,
    sum(readings) AS readings, min(lowest) AS lowest,
    CAST(sum(heart_rate_sum) AS double) / CAST(sum(readings) AS double) AS mean, max(highest) AS highest
FROM hr_session_days
CROSS JOIN asked
WHERE "date" BETWEEN first_day AND last_day
GROUP BY session_id, sensor_id, gateway_id
ORDER BY 4, 1
