-- When the message of a letter was taken back. A letter that waited left the queue with it; one in a run may be on paper.
ALTER TABLE print_item ADD COLUMN withdrawn_at_us BIGINT;
