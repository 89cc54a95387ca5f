-- Lowest, highest and their difference in a window given in local time, for each sensor.
-- Parameters: from, to (not included), and in which zone they are local times. One that a clock change repeats means the
-- first; one that it leaves out cannot be asked for.
-- parameter from time 2025-07-15 17:00
-- parameter to time 2025-07-15 18:00
-- parameter zone zone Asia/Kolkata
-- Reads: of the UTC days that the window touches, five columns: about 11 bytes a line.
WITH asked AS (
    SELECT with_timezone(from_local, zone) AS from_at, with_timezone(to_local, zone) AS to_at, zone
    FROM (
        SELECT '{zone}' AS zone, CAST(TIMESTAMP '{from}' AS timestamp(3)) AS from_local,
            CAST(TIMESTAMP '{to}' AS timestamp(3)) AS to_local
    ) AS parameters
)
SELECT sensor_id, count(*) AS readings, min(heart_rate) AS lowest, max(heart_rate) AS highest,
    max(heart_rate) - min(heart_rate) AS difference, avg(CAST(heart_rate AS double)) AS mean,
    format_datetime(at_timezone(with_timezone(min(measured_at), 'UTC'), min(zone)), 'yyyy-MM-dd HH:mm:ss') AS first_local,
    format_datetime(at_timezone(with_timezone(max(measured_at), 'UTC'), min(zone)), 'yyyy-MM-dd HH:mm:ss') AS last_local
FROM hr_readings_unique
CROSS JOIN asked
WHERE "date" BETWEEN format_datetime(from_at AT TIME ZONE 'UTC', 'yyyy-MM-dd') AND format_datetime(to_at AT TIME ZONE 'UTC', 'yyyy-MM-dd')
    AND measured_at >= CAST(from_at AT TIME ZONE 'UTC' AS timestamp(3))
    AND measured_at < CAST(to_at AT TIME ZONE 'UTC' AS timestamp(3))
GROUP BY sensor_id
ORDER BY sensor_id
