"""OCMF signed meter values: parse, verify, mask."""
