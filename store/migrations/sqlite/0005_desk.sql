-- What the city asks the operator to do: `subject_id` is an application or a household, by `kind`.
CREATE TABLE city_request (
    request_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    subject_no TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    reason_text TEXT,
    state TEXT NOT NULL,
    requested_by TEXT NOT NULL REFERENCES account,
    requested_by_name TEXT NOT NULL,
    requested_at_us BIGINT NOT NULL,
    settled_at_us BIGINT,
    note TEXT
);
CREATE INDEX city_request_by_state ON city_request (municipality_code, state, requested_at_us);
-- One open request for one thing.
CREATE UNIQUE INDEX city_request_open ON city_request (kind, subject_id) WHERE state = 'open';
