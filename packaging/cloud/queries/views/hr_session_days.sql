-- One row per session and UTC day; the named query `sessions` joins the days of a session that crossed midnight.
-- Reads: of the days asked for, seven columns. Filter on "date".
-- column date varchar
-- column session_id varchar
-- column sensor_id varchar
-- column gateway_id varchar
-- column began_at timestamp(3)
-- column ended_at timestamp(3)
-- column readings bigint
-- column lowest integer
-- column heart_rate_sum bigint
-- column highest integer
SELECT "date", session_id, sensor_id, gateway_id, min(measured_at) AS began_at, max(measured_at) AS ended_at,
    count(*) AS readings, min(heart_rate) AS lowest, sum(heart_rate) AS heart_rate_sum, max(heart_rate) AS highest
FROM hr_readings_unique
GROUP BY "date", session_id, sensor_id, gateway_id
