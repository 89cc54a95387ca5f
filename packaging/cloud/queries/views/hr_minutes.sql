-- One row per sensor and minute: how many readings, and their lowest, mean and highest heart rate.
-- Reads: of the days asked for, five columns. Filter on "date".
-- column date varchar
-- column minute timestamp(3)
-- column sensor_id varchar
-- column readings bigint
-- column lowest integer
-- column mean double
-- column highest integer
SELECT "date", date_trunc('minute', measured_at) AS minute, sensor_id, count(*) AS readings,
    min(heart_rate) AS lowest, avg(CAST(heart_rate AS double)) AS mean, max(heart_rate) AS highest
FROM hr_readings_unique
GROUP BY "date", date_trunc('minute', measured_at), sensor_id
