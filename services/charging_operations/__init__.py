"""CPO back office: stations, authorisation, sessions, wholesale price, CDR, quarantine."""
