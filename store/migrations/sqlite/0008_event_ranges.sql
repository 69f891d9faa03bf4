-- SQLite has one writer, so events get their numbers in the order of their commits: a batch for the lake is a range
-- of them. No event has to be written a second time to say in which batch it is.
ALTER TABLE lake_batch ADD COLUMN first_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE lake_batch ADD COLUMN last_seq BIGINT NOT NULL DEFAULT 0;
UPDATE lake_batch SET last_seq = COALESCE((SELECT MAX(seq) FROM event WHERE event.lake_batch <= batch_no), 0);
UPDATE lake_batch SET first_seq = COALESCE((SELECT MIN(seq) FROM event WHERE event.lake_batch = batch_no), last_seq + 1);
DROP INDEX event_unrelayed;
DROP INDEX event_by_batch;
ALTER TABLE event DROP COLUMN lake_batch;
CREATE INDEX lake_batch_open ON lake_batch (batch_no) WHERE NOT done;
