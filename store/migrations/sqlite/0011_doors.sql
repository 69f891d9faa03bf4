-- Whose held events these are, so that one sender cannot fill the quarantine; nobody's for records of files. And how
-- long an event was of which no content is kept.
ALTER TABLE quarantined_event ADD COLUMN account_id TEXT;
ALTER TABLE quarantined_event ADD COLUMN content_bytes BIGINT;
CREATE INDEX quarantined_event_of_account ON quarantined_event (municipality_code, state, account_id);

-- The sources that a key may send events of, as a JSON list. Nothing: a key from before, which may name any.
ALTER TABLE api_key ADD COLUMN sources TEXT;
