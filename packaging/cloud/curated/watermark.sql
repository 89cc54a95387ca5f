-- What a run of merge.sql has to look at: the objects that landed after the first of two times and until the second.
-- Words: DAYS_BACK as in merge.sql; DAY_AFTER, the last day that the part before brought of the same
-- landings, or ''; SEEN_UNTIL, until when the run has brought what landed, or ''.
-- The answer's one row gives merge.sql its LANDED_AFTER, LANDED_UNTIL, FIRST_DAY, LAST_DAY and MERGED_UNTIL; FIRST_DAY is '' where
-- there is nothing, and before all times where it is the lake's first day, which holds all days before it. goes_on is 'yes' where more had landed by then than one run takes.
-- An object's name says when it landed (merge.sql, "Landed"). The watermark is max(merged_until), which a run over all days
-- commits with its rows: what landed until then is in the table. Seven days before it are looked at again, because
-- objects do not appear in the order of their names: Firehose tries to write one until the stream's retention ends (24 h
-- by default), its names may have been in another zone before (26 h at most), clocks differ; the rest is for good measure.
-- Athena writes to no more than 100 partitions in one run, and a day has two, its copies_day being its own or null. So a run takes
-- thirty days of landings at most, the oldest first, and of them thirty of the days that they are of: a gateway that was away for a year is caught up with in parts, and
-- so is a lake that is older than its curated table. Only the last part of a landing moves the watermark. The other forty are
-- for the lake's first day, which holds what wrong clocks dated before it, whatever day that was.
-- Reads: merged_until of the whole table (a few bytes a file) and, of every object of the lake, the footer: about 16 KB
-- and one request. With a DAYS_BACK above 0, nothing.
WITH done AS (
    SELECT coalesce(max(merged_until), TIMESTAMP '1970-01-08 00:00:00') AS merged_before FROM hr_readings WHERE DAYS_BACK = 0
),
objects AS (
    SELECT DISTINCT regexp_extract("$path", '/date=([^/]+)/', 1) AS day, TRY(date_parse(greatest(
        regexp_extract("$path", '/date=.*-(\d{4}(-\d\d){5})-', 1),
        date_format(date_parse(regexp_extract("$path", '/date=([^/]+)/', 1), '%Y-%m-%d') - INTERVAL '800' DAY, '%Y-%m-%d-00-00-00')
    ), '%Y-%m-%d-%H-%i-%s')) AS landed
    FROM hr_table
    WHERE DAYS_BACK = 0
),
later AS (
    SELECT landed, min(landed) OVER () AS oldest, max(landed) OVER () AS youngest
    FROM objects
    CROSS JOIN done
    -- Not what this run saw already: where nothing of it was new, the watermark stands.
    WHERE landed > greatest(merged_before, coalesce(TRY(date_parse(nullif('SEEN_UNTIL', ''), '%Y-%m-%d-%H-%i-%s')), merged_before))
),
batch AS (
    SELECT max(landed) AS newest, max(youngest) AS youngest FROM later WHERE landed <= oldest + INTERVAL '30' DAY
),
days AS (
    SELECT day, row_number() OVER (ORDER BY day) AS place
    FROM (
        SELECT DISTINCT day
        FROM objects
        CROSS JOIN done
        CROSS JOIN batch
        WHERE landed BETWEEN merged_before - INTERVAL '7' DAY AND coalesce(newest, merged_before) AND day > 'DAY_AFTER'
    ) AS landed_days
),
part AS (
    SELECT min(day) AS first_day, max(CASE WHEN place <= 30 THEN day END) AS last_day, max(place) > 30 AS is_cut FROM days
)
SELECT IF(DAYS_BACK = 0, date_format(merged_before - INTERVAL '7' DAY, '%Y-%m-%d-%H-%i-%s'), '1970-01-01-00-00-00') AS landed_after,
    IF(DAYS_BACK = 0, date_format(coalesce(newest, merged_before), '%Y-%m-%d-%H-%i-%s'), '9999-12-31-00-00-00') AS landed_until,
    IF(DAYS_BACK = 0, coalesce(IF(first_day = (SELECT min(day) FROM objects), '0001-01-01', first_day), ''), '0001-01-01') AS first_day,
    IF(DAYS_BACK = 0, coalesce(last_day, ''), '9999-12-31') AS last_day,
    IF(DAYS_BACK = 0 AND NOT coalesce(is_cut, false), date_format(coalesce(newest, merged_before), '%Y-%m-%d-%H-%i-%s'), '') AS merged_until,
    IF(DAYS_BACK = 0 AND (coalesce(is_cut, false) OR youngest > newest), 'yes', '') AS goes_on
FROM done
CROSS JOIN batch
CROSS JOIN part
