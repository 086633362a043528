-- A meter that is replaced has another key from then on; what it signed before is checked by the key of before.

CREATE TABLE cpo_meter_key (
    party_id TEXT NOT NULL,
    evse_uid TEXT NOT NULL,
    entries JSONB NOT NULL,
    PRIMARY KEY (party_id, evse_uid)
);

ALTER TABLE emsp_meter_key ADD COLUMN entries JSONB NOT NULL DEFAULT '[]';
