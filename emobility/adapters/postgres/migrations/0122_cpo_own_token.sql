-- Cards that a CPO gives out itself end with a date, which no eMSP's token has.

CREATE TABLE cpo_own_token (
    party_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    token_type TEXT NOT NULL,
    is_valid BOOLEAN NOT NULL,
    is_blocked BOOLEAN NOT NULL,
    expires_at TIMESTAMPTZ,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, token_subject, token_type)
);
CREATE INDEX cpo_own_token_by_expiry ON cpo_own_token (expires_at) WHERE is_valid AND expires_at IS NOT NULL;
