"""Tariffs and the one exact engine that prices by them."""
