-- Letters that reached nobody are looked up for the page of whom nothing reached: these, and whether a newer letter with
-- the same code went out since.
CREATE INDEX print_item_in_vain ON print_item (municipality_code, letter_no) WHERE state IN ('returned', 'unaddressed');
CREATE INDEX print_item_by_code ON print_item (municipality_code, qr_token, letter_no) WHERE qr_token IS NOT NULL;

-- Whether mail to the account's address has failed for good and those who manage the account were told; a new address
-- takes it back.
ALTER TABLE account ADD COLUMN mail_failed BOOLEAN NOT NULL DEFAULT FALSE;
