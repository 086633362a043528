-- What came back is held against what moved beyond its payment, so a payment's entries are found by its name.

CREATE INDEX settlement_bank_entry_of_payment ON settlement_bank_entry (party_id, end_to_end_id);
