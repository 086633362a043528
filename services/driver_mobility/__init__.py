"""MSP back office: contracts, tokens, retail price, payment, CDR check, disputes, the driver page."""
