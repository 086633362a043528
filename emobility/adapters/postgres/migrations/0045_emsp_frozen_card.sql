-- The card that is asked is frozen with what is asked of it: a retry of the same call must not name another card.
ALTER TABLE emsp_payment_order ADD COLUMN card_subject TEXT;
ALTER TABLE emsp_payment_order ADD COLUMN card_box BYTEA;
ALTER TABLE emsp_quote ADD COLUMN hold_card_subject TEXT;
ALTER TABLE emsp_quote ADD COLUMN hold_card_box BYTEA;
-- Calls under way were made with the card that the driver had.
UPDATE emsp_payment_order AS o SET card_subject = d.card_subject, card_box = d.card_box
FROM emsp_driver AS d
WHERE o.state = 'PENDING' AND o.kind = 'CHARGE' AND d.party_id = o.party_id AND d.driver_id = o.driver_id;
UPDATE emsp_quote AS q SET hold_card_subject = d.card_subject, hold_card_box = d.card_box
FROM emsp_driver AS d
WHERE q.state NOT IN ('OFFERED', 'BILLED') AND d.party_id = q.party_id AND d.driver_id = q.driver_id;
