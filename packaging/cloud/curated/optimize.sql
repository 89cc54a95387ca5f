-- Makes one file of a day's small ones, and leaves out the rows that were updated or deleted.
-- The whole table, without a WHERE: the table's properties choose, by size and by marks of deletion, and late readings and
-- an erasure touch old days. A day whose few files need nothing is not read.
-- Reads and writes: the days that have five small files or a mark of deletion: each day once or twice, its bytes as stored.
-- Fails with ICEBERG_OPTIMIZE_MORE_RUNS_NEEDED where one run is not enough: to be run again.
OPTIMIZE hr_readings REWRITE DATA USING BIN_PACK
