"""Settlement: accepted CDRs become statements of pairs, which both sign and a chain makes final."""
