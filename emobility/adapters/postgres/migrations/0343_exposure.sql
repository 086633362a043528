-- What each MSP has open with a CPO, and what is reserved for its drivers who were let in.

CREATE TABLE cpo_exposure (
    party_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    exposure JSONB NOT NULL,
    PRIMARY KEY (party_id, emsp_id, currency)
);

CREATE TABLE cpo_exposure_reservation (
    party_id TEXT NOT NULL,
    authorization_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    reserved_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, authorization_id)
);
CREATE INDEX cpo_exposure_reservation_of_emsp ON cpo_exposure_reservation (party_id, emsp_id);
