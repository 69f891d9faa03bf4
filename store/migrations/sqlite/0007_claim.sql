-- Coupon claims (flow F18). A reversal has an id of its own from now on; earlier ones are known by the use they undo.
ALTER TABLE coupon_use ADD COLUMN reversal_id TEXT;
UPDATE coupon_use SET reversal_id = use_id WHERE state = 'reversed';

-- The account a facility is paid to.
CREATE TABLE bank_account (
    facility_id TEXT PRIMARY KEY REFERENCES facility,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    bank_code TEXT NOT NULL CHECK (length(bank_code) = 4),
    branch_code TEXT NOT NULL CHECK (length(branch_code) = 3),
    account_type TEXT NOT NULL,
    account_no TEXT NOT NULL CHECK (length(account_no) = 7),
    holder_kana TEXT NOT NULL,
    entered_by TEXT NOT NULL,
    entered_at_us BIGINT NOT NULL
);

-- What the bank was asked to pay: a file, and a line of it for each account as it was at that moment.
CREATE TABLE transfer_file (
    transfer_file_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    n_claims BIGINT NOT NULL,
    amount_yen BIGINT NOT NULL CHECK (amount_yen > 0),
    requested_at_us BIGINT NOT NULL
);
CREATE INDEX transfer_file_by_municipality ON transfer_file (municipality_code, requested_at_us);

CREATE TABLE transfer_line (
    transfer_file_id TEXT NOT NULL REFERENCES transfer_file,
    line_no BIGINT NOT NULL,
    claim_nos TEXT NOT NULL,
    bank_code TEXT NOT NULL,
    branch_code TEXT NOT NULL,
    account_type TEXT NOT NULL,
    account_no TEXT NOT NULL,
    holder_kana TEXT NOT NULL,
    amount_yen BIGINT NOT NULL CHECK (amount_yen > 0),
    PRIMARY KEY (transfer_file_id, line_no)
);

-- One claim for each facility, programme and month. `from_us` and `to_us` are the month's bounds.
CREATE TABLE claim (
    claim_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    claim_no TEXT NOT NULL,
    facility_id TEXT NOT NULL REFERENCES facility,
    programme_code TEXT NOT NULL,
    month TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,
    state TEXT NOT NULL,
    n_uses BIGINT NOT NULL,
    n_children BIGINT NOT NULL,
    gross_yen BIGINT NOT NULL CHECK (gross_yen >= 0),
    reversed_yen BIGINT NOT NULL CHECK (reversed_yen >= 0),
    net_yen BIGINT NOT NULL CHECK (net_yen = gross_yen - reversed_yen),
    cancel_fee_yen BIGINT NOT NULL,
    n_returned BIGINT NOT NULL,
    return_reason TEXT,
    created_at_us BIGINT NOT NULL,
    submitted_at_us BIGINT,
    received_at_us BIGINT,
    forwarded_at_us BIGINT,
    transfer_requested_at_us BIGINT,
    transfer_file_id TEXT,
    transfer_line_no BIGINT,
    transferred_on TEXT,
    result_code TEXT,
    UNIQUE (municipality_code, claim_no),
    UNIQUE (facility_id, programme_code, month),
    FOREIGN KEY (transfer_file_id, transfer_line_no) REFERENCES transfer_line (transfer_file_id, line_no)
);
CREATE INDEX claim_by_month ON claim (municipality_code, month);
CREATE INDEX claim_by_transfer ON claim (transfer_file_id, transfer_line_no);

-- What a claim is for. The key holds that each use and each reversal is in one claim only.
CREATE TABLE claim_line (
    use_id TEXT NOT NULL REFERENCES coupon_use,
    kind TEXT NOT NULL CHECK (kind IN ('use', 'reversal')),
    claim_id TEXT NOT NULL REFERENCES claim,
    amount_yen BIGINT NOT NULL CHECK ((kind = 'use') = (amount_yen > 0)),
    at_us BIGINT NOT NULL,
    PRIMARY KEY (use_id, kind)
);
CREATE INDEX claim_line_by_claim ON claim_line (claim_id, at_us);
CREATE INDEX coupon_use_reversed ON coupon_use (facility_id, reversed_at_us) WHERE state = 'reversed';
