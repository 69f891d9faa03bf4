-- Segments, topics of interest and broadcasts.

CREATE TABLE topic_choice (
    account_id TEXT NOT NULL REFERENCES account,
    topic TEXT NOT NULL,
    chosen_at_us BIGINT NOT NULL,
    PRIMARY KEY (account_id, topic)
);

CREATE TABLE segment (
    segment_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    author_id TEXT,
    created_at_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    UNIQUE (municipality_code, name)
);

-- definition is a copy: a saved segment that changes later does not change what was released.
CREATE TABLE broadcast (
    broadcast_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    link TEXT NOT NULL,
    event_on TEXT,
    place TEXT NOT NULL,
    push BOOLEAN NOT NULL,
    email BOOLEAN NOT NULL,
    segment_id TEXT,
    segment_name TEXT NOT NULL,
    definition TEXT NOT NULL,
    state TEXT NOT NULL,
    author_id TEXT,
    author_name TEXT NOT NULL,
    approver_id TEXT,
    note TEXT NOT NULL,
    starts_at_us BIGINT,
    pace_per_s BIGINT NOT NULL,
    resend_after_min TEXT NOT NULL,
    n_targets BIGINT NOT NULL,
    event_id TEXT,
    created_at_us BIGINT NOT NULL,
    released_at_us BIGINT,
    started_at_us BIGINT,
    finished_at_us BIGINT,
    counted_at_us BIGINT NOT NULL,
    counters TEXT NOT NULL,
    sender TEXT NOT NULL,
    fence BIGINT NOT NULL,
    leased_until_us BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX broadcast_by_state ON broadcast (state, municipality_code);
CREATE INDEX broadcast_by_age ON broadcast (municipality_code, created_at_us);

-- Round 0 is the broadcast itself, the others go again to those who have not read it. Each round has two
-- cursors over account ids: how far messages are created, and how far they are handed to push and mail.
CREATE TABLE broadcast_round (
    broadcast_id TEXT NOT NULL REFERENCES broadcast,
    round BIGINT NOT NULL,
    after_min BIGINT NOT NULL,
    due_at_us BIGINT NOT NULL,
    state TEXT NOT NULL,
    created_after TEXT NOT NULL,
    routed_after TEXT NOT NULL,
    n_created BIGINT NOT NULL,
    n_suppressed BIGINT NOT NULL,
    n_routed BIGINT NOT NULL,
    n_queued BIGINT NOT NULL,
    first_sent_at_us BIGINT,
    last_sent_at_us BIGINT,
    PRIMARY KEY (broadcast_id, round)
);
CREATE INDEX broadcast_round_by_state ON broadcast_round (state, due_at_us);

-- The audience is read in the order of account ids, page by page.
CREATE INDEX account_by_place ON account (municipality_code, account_id);

-- So are the messages of one broadcast.
DROP INDEX message_by_cause;
CREATE INDEX message_by_cause ON message (cause_event_id, account_id);
