"""X.509 as both sides of a charge need it: chains to a root, OCPP's hash data, OCSP answers and revocation lists."""
