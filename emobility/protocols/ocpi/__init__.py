"""OCPI 2.2.1: shapes, client and server parts."""
