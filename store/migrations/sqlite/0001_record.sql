-- The record. Shared subset of both databases: ids and days are TEXT, instants are BIGINT microseconds
-- UTC, JSON is TEXT, money is BIGINT yen. What differs from the PostgreSQL file: AUTOINCREMENT and BLOB.

CREATE TABLE instance (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL,
    token_secret TEXT NOT NULL,
    created_at_us BIGINT NOT NULL
);

CREATE TABLE municipality (
    municipality_code TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at_us BIGINT NOT NULL
);

CREATE TABLE parameter (
    municipality_code TEXT NOT NULL REFERENCES municipality,
    name TEXT NOT NULL,
    effective_from TEXT NOT NULL,
    value TEXT NOT NULL,
    set_by TEXT,
    set_at_us BIGINT NOT NULL,
    PRIMARY KEY (municipality_code, name, effective_from)
);

CREATE TABLE number_sequence (
    municipality_code TEXT NOT NULL,
    kind TEXT NOT NULL,
    fiscal_year BIGINT NOT NULL,
    last_serial BIGINT NOT NULL,
    PRIMARY KEY (municipality_code, kind, fiscal_year)
);

CREATE TABLE programme (
    municipality_code TEXT NOT NULL REFERENCES municipality,
    programme_code TEXT NOT NULL,
    name TEXT NOT NULL,
    coupon_enabled BOOLEAN NOT NULL,
    PRIMARY KEY (municipality_code, programme_code)
);

CREATE TABLE facility (
    facility_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    facility_no TEXT NOT NULL,
    name TEXT NOT NULL,
    ward_code TEXT NOT NULL,
    address TEXT NOT NULL,
    phone TEXT NOT NULL,
    is_public BOOLEAN NOT NULL,
    coupon_qr TEXT NOT NULL UNIQUE,
    created_at_us BIGINT NOT NULL,
    UNIQUE (municipality_code, facility_no)
);

CREATE TABLE facility_programme (
    facility_id TEXT NOT NULL REFERENCES facility,
    programme_code TEXT NOT NULL,
    PRIMARY KEY (facility_id, programme_code)
);

CREATE TABLE guardian (
    guardian_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    guardian_no TEXT NOT NULL,
    name TEXT NOT NULL,
    name_kana TEXT NOT NULL,
    sex TEXT,
    birth_date TEXT,
    postal_code TEXT NOT NULL,
    address TEXT NOT NULL,
    ward_code TEXT NOT NULL,
    phone TEXT NOT NULL,
    contact_channel TEXT NOT NULL,
    suspended BOOLEAN NOT NULL,
    created_at_us BIGINT NOT NULL,
    deleted_at_us BIGINT,
    UNIQUE (municipality_code, guardian_no)
);

CREATE TABLE account (
    account_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    role TEXT NOT NULL,
    email TEXT UNIQUE,
    name TEXT NOT NULL,
    name_kana TEXT NOT NULL,
    password_hash TEXT,
    state TEXT NOT NULL,
    guardian_id TEXT REFERENCES guardian,
    facility_id TEXT REFERENCES facility,
    relation TEXT,
    valid_from TEXT NOT NULL,
    valid_to TEXT NOT NULL,
    person_key BIGINT,
    terms_version BIGINT NOT NULL,
    created_at_us BIGINT NOT NULL,
    deleted_at_us BIGINT,
    UNIQUE (municipality_code, person_key)
);
CREATE INDEX account_by_guardian ON account (guardian_id);
CREATE INDEX account_by_facility ON account (facility_id);
CREATE INDEX account_by_role ON account (municipality_code, role);

CREATE TABLE sign_in_failure (
    account_id TEXT NOT NULL REFERENCES account,
    at_us BIGINT NOT NULL
);
CREATE INDEX sign_in_failure_by_account ON sign_in_failure (account_id, at_us);

CREATE TABLE challenge (
    challenge_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account,
    code_hash TEXT NOT NULL,
    tries BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    used_at_us BIGINT
);

CREATE TABLE mail_link (
    token_hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES account,
    detail TEXT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    used_at_us BIGINT
);

CREATE TABLE session (
    session_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account,
    token_hash TEXT NOT NULL UNIQUE,
    csrf_token TEXT NOT NULL,
    created_at_us BIGINT NOT NULL,
    seen_at_us BIGINT NOT NULL,
    ended_at_us BIGINT
);
CREATE INDEX session_by_account ON session (account_id);

CREATE TABLE trusted_device (
    token_hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account,
    expires_at_us BIGINT NOT NULL
);

CREATE TABLE api_key (
    api_key_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    account_id TEXT NOT NULL REFERENCES account,
    name TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    created_at_us BIGINT NOT NULL,
    revoked_at_us BIGINT
);

