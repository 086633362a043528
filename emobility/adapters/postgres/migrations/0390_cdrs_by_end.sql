-- Of a token's or an EVSE's CDRs only those are read that end after another began: a busy EVSE has thousands in a month.

CREATE INDEX emsp_cdr_by_token_end ON emsp_cdr (party_id, token_subject, ended_at);
CREATE INDEX emsp_cdr_by_evse_end ON emsp_cdr (party_id, cpo_id, evse_uid, ended_at);
DROP INDEX emsp_cdr_by_token;
DROP INDEX emsp_cdr_at_evse;
