"""Settlement on a ledger instead of a chain: hash-chained, signed by its operator, countersigned by its parties."""
