"""OCPI 2.2.1, 2.3.0 and 2.1.1: shapes, bridges between them, client and server parts."""
