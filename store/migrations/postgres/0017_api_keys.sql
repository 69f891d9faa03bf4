-- Who made a key, and when a machine last came with it; nothing for keys from before, and for one that nobody used.
ALTER TABLE api_key ADD COLUMN issued_by TEXT;
ALTER TABLE api_key ADD COLUMN used_at_us BIGINT;
