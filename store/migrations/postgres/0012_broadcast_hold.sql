-- Who changed a broadcast last and who submitted it: neither may release it, nor may its author.
ALTER TABLE broadcast ADD COLUMN editor_id TEXT;
ALTER TABLE broadcast ADD COLUMN submitter_id TEXT;
UPDATE broadcast SET editor_id = author_id;

-- A cancelled broadcast of which messages are still to be taken out of the queue. Those that were cancelled before
-- are looked at once.
ALTER TABLE broadcast ADD COLUMN stopping BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE broadcast SET stopping = TRUE WHERE state = 'cancelled' AND event_id IS NOT NULL;

-- What waits of a broadcast in the queue. All its hand-overs share a collapse key; other messages, which are sent one
-- by one, are not in this index.
CREATE INDEX delivery_of_broadcast ON delivery (collapse_key, state, message_id)
    WHERE state IN ('queued', 'held', 'sent') AND message_type IN ('broadcast.segment', 'broadcast.event', 'broadcast.emergency');

-- What is held waits as well.
DROP INDEX delivery_shown;
CREATE INDEX delivery_shown ON delivery (account_id, collapse_key)
    WHERE state IN ('queued', 'held', 'sent', 'accepted', 'delivered');