CREATE TABLE consent (
    account_id TEXT NOT NULL REFERENCES account,
    kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    granted BOOLEAN NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (account_id, kind)
);

CREATE TABLE preference (
    account_id TEXT NOT NULL REFERENCES account,
    category TEXT NOT NULL,
    channel TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    PRIMARY KEY (account_id, category, channel)
);

CREATE TABLE resident (
    municipality_code TEXT NOT NULL REFERENCES municipality,
    resident_no TEXT NOT NULL,
    name TEXT NOT NULL,
    name_kana TEXT NOT NULL,
    name_kana_normal TEXT NOT NULL,
    sex TEXT NOT NULL,
    birth_date TEXT NOT NULL,
    household_no TEXT NOT NULL,
    postal_code TEXT NOT NULL,
    address TEXT NOT NULL,
    movement_kind TEXT NOT NULL,
    movement_date TEXT NOT NULL,
    arrived_by TEXT NOT NULL,
    PRIMARY KEY (municipality_code, resident_no)
);
CREATE INDEX resident_by_birth ON resident (municipality_code, birth_date);

CREATE TABLE household_relation (
    municipality_code TEXT NOT NULL,
    resident_no TEXT NOT NULL,
    relation_resident_no TEXT NOT NULL,
    name_kana_normal TEXT NOT NULL,
    birth_date TEXT NOT NULL,
    relation_kind TEXT NOT NULL,
    PRIMARY KEY (municipality_code, resident_no, relation_resident_no)
);

CREATE TABLE facility_usage (
    municipality_code TEXT NOT NULL,
    resident_no TEXT NOT NULL,
    facility_no TEXT NOT NULL,
    programme_code TEXT NOT NULL,
    used_from TEXT NOT NULL,
    used_to TEXT NOT NULL,
    PRIMARY KEY (municipality_code, resident_no, facility_no, programme_code, used_from)
);

CREATE TABLE child (
    child_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    guardian_id TEXT NOT NULL REFERENCES guardian,
    child_no TEXT NOT NULL,
    name TEXT NOT NULL,
    name_kana TEXT NOT NULL,
    sex TEXT NOT NULL,
    birth_date TEXT NOT NULL,
    resident_no TEXT,
    moved_out_on TEXT,
    person_key BIGINT,
    created_at_us BIGINT NOT NULL,
    UNIQUE (municipality_code, child_no),
    UNIQUE (municipality_code, person_key),
    UNIQUE (municipality_code, resident_no)
);
CREATE INDEX child_by_guardian ON child (guardian_id);

-- A code on paper or in the app. It names a resident (a solicited child nobody registered yet) or a
-- registered child; the resident's code stays valid for the child that is linked to it.
CREATE TABLE child_qr (
    token TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    resident_no TEXT,
    child_id TEXT REFERENCES child,
    issued_at_us BIGINT NOT NULL,
    voided_at_us BIGINT
);
CREATE INDEX child_qr_by_child ON child_qr (child_id);
CREATE INDEX child_qr_by_resident ON child_qr (municipality_code, resident_no);

CREATE TABLE import_file (
    import_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    file_kind TEXT NOT NULL,
    file_name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    state TEXT NOT NULL,
    n_rows BIGINT NOT NULL,
    n_errors BIGINT NOT NULL,
    result_csv TEXT NOT NULL,
    account_id TEXT,
    at_us BIGINT NOT NULL
);
CREATE INDEX import_file_by_hash ON import_file (municipality_code, sha256);

CREATE TABLE solicitation (
    solicitation_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    resident_no TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    channel TEXT,
    guardian_id TEXT,
    child_id TEXT,
    person_key BIGINT NOT NULL,
    repeats BIGINT NOT NULL,
    last_sent_on TEXT,
    created_at_us BIGINT NOT NULL,
    UNIQUE (municipality_code, resident_no)
);

CREATE TABLE print_item (
    letter_no TEXT NOT NULL,
    municipality_code TEXT NOT NULL,
    letter_kind TEXT NOT NULL,
    recipient_name TEXT NOT NULL,
    postal_code TEXT NOT NULL,
    address TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    qr_token TEXT,
    state TEXT NOT NULL,
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (municipality_code, letter_no)
);

CREATE TABLE coupon_set (
    coupon_set_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    title TEXT NOT NULL,
    terms TEXT NOT NULL,
    programmes TEXT NOT NULL,
    valid_from TEXT NOT NULL,
    created_at_us BIGINT NOT NULL
);

