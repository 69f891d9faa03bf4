-- Events that could not be taken as they were sent, until somebody has looked at them. Contents stay
-- here, inside the municipality: what is wrong with an event may be that it holds what must not
-- enter the lake.
CREATE TABLE quarantined_event (
    quarantine_id TEXT NOT NULL PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    entrance TEXT NOT NULL,
    sender TEXT NOT NULL,
    event_id TEXT,
    reason TEXT NOT NULL,
    field TEXT,
    content TEXT NOT NULL,
    state TEXT NOT NULL,
    received_at_us BIGINT NOT NULL,
    settled_at_us BIGINT
);

CREATE INDEX quarantined_event_held ON quarantined_event (municipality_code, state, quarantine_id);
