"""OCPI modules the hub answers itself."""
