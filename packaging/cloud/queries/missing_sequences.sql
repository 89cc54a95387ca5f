-- Each run of sequences that is not in the lake, per gateway queue: where it begins, where it ends, how many.
-- Parameters: first and last UTC day; choose them wide, what lies outside counts as missing.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- Reads: of the days asked for, three columns: about 5 bytes a line.
WITH asked AS (
    SELECT '{from}' AS first_day, '{to}' AS last_day
),
lines AS (
    SELECT DISTINCT gateway_id, split_part(reading_id, '-', 1) AS epoch, sequence
    FROM hr_table
    CROSS JOIN asked
    WHERE "date" BETWEEN first_day AND last_day
),
steps AS (
    SELECT gateway_id, epoch, sequence, lead(sequence) OVER (PARTITION BY gateway_id, epoch ORDER BY sequence) AS following
    FROM lines
)
SELECT gateway_id, epoch, sequence + 1 AS first_missing, following - 1 AS last_missing, following - sequence - 1 AS missing
FROM steps
WHERE following > sequence + 1
ORDER BY gateway_id, epoch, sequence