CREATE TABLE application (
    application_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    application_no TEXT NOT NULL,
    state TEXT NOT NULL,
    child_id TEXT NOT NULL REFERENCES child,
    guardian_id TEXT NOT NULL REFERENCES guardian,
    relation TEXT NOT NULL,
    entry TEXT NOT NULL,
    via_child_qr BOOLEAN NOT NULL,
    contact_channel TEXT NOT NULL,
    coupon_set_id TEXT REFERENCES coupon_set,
    submitted_at_us BIGINT NOT NULL,
    decided_at_us BIGINT,
    deficiency TEXT,
    reason TEXT,
    matching_error TEXT,
    matching_candidates TEXT,
    guardian_confirmed BOOLEAN,
    round BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (municipality_code, application_no)
);
CREATE INDEX application_by_state ON application (municipality_code, state, submitted_at_us);
CREATE INDEX application_by_guardian ON application (guardian_id);
CREATE INDEX application_by_child ON application (child_id);

CREATE TABLE application_history (
    application_id TEXT NOT NULL REFERENCES application,
    step BIGINT NOT NULL,
    state TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    by_role TEXT NOT NULL,
    note TEXT,
    PRIMARY KEY (application_id, step)
);

CREATE TABLE document (
    document_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES account,
    application_id TEXT REFERENCES application,
    kind TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content BLOB NOT NULL,
    created_at_us BIGINT NOT NULL
);
CREATE INDEX document_by_application ON document (application_id);

CREATE TABLE coupon (
    coupon_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    coupon_no TEXT NOT NULL,
    child_id TEXT NOT NULL REFERENCES child,
    guardian_id TEXT NOT NULL REFERENCES guardian,
    coupon_set_id TEXT NOT NULL REFERENCES coupon_set,
    application_id TEXT NOT NULL REFERENCES application,
    state TEXT NOT NULL,
    balance_yen BIGINT NOT NULL CHECK (balance_yen >= 0),
    ledger_seq BIGINT NOT NULL,
    approved_on TEXT NOT NULL,
    cycle_no BIGINT NOT NULL,
    next_cycle_on TEXT,
    created_at_us BIGINT NOT NULL,
    UNIQUE (municipality_code, coupon_no),
    UNIQUE (child_id, coupon_set_id, application_id)
);
CREATE INDEX coupon_by_guardian ON coupon (guardian_id);
CREATE INDEX coupon_by_child ON coupon (child_id);
CREATE INDEX coupon_by_cycle ON coupon (next_cycle_on);

CREATE TABLE lot (
    lot_id TEXT PRIMARY KEY,
    coupon_id TEXT NOT NULL REFERENCES coupon,
    amount_yen BIGINT NOT NULL CHECK (amount_yen > 0),
    rest_yen BIGINT NOT NULL CHECK (rest_yen >= 0),
    expires_on TEXT NOT NULL,
    expiry_rule TEXT NOT NULL,
    cycle_no BIGINT NOT NULL,
    distributed_at_us BIGINT NOT NULL
);
CREATE INDEX lot_by_coupon ON lot (coupon_id);
CREATE INDEX lot_by_expiry ON lot (expires_on);

CREATE TABLE ledger_entry (
    coupon_id TEXT NOT NULL REFERENCES coupon,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    kind TEXT NOT NULL,
    delta_yen BIGINT NOT NULL,
    balance_after_yen BIGINT NOT NULL CHECK (balance_after_yen >= 0),
    lines TEXT NOT NULL,
    use_id TEXT,
    reason TEXT,
    PRIMARY KEY (coupon_id, seq)
);

CREATE TABLE coupon_use (
    use_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    use_no TEXT NOT NULL,
    coupon_id TEXT NOT NULL REFERENCES coupon,
    child_id TEXT NOT NULL,
    guardian_id TEXT NOT NULL,
    facility_id TEXT NOT NULL REFERENCES facility,
    programme_code TEXT NOT NULL,
    purpose TEXT NOT NULL,
    amount_yen BIGINT NOT NULL CHECK (amount_yen > 0),
    fee_total_yen BIGINT,
    application_id TEXT,
    state TEXT NOT NULL,
    initiated_by TEXT NOT NULL,
    device_less BOOLEAN NOT NULL,
    lines TEXT NOT NULL,
    balance_after_yen BIGINT NOT NULL,
    ledger_seq BIGINT NOT NULL,
    used_at_us BIGINT NOT NULL,
    reversed_at_us BIGINT,
    reverse_reason TEXT,
    UNIQUE (municipality_code, use_no)
);
CREATE INDEX coupon_use_by_coupon ON coupon_use (coupon_id, used_at_us);
CREATE INDEX coupon_use_by_facility ON coupon_use (facility_id, used_at_us);
CREATE INDEX coupon_use_by_guardian ON coupon_use (guardian_id, used_at_us);
CREATE UNIQUE INDEX coupon_use_once ON coupon_use (child_id, facility_id, application_id, purpose)
    WHERE state = 'settled' AND application_id IS NOT NULL;

