-- A pair's currencies are closed each for itself: kept with the pair, the first one's close made the others late.
ALTER TABLE settlement_opening ADD COLUMN closed_until TIMESTAMPTZ;
UPDATE settlement_opening
SET closed_until = settlement_agreement.closed_until
FROM settlement_agreement
WHERE settlement_agreement.cpo_id = settlement_opening.cpo_id
    AND settlement_agreement.agreement_id = settlement_opening.agreement_id;
ALTER TABLE settlement_agreement DROP COLUMN closed_until;
