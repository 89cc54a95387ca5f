-- Erases one sensor: readings and gap records, on all days.
-- Words: SENSOR_ID, put in as text, as Athena documents no execution parameters for DELETE. A name has none but letters,
-- digits, `.`, `_` and `-` (src/reading.rs); whoever puts it in checks that.
-- Run it after the lake's objects were rewritten: what an object still holds, the next merge brings back. Then optimize.sql,
-- and vacuum.sql once the snapshots from before are old enough. The watermark may fall back with the rows: the next run
-- over all days then looks at more, and finds it merged.
-- Reads: the sensor_id of the whole table (less than 1 byte a row), and no file whose range of names excludes it.
DELETE FROM hr_readings WHERE sensor_id = 'SENSOR_ID'