CREATE TABLE idempotency (
    account_id TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    status BIGINT NOT NULL,
    response TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_by_age ON idempotency (at_us);

CREATE TABLE survey (
    survey_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL,
    anonymous BOOLEAN NOT NULL,
    opens_at_us BIGINT NOT NULL,
    closes_at_us BIGINT NOT NULL,
    minutes_needed BIGINT NOT NULL,
    questions TEXT NOT NULL,
    conditions TEXT,
    n_targets BIGINT NOT NULL,
    n_answers BIGINT NOT NULL,
    author_role TEXT NOT NULL,
    created_at_us BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX survey_by_state ON survey (state, opens_at_us);

CREATE TABLE survey_target (
    survey_id TEXT NOT NULL REFERENCES survey,
    account_id TEXT NOT NULL REFERENCES account,
    ward_code TEXT NOT NULL,
    class_age BIGINT,
    requested BOOLEAN NOT NULL,
    answered BOOLEAN NOT NULL,
    reminded BOOLEAN NOT NULL,
    PRIMARY KEY (survey_id, account_id)
);
CREATE INDEX survey_target_by_account ON survey_target (account_id);

-- account_id is null for an anonymous answer: its one-time ticket (a hash only the answering person's
-- session can make) prevents a second answer and allows an edit, without naming the person.
CREATE TABLE survey_answer (
    answer_id TEXT PRIMARY KEY,
    survey_id TEXT NOT NULL REFERENCES survey,
    account_id TEXT,
    ticket TEXT,
    revision BIGINT NOT NULL,
    answers TEXT NOT NULL,
    ward_code TEXT,
    class_age BIGINT,
    at_us BIGINT NOT NULL,
    UNIQUE (survey_id, account_id),
    UNIQUE (survey_id, ticket)
);

CREATE TABLE notice (
    notice_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    audience TEXT NOT NULL,
    valid_from TEXT NOT NULL,
    valid_to TEXT NOT NULL,
    push BOOLEAN NOT NULL,
    event_id TEXT NOT NULL,
    told_after TEXT NOT NULL,
    told BOOLEAN NOT NULL,
    published_at_us BIGINT NOT NULL,
    withdrawn_at_us BIGINT
);
CREATE INDEX notice_by_municipality ON notice (municipality_code, valid_from);

CREATE TABLE message (
    message_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES account,
    message_type TEXT NOT NULL,
    category TEXT NOT NULL,
    class TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    subject_no TEXT,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    link TEXT NOT NULL,
    in_inbox BOOLEAN NOT NULL,
    cause_event_id TEXT NOT NULL,
    dedupe_key TEXT NOT NULL UNIQUE,
    created_at_us BIGINT NOT NULL,
    delivered_at_us BIGINT,
    read_at_us BIGINT,
    acknowledged_at_us BIGINT
);
CREATE INDEX message_inbox ON message (account_id, in_inbox, created_at_us, message_id);
CREATE INDEX message_unread ON message (account_id) WHERE in_inbox AND read_at_us IS NULL;
CREATE INDEX message_by_cause ON message (cause_event_id);

CREATE TABLE delivery (
    message_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    municipality_code TEXT NOT NULL,
    address TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at_us BIGINT NOT NULL,
    leased_until_us BIGINT NOT NULL,
    error_code TEXT,
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (message_id, channel, address)
);
CREATE INDEX delivery_due ON delivery (state, due_at_us);

CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    event_type TEXT NOT NULL,
    municipality_code TEXT NOT NULL,
    recorded_at_us BIGINT NOT NULL,
    body TEXT NOT NULL,
    lake_batch BIGINT
);
CREATE INDEX event_unrelayed ON event (seq) WHERE lake_batch IS NULL;
CREATE INDEX event_by_batch ON event (lake_batch);

CREATE TABLE lake_batch (
    batch_no BIGINT PRIMARY KEY,
    done BOOLEAN NOT NULL
);

CREATE TABLE subject_counter (
    subject_kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    last_seq BIGINT NOT NULL,
    PRIMARY KEY (subject_kind, subject_id)
);

CREATE TABLE channel_head (
    channel TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);

CREATE TABLE publication (
    channel TEXT NOT NULL,
    position BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (channel, position)
);
CREATE INDEX publication_by_age ON publication (at_us);

-- Each firing of a timer happens once: whoever inserts the row fires it.
CREATE TABLE timer_firing (
    timer_id TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    instant_us BIGINT NOT NULL,
    fired_at_us BIGINT NOT NULL,
    PRIMARY KEY (timer_id, subject_id, instant_us)
);
