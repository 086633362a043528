-- A driver is erased while a payment is still to be asked for: the card it is asked of stays with the order alone.
ALTER TABLE emsp_payment_order ADD COLUMN kept_card_subject TEXT;
ALTER TABLE emsp_payment_order ADD COLUMN kept_card_box BYTEA;
