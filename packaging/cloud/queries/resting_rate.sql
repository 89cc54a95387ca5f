-- Resting heart rate per sensor and local day: the lowest mean of five minutes on the clock, each minute measured.
-- Of several that are as low, the first.
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
),
ranked AS (
    SELECT sensor_id, local_day, mean AS resting, began_at,
        row_number() OVER (PARTITION BY sensor_id, local_day ORDER BY round(mean, 6), began_at) AS place
    FROM stretches
    WHERE local_day BETWEEN first_day AND last_day
)
SELECT sensor_id, local_day, resting, began_at
FROM ranked
WHERE place = 1
ORDER BY sensor_id, local_day
