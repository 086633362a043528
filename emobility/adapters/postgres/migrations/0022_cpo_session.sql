-- From transactions to CDRs, so that each metered Wh is in exactly one place.

-- `transaction` holds every distinct report, so whatever is derived can be derived again.
CREATE TABLE cpo_transaction (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    state TEXT NOT NULL,
    session_id TEXT,
    ocpp_evse_id BIGINT,
    token_subject TEXT,
    metered_import_wh BIGINT NOT NULL,
    metered_export_wh BIGINT NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    has_ended BOOLEAN NOT NULL,
    correlation_id TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    transaction JSONB NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, transaction_id),
    CONSTRAINT metered_energy_is_not_negative CHECK (metered_import_wh >= 0 AND metered_export_wh >= 0),
    CONSTRAINT last_is_not_before_first CHECK (last_at >= first_at)
);

CREATE INDEX cpo_transaction_of_evse ON cpo_transaction (party_id, charging_station_id, ocpp_evse_id, last_at);

CREATE INDEX cpo_transaction_of_token ON cpo_transaction (party_id, charging_station_id, token_subject);

CREATE INDEX cpo_transaction_overdue ON cpo_transaction (updated_at) WHERE state = 'OPEN' AND has_ended;

CREATE TABLE cpo_session (
    party_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    authorization_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    agreement_version BIGINT NOT NULL,
    tariff JSONB NOT NULL,
    location JSONB NOT NULL,
    session JSONB NOT NULL,
    revision BIGINT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    pushed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, session_id)
);

CREATE INDEX cpo_session_of_emsp ON cpo_session (party_id, emsp_id, last_updated);

CREATE TABLE cpo_cdr (
    party_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    is_credit BOOLEAN NOT NULL,
    credited_by TEXT,
    energy_import_wh BIGINT NOT NULL,
    energy_export_wh BIGINT NOT NULL,
    cdr JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, cdr_id),
    CONSTRAINT energy_is_not_negative CHECK (energy_import_wh >= 0 AND energy_export_wh >= 0),
    CONSTRAINT a_credit_is_not_credited CHECK (NOT (is_credit AND credited_by IS NOT NULL))
);

CREATE INDEX cpo_cdr_of_session ON cpo_cdr (party_id, session_id);

CREATE INDEX cpo_cdr_of_emsp ON cpo_cdr (party_id, emsp_id, last_updated);

-- At most one CDR of a session stands uncredited.
CREATE UNIQUE INDEX cpo_cdr_one_stands ON cpo_cdr (party_id, session_id) WHERE NOT is_credit AND credited_by IS NULL;

-- What can't be trusted waits here; how it was decided stays.
CREATE TABLE cpo_quarantine (
    party_id TEXT NOT NULL,
    quarantine_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reasons JSONB NOT NULL,
    details JSONB NOT NULL,
    energy_import_wh BIGINT NOT NULL,
    energy_export_wh BIGINT NOT NULL,
    quarantined_at TIMESTAMPTZ NOT NULL,
    billed_import_wh BIGINT NOT NULL,
    waived_import_wh BIGINT NOT NULL,
    written_off_import_wh BIGINT NOT NULL,
    billed_export_wh BIGINT NOT NULL,
    waived_export_wh BIGINT NOT NULL,
    written_off_export_wh BIGINT NOT NULL,
    resolved_at TIMESTAMPTZ,
    resolved_by TEXT,
    resolved_why TEXT,
    PRIMARY KEY (party_id, quarantine_id),
    CONSTRAINT energy_is_not_negative CHECK (energy_import_wh >= 0 AND energy_export_wh >= 0),
    CONSTRAINT the_parts_add_up CHECK (
        state = 'OPEN'
        OR (
            billed_import_wh + waived_import_wh + written_off_import_wh = energy_import_wh
            AND billed_export_wh + waived_export_wh + written_off_export_wh = energy_export_wh
        )
    ),
    CONSTRAINT a_decision_has_a_name_and_a_reason CHECK (
        state = 'OPEN' OR (resolved_at IS NOT NULL AND resolved_by IS NOT NULL AND resolved_why IS NOT NULL)
    )
);

CREATE INDEX cpo_quarantine_of_transaction ON cpo_quarantine (party_id, charging_station_id, transaction_id);

-- A signed record proves one session, once.
CREATE TABLE cpo_used_signed_record (
    party_id TEXT NOT NULL,
    payload_sha256 TEXT NOT NULL,
    session_id TEXT NOT NULL,
    PRIMARY KEY (party_id, payload_sha256)
);

CREATE TABLE cpo_dispute (
    party_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    expected_e4 BIGINT,
    stated_e4 BIGINT,
    received_at TIMESTAMPTZ NOT NULL,
    answer TEXT,
    PRIMARY KEY (party_id, emsp_id, cdr_id)
);
