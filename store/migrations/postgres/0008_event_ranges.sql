-- Most batches are done: what is open is found without looking at them.
CREATE INDEX lake_batch_open ON lake_batch (batch_no) WHERE NOT done;
