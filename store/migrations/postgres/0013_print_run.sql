-- Print runs. A run takes the oldest letters that wait and keeps them, with the words of the sender: its files are the
-- same whenever they are fetched. What has no address cannot be printed and says so.
CREATE TABLE print_run (
    print_run_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    made_by TEXT,
    n_letters BIGINT NOT NULL,
    sender_name TEXT NOT NULL,
    sender_contact TEXT NOT NULL,
    created_at_us BIGINT NOT NULL
);
CREATE INDEX print_run_by_municipality ON print_run (municipality_code, print_run_id);

ALTER TABLE print_item ADD COLUMN print_run_id TEXT;
UPDATE print_item SET state = 'unaddressed' WHERE state = 'queued' AND address = '';
CREATE INDEX print_item_waiting ON print_item (municipality_code, letter_no) WHERE state = 'queued' AND print_run_id IS NULL;
CREATE INDEX print_item_by_run ON print_item (print_run_id, state);
