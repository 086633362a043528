"""Twins in memory: deterministic, transactional, for simulations and tests."""
