-- Windows over the readings on the stream: per minute, sliding over several, and alerts. Streaming.java runs it.
-- parameter region word
-- parameter readings-arn arn
-- parameter windows-arn arn
-- parameter alerts-arn arn
-- parameter start word TRIM_HORIZON
-- parameter correct-days interval 3
-- parameter every-seconds number 10
-- parameter sliding-minutes number 5
-- parameter above-bpm number 150
-- parameter wait-seconds interval 30
-- parameter idle-seconds number 10
-- parameter alert-age-minutes interval 60
--
-- Late readings: a gateway that was out of reach drains days later. A window function (TUMBLE, HOP) drops what is
--   behind the watermark, and takes no input whose rows may still change, as a reading's does whose better copy comes
--   later. So windows are plain groups, corrected whenever a reading of theirs comes; the watermark is not asked.
-- Bound: state is kept for correct-days after it was last written. Only readings that are less than that old (less two
--   hours), and at most an hour ahead, are taken: so no group whose state has gone is begun anew and takes a whole
--   minute over with a part of it. What is older reaches the lake and the index alone. So long a reading that comes
--   twice counts once.
-- Restarts: state is exact, sinks may repeat. hr_windows: of a window's rows the one with the latest revised_at holds,
--   op says whether the window is there. hr_alerts: an alert_id is one alert.
-- Alerts: as the monitor "Above 150 bpm for a minute", asked at each reading instead of once a minute: in its 75
--   seconds six readings or more, spanning a minute, all above. Only they wait for the watermark, for their readings'
--   order.
SET 'table.local-time-zone' = 'UTC';
SET 'table.exec.state.ttl' = '${correct-days} d';
-- One version of a window at most so often, however many readings came: when the watermark has gone so far, or at a
-- checkpoint. The alerts see the watermark's steps as well, so this is kept short.
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '${every-seconds} s';
SET 'table.exec.mini-batch.size' = '10000';
-- A shard without readings holds nobody's watermark. Parallelism is as many as there are shards: the connector knows
-- one watermark per task, and among shards read by one task the one that lags would be late.
SET 'table.exec.source.idle-timeout' = '${idle-seconds} s';

CREATE TABLE hr_lines (
    `timestamp` STRING,
    heart_rate INT,
    reading_id STRING,
    gateway_id STRING,
    sensor_id STRING,
    sensor_contact BOOLEAN,
    clock STRING,
    -- A time attribute may not be null; a line without a time is dropped below.
    measured_at AS COALESCE(
        TO_TIMESTAMP(`timestamp`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), TIMESTAMP '1970-01-01 00:00:00.000'),
    -- A clock that is ahead moves no watermark: it would make everybody else late.
    WATERMARK FOR measured_at AS
        CASE
            WHEN measured_at < LOCALTIMESTAMP + INTERVAL '5' SECOND THEN measured_at
            ELSE TIMESTAMP '1970-01-01 00:00:00.000'
        END - INTERVAL '${wait-seconds}' SECOND
) WITH (
    'connector' = 'kinesis',
    'stream.arn' = '${readings-arn}',
    'aws.region' = '${region}',
    'source.init.position' = '${start}',
    'format' = 'ndjson'
);

CREATE TABLE hr_windows (
    op STRING,
    sensor_id STRING,
    window_start STRING,
    window_minutes INT,
    readings BIGINT,
    lowest INT,
    mean DOUBLE,
    highest INT,
    revised_at STRING
) PARTITIONED BY (sensor_id) WITH (
    'connector' = 'kinesis',
    'stream.arn' = '${windows-arn}',
    'aws.region' = '${region}',
    'format' = 'json'
);

CREATE TABLE hr_alerts (
    alert_id STRING,
    sensor_id STRING,
    gateway_id STRING,
    above_bpm INT,
    began_at STRING,
    measured_at STRING
) PARTITIONED BY (sensor_id) WITH (
    'connector' = 'kinesis',
    'stream.arn' = '${alerts-arn}',
    'aws.region' = '${region}',
    'format' = 'json'
);

-- A 0, as optical sensors send it off the skin, is no heart rate.
CREATE TEMPORARY VIEW taken AS
SELECT measured_at, heart_rate, reading_id, gateway_id, sensor_id, sensor_contact, clock
FROM hr_lines
WHERE heart_rate > 0 AND reading_id IS NOT NULL AND gateway_id IS NOT NULL AND sensor_id IS NOT NULL
    AND measured_at > LOCALTIMESTAMP - INTERVAL '${correct-days}' DAY + INTERVAL '2' HOUR
    AND measured_at < LOCALTIMESTAMP + INTERVAL '1' HOUR;

