-- The ledger: per gateway queue, what arrived, what is missing and what came twice. All days: a late reading may be on any.
-- Parameters: first and last UTC day; choose them wide, what lies outside counts as missing.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- A queue is a gateway and the epoch that its ids begin with. `missing` is what lies between the first and the last
-- sequence and is not there; `lost` what the gateway itself said it gave up; `unexplained` the difference, 0 in a good ledger.
-- Reads: of the days asked for, four columns: about 5 bytes a line.
WITH asked AS (
    SELECT '{from}' AS first_day, '{to}' AS last_day
),
lines AS (
    SELECT gateway_id, split_part(reading_id, '-', 1) AS epoch, sequence, count(*) AS copies,
        count(DISTINCT "date") AS days, max(coalesce(gap_readings_lost, 0)) AS lost
    FROM hr_table
    CROSS JOIN asked
    WHERE "date" BETWEEN first_day AND last_day
    GROUP BY gateway_id, split_part(reading_id, '-', 1), sequence
)
SELECT gateway_id, epoch, sum(copies) AS arrived, count(*) AS sequences, min(sequence) AS first_sequence,
    max(sequence) AS last_sequence, sum(copies) - count(*) AS duplicates,
    max(sequence) - min(sequence) + 1 - count(*) AS missing, sum(lost) AS lost,
    max(sequence) - min(sequence) + 1 - count(*) - sum(lost) AS unexplained,
    count_if(days > 1) AS ids_on_several_days
FROM lines
GROUP BY gateway_id, epoch
ORDER BY gateway_id, epoch
