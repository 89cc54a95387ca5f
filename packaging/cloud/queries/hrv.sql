-- Heart-rate variability per sensor and five minutes: RMSSD and SDNN in ms, pNN50 in %, from RR-Intervals.
-- Parameters: first and last UTC day.
-- parameter from day 2025-07-15
-- parameter to day 2025-07-16
-- Artefacts are found after Lipponen and Tarvainen (2019), J Med Eng Technol 43(3), and left out with the intervals that they
-- spoil: a missed beat, an extra one, an ectopic one. artefact_percent says how many beats they are; a stretch with more than
-- 5 % of them, or with fewer than 30 differences, says nothing and is left out. packaging/export/hrv.py corrects instead, over
-- several passes.
-- A difference is taken only between beats that followed each other: not across a missing sequence, a gap record or a new
-- session. SDNN is the sample standard deviation; pNN50 is of the successive differences (Shaffer and Ginsberg 2017).
-- sensor_location: what a sensor at the chest measures is an ECG; elsewhere it is optical as a rule, and its numbers are
-- pulse-rate variability, which is near it at rest alone. Null where the sensor does not say where it is worn.
-- Reads: of the days asked for, nine columns: about 13 bytes a line.
WITH asked AS (
    SELECT '{from}' AS first_day, '{to}' AS last_day
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
        gateway_id || epoch || sensor_id || session_id || CAST(island AS varchar) || '-' || CAST(gaps_before AS varchar) AS run,
        sequence * 100 + place AS n
    FROM runs
    CROSS JOIN UNNEST(rr_intervals_ms) WITH ORDINALITY AS beat (rr, place)
),
-- Each interval's step from the one before, and what is around it.
steps AS (
    SELECT *, rr - lag(rr) OVER (PARTITION BY run ORDER BY n) AS step,
        array_sort(array_agg(rr) OVER (PARTITION BY run ORDER BY n ROWS BETWEEN 5 PRECEDING AND 5 FOLLOWING)) AS eleven
    FROM beats
),
medians AS (
    SELECT *, coalesce(step, 0e0) AS d,
        rr - (eleven[(cardinality(eleven) + 1) / 2] + eleven[cardinality(eleven) / 2 + 1]) / 2e0 AS deviation
    FROM steps
),
deviations AS (
    SELECT *, CASE WHEN deviation < 0e0 THEN 2e0 * deviation ELSE deviation END AS m FROM medians
),
around AS (
    SELECT *, array_sort(array_agg(abs(d)) OVER (PARTITION BY run ORDER BY n ROWS BETWEEN 45 PRECEDING AND 45 FOLLOWING)) AS ds,
        array_sort(array_agg(abs(m)) OVER (PARTITION BY run ORDER BY n ROWS BETWEEN 45 PRECEDING AND 45 FOLLOWING)) AS ms
    FROM deviations
),
-- The quartiles' places among them, and what lies between the two nearest.
places AS (
    SELECT *, CAST(floor(first_quarter) AS integer) AS low, CAST(floor(third_quarter) AS integer) AS high
    FROM (
        SELECT *, CAST(cardinality(ds) AS integer) AS size, 0.25e0 * CAST(cardinality(ds) - 1 AS double) AS first_quarter,
            0.75e0 * CAST(cardinality(ds) - 1 AS double) AS third_quarter
        FROM around
    ) AS sizes
),
-- In units of a time-varying threshold: 5.2 times the quartile deviation of 91. Null where half of them are alike.
normed AS (
    SELECT sensor_id, sensor_location, began_at, rr, run, n, step,
        d / nullif(2.6e0 * (ds[high + 1] + (ds[least(high + 2, size)] - ds[high + 1]) * (third_quarter - CAST(high AS double))
            - ds[low + 1] - (ds[least(low + 2, size)] - ds[low + 1]) * (first_quarter - CAST(low AS double))), 0e0) AS d,
        m / nullif(2.6e0 * (ms[high + 1] + (ms[least(high + 2, size)] - ms[high + 1]) * (third_quarter - CAST(high AS double))
            - ms[low + 1] - (ms[least(low + 2, size)] - ms[low + 1]) * (first_quarter - CAST(low AS double))), 0e0) AS m
    FROM places
),
neighbours AS (
    SELECT *, lag(d) OVER (PARTITION BY run ORDER BY n) AS before, lead(d) OVER (PARTITION BY run ORDER BY n) AS after,
        lead(d, 2) OVER (PARTITION BY run ORDER BY n) AS after_next
    FROM normed
),
judged AS (
    SELECT *,
        CASE
            WHEN d > 1e0 AND (greatest(before, after) < -0.13e0 * d - 0.17e0 OR least(after, after_next) < -1e0) THEN 1
            WHEN d < -1e0 AND (least(before, after) > -0.13e0 * d + 0.17e0 OR greatest(after, after_next) > 1e0) THEN 1
            WHEN abs(m) > 3e0 AND (abs(d) > 1e0 OR abs(before) > 1e0 AND abs(d) < abs(after)) THEN 1
            ELSE 0
        END AS artefact
    FROM neighbours
),
-- An artefact is a beat: it spoils the interval that it ends and the one that it begins.
usable AS (
    SELECT *, sum(artefact) OVER (PARTITION BY run ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS spoilt,
        sum(artefact) OVER (PARTITION BY run ORDER BY n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS spoilt_step
    FROM judged
),
kept AS (
    SELECT sensor_id, sensor_location, began_at, artefact, CASE WHEN spoilt = 0 THEN rr END AS rr,
        CASE WHEN spoilt_step = 0 THEN step END AS difference
    FROM usable
)
SELECT sensor_id, began_at, max(sensor_location) AS sensor_location, count(*) AS beats, count(difference) AS differences,
    100e0 * CAST(sum(artefact) AS double) / CAST(count(*) AS double) AS artefact_percent,
    sqrt(avg(difference * difference)) AS rmssd, stddev_samp(rr) AS sdnn,
    100e0 * CAST(count_if(abs(difference) > 50e0) AS double) / CAST(count(difference) AS double) AS pnn50
FROM kept
GROUP BY sensor_id, began_at
HAVING count(difference) >= 30 AND sum(artefact) * 20 <= count(*)
ORDER BY sensor_id, began_at
