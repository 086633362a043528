"""The MSP's back office: drivers, tokens, signed quotes, remote start, CDR check, retail bills, payments, a page."""
