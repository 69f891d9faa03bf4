-- Up to which account the messages of a withdrawn notice have been taken back; NULL when none is left to be.
ALTER TABLE notice ADD COLUMN taken_after TEXT;