-- Of two copies the better clock wins, then the earlier time.
CREATE TEMPORARY VIEW hr_readings AS
SELECT sensor_id, measured_at, heart_rate
FROM (
    SELECT sensor_id, CAST(measured_at AS TIMESTAMP(3)) AS measured_at, heart_rate, ROW_NUMBER() OVER (
        PARTITION BY reading_id
        ORDER BY CASE clock WHEN 'synchronized' THEN 0 WHEN 'corrected' THEN 1 ELSE 2 END,
            CAST(measured_at AS TIMESTAMP(3))
    ) AS copy
    FROM taken
)
WHERE copy = 1;

CREATE TEMPORARY VIEW minutes AS
SELECT sensor_id, FLOOR(measured_at TO MINUTE) AS window_start, COUNT(*) AS readings, MIN(heart_rate) AS lowest,
    SUM(CAST(heart_rate AS BIGINT)) AS total, MAX(heart_rate) AS highest
FROM hr_readings
GROUP BY sensor_id, FLOOR(measured_at TO MINUTE);

-- A window of several minutes begins with each minute. Each minute is in as many windows as a window has minutes, and
-- is added to them whole: a window is changed once per minute that changed, not once per reading. The list of as many
-- places is made of the row: a constant one would be joined as a table, in one task, and gone when the state's time is
-- over.
CREATE TEMPORARY VIEW sliding AS
SELECT sensor_id, TIMESTAMPADD(MINUTE, 1 - CAST(place AS INT), window_start) AS window_start, SUM(readings) AS readings,
    MIN(lowest) AS lowest, SUM(total) AS total, MAX(highest) AS highest
FROM minutes
CROSS JOIN UNNEST(SPLIT(REPEAT(CONCAT(sensor_id, ','), ${sliding-minutes} - 1), ','))
    WITH ORDINALITY AS places (nothing, place)
GROUP BY sensor_id, TIMESTAMPADD(MINUTE, 1 - CAST(place AS INT), window_start);

CREATE TEMPORARY VIEW windows AS
SELECT sensor_id, window_start, 1 AS window_minutes, readings, lowest, total, highest FROM minutes
UNION ALL
SELECT sensor_id, window_start, ${sliding-minutes}, readings, lowest, total, highest FROM sliding;

-- The sink only appends: each change is a row that says what it is.
INSERT INTO hr_windows
SELECT op, sensor_id, DATE_FORMAT(window_start, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), window_minutes, readings, lowest,
    CAST(total AS DOUBLE) / readings, highest, DATE_FORMAT(LOCALTIMESTAMP, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')
FROM TO_CHANGELOG(
    input => TABLE windows,
    op_mapping => MAP['INSERT, UPDATE_AFTER', 'UPSERT', 'DELETE', 'DELETE']);

INSERT INTO hr_alerts
SELECT CONCAT(sensor_id, '@', DATE_FORMAT(measured_at, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')), sensor_id, gateway_id,
    ${above-bpm}, DATE_FORMAT(oldest, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''),
    DATE_FORMAT(measured_at, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')
FROM (
    -- Not LAG: of readings of the same time, as of one that came twice, it sees the last in each.
    SELECT *, SUM(CASE WHEN above THEN 1 ELSE 0 END) OVER (
        PARTITION BY sensor_id ORDER BY measured_at ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
    ) AS above_of_two
    FROM (
        SELECT sensor_id, gateway_id, measured_at, MIN(CAST(measured_at AS TIMESTAMP(3))) OVER recent AS oldest,
            MIN(heart_rate) OVER recent > ${above-bpm} AND COUNT(DISTINCT reading_id) OVER recent >= 6
                AND CAST(measured_at AS TIMESTAMP(3))
                    >= MIN(CAST(measured_at AS TIMESTAMP(3))) OVER recent + INTERVAL '60' SECOND AS above
        FROM taken
        WHERE sensor_contact IS NOT FALSE
            AND measured_at > LOCALTIMESTAMP - INTERVAL '${alert-age-minutes}' MINUTE
        WINDOW recent AS (
            PARTITION BY sensor_id ORDER BY measured_at
            RANGE BETWEEN INTERVAL '75' SECOND PRECEDING AND CURRENT ROW)
    )
)
WHERE above AND above_of_two = 1;
