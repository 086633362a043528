-- A guarantee that was called bears less: whom a CPO lets in follows.

CREATE TABLE cpo_guarantee_called (
    party_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    PRIMARY KEY (party_id, emsp_id, agreement_id, version)
);
