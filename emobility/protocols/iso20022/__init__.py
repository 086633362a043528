"""Bank files of ISO 20022: pain.001 and pain.008 out, camt.053 and camt.054 in."""
