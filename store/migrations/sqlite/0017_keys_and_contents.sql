-- Who made a key, and when a machine last came with it; nothing for keys from before, and for one that nobody used.
ALTER TABLE api_key ADD COLUMN issued_by TEXT;
ALTER TABLE api_key ADD COLUMN used_at_us BIGINT;

-- Held events of earlier versions, whose contents nobody has looked at for what may be kept of them: the next upkeep
-- does, and notes how long they were.
CREATE INDEX quarantined_event_unlooked ON quarantined_event (quarantine_id) WHERE content_bytes IS NULL AND content <> '';
