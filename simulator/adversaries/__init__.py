"""Stations that do wrong on purpose: each known defect of a station or attack by one, by name, as data and a play."""
