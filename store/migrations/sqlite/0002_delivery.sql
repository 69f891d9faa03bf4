-- Devices, deliveries per device and address, and escalations.

ALTER TABLE message ADD COLUMN locale TEXT NOT NULL DEFAULT 'ja';
ALTER TABLE message ADD COLUMN template_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE message ADD COLUMN withdrawn_at_us BIGINT;
ALTER TABLE message ADD COLUMN corrected_at_us BIGINT;

-- A phone or browser that takes push. A removed one stays, with its reason, until its deliveries are forgotten.
CREATE TABLE device (
    device_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    account_id TEXT NOT NULL REFERENCES account,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    p256dh TEXT NOT NULL,
    auth TEXT NOT NULL,
    sandbox BOOLEAN NOT NULL,
    permission TEXT NOT NULL,
    language TEXT NOT NULL,
    platform TEXT NOT NULL,
    os_version TEXT NOT NULL,
    app_version TEXT NOT NULL,
    registered_at_us BIGINT NOT NULL,
    seen_at_us BIGINT NOT NULL,
    removed_at_us BIGINT,
    removed_reason TEXT
);
CREATE INDEX device_by_account ON device (account_id);
-- A token or subscription belongs to the person who registered it last.
CREATE UNIQUE INDEX device_by_address ON device (kind, address) WHERE removed_at_us IS NULL;

DROP INDEX delivery_due;
ALTER TABLE delivery RENAME TO delivery_before;

-- One message on its way to one device or address. `target` is the device's id, the mail address or the
-- letter's number; `edition` rises when a message is corrected or sent again by a person. A mail with an
-- `escalation` waits for its time and goes only if nobody looked until then.
CREATE TABLE delivery (
    delivery_id TEXT PRIMARY KEY,
    message_id TEXT NOT NULL,
    municipality_code TEXT NOT NULL,
    account_id TEXT NOT NULL,
    message_type TEXT NOT NULL,
    purpose TEXT NOT NULL,
    channel TEXT NOT NULL,
    provider TEXT NOT NULL,
    target TEXT NOT NULL,
    edition BIGINT NOT NULL,
    speed BIGINT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    link TEXT NOT NULL,
    collapse_key TEXT NOT NULL,
    optional BOOLEAN NOT NULL,
    secret BOOLEAN NOT NULL,
    escalation TEXT,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at_us BIGINT NOT NULL,
    leased_until_us BIGINT NOT NULL,
    expires_at_us BIGINT,
    doubtful BOOLEAN NOT NULL,
    provider_id TEXT,
    error_code TEXT,
    receipt_key BIGINT NOT NULL,
    cause_at_us BIGINT NOT NULL,
    created_at_us BIGINT NOT NULL,
    sent_at_us BIGINT,
    accepted_at_us BIGINT,
    delivered_at_us BIGINT,
    displayed_at_us BIGINT,
    opened_at_us BIGINT,
    ended_at_us BIGINT,
    UNIQUE (message_id, channel, target, purpose, edition)
);

INSERT INTO delivery (delivery_id, message_id, municipality_code, account_id, message_type, purpose, channel, provider,
    target, edition, speed, subject, body, link, collapse_key, optional, secret, state, version, attempts, due_at_us,
    leased_until_us, doubtful, error_code, receipt_key, cause_at_us, created_at_us)
SELECT d.message_id, d.message_id, d.municipality_code, m.account_id, m.message_type, 'notification', 'email', 'smtp',
    d.address, 0, 0, d.subject, d.body, '', d.message_id, m.class <> 'mandatory', NOT m.in_inbox, d.state, 0, d.attempts,
    d.due_at_us, 0, FALSE, d.error_code, 0, d.created_at_us, d.created_at_us
FROM delivery_before d JOIN message m ON m.message_id = d.message_id;
DROP TABLE delivery_before;

CREATE INDEX delivery_queue ON delivery (provider, speed, due_at_us) WHERE state = 'queued';
CREATE INDEX delivery_leased ON delivery (leased_until_us) WHERE state = 'sent';
CREATE INDEX delivery_expiring ON delivery (expires_at_us) WHERE state IN ('queued', 'accepted');
CREATE INDEX delivery_shown ON delivery (account_id, collapse_key) WHERE state IN ('queued', 'sent', 'accepted', 'delivered');

-- What follows when nobody looks (T21): a row until it has been looked at.
CREATE TABLE escalation (
    message_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    municipality_code TEXT NOT NULL,
    due_at_us BIGINT NOT NULL,
    leased_until_us BIGINT NOT NULL,
    PRIMARY KEY (message_id, rule)
);
CREATE INDEX escalation_due ON escalation (due_at_us);
CREATE INDEX delivery_letter ON delivery (municipality_code, target) WHERE channel = 'paper';
