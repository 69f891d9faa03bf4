-- Whether a letter of a run has a character that the font lacks: it is completed by hand before it is posted.
ALTER TABLE print_item ADD COLUMN incomplete BOOLEAN NOT NULL DEFAULT FALSE;
