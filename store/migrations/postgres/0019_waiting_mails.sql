-- Mails that wait for somebody of a facility to look: a look asks for those of one type.
CREATE INDEX delivery_waiting ON delivery (message_type) WHERE state = 'queued' AND escalation = 'E3';
