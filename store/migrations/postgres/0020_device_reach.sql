-- Whether the statistics know a device as one that push reaches, and whether that has to be looked at again: of those of
-- before, whom nobody has counted, it has.
ALTER TABLE device ADD COLUMN told_reachable BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE device ADD COLUMN reach_due BOOLEAN NOT NULL DEFAULT TRUE;
CREATE INDEX device_reach_due ON device (municipality_code, device_id) WHERE reach_due;
