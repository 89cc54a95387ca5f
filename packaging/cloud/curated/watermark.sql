-- What a run of merge.sql has to look at: the objects that landed after the first of two times and until the second.
-- Words: DAYS_BACK as in merge.sql. The answer's one row gives merge.sql its LANDED_AFTER and LANDED_UNTIL.
-- An object's name says when it landed (merge.sql, "Landed"). The watermark is max(merged_until), which a run over all days
-- commits with its rows: what landed until then is in the table. Seven days before it are looked at again, because
-- objects do not appear in the order of their names: Firehose tries to write one until the stream's retention ends (24 h
-- by default), its names may have been in another zone before (26 h at most), clocks differ; the rest is for good measure.
-- Thirty days of landings are the most for one run, as Athena writes to no more than 100 days (partitions) in one: a
-- lake that is older than its curated table is caught up with month by month, oldest first.
-- Reads: merged_until of the whole table (a few bytes a file) and, of every object of the lake, the footer: about 16 KB
-- and one request. With a DAYS_BACK above 0, nothing.
WITH done AS (
    SELECT coalesce(max(merged_until), TIMESTAMP '1970-01-08 00:00:00') AS merged_before FROM hr_readings WHERE DAYS_BACK = 0
),
later AS (
    SELECT landed, min(landed) OVER () AS oldest
    FROM (
        SELECT DISTINCT TRY(date_parse(greatest(
            regexp_extract("$path", '/date=.*-(\d{4}(-\d\d){5})-', 1), regexp_extract("$path", '/date=([^/]+)/', 1) || '-00-00-00'
        ), '%Y-%m-%d-%H-%i-%s')) AS landed
        FROM hr_table
        WHERE DAYS_BACK = 0
    ) AS objects
    CROSS JOIN done
    WHERE landed > merged_before
),
batch AS (
    SELECT max(landed) AS newest FROM later WHERE landed <= oldest + INTERVAL '30' DAY
)
SELECT IF(DAYS_BACK = 0, date_format(merged_before - INTERVAL '7' DAY, '%Y-%m-%d-%H-%i-%s'), '1970-01-01-00-00-00') AS landed_after,
    IF(DAYS_BACK = 0, date_format(coalesce(newest, merged_before), '%Y-%m-%d-%H-%i-%s'), '9999-12-31-00-00-00') AS landed_until
FROM done
CROSS JOIN batch
