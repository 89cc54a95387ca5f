-- Resting heart rate per sensor and local day: the lowest mean of five minutes on the clock, each minute measured.
-- Parameters: first and last local day, and whose day it is.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- parameter zone zone Asia/Kolkata
-- Reads: of these days and the one before and after, five columns: about 11 bytes a line.
WITH asked AS (
    SELECT '{zone}' AS zone, DATE '{from}' AS first_day, DATE '{to}' AS last_day
),
stretches AS (
    SELECT sensor_id, CAST(at_timezone(with_timezone(minute, 'UTC'), zone) AS date) AS local_day, first_day, last_day,
        date_add('minute', 0 - (minute(minute) % 5), minute) AS began_at,
        sum(mean * CAST(readings AS double)) / CAST(sum(readings) AS double) AS mean
    FROM hr_minutes
    CROSS JOIN asked
    WHERE "date" BETWEEN CAST(date_add('day', -1, first_day) AS varchar) AND CAST(date_add('day', 1, last_day) AS varchar)
    GROUP BY 1, 2, 3, 4, 5
    HAVING count(*) = 5
)
SELECT sensor_id, local_day, min(mean) AS resting, min_by(began_at, mean) AS began_at
FROM stretches
WHERE local_day BETWEEN first_day AND last_day
GROUP BY sensor_id, local_day
ORDER BY sensor_id, local_day
