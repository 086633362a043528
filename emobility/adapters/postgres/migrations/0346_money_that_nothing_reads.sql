-- Nothing reads them: guarantees written beside those that a vault reserves, and two moments.

DROP TABLE settlement_guarantee;
ALTER TABLE settlement_payout DROP COLUMN last_booked_at;
ALTER TABLE cpo_exposure_reservation DROP COLUMN reserved_at;
