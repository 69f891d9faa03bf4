-- When a client that got the message over its socket showed it; what a push showed stands with its delivery.
ALTER TABLE message ADD COLUMN displayed_at_us BIGINT;
