-- The language of messages is the person's: so far that of the device they used last. A device's own, empty for none,
-- is only what it was given on purpose; until now each had one.
ALTER TABLE account ADD COLUMN language TEXT NOT NULL DEFAULT 'ja';
UPDATE account SET language = 'ja-easy' WHERE 'ja-easy' = (
    SELECT device.language FROM device
    WHERE device.account_id = account.account_id AND device.removed_at_us IS NULL AND device.permission = 'granted'
    ORDER BY device.seen_at_us DESC, device.device_id DESC LIMIT 1
);
UPDATE device SET language = '';
