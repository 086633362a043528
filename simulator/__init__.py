"""Stations, vehicles, drivers and a market that behave as the real ones do, and a time master that plays them.

It speaks sockets only: OCPP to the gateway, HTTP to the operators' and drivers' APIs. What it knows to be true (the
registers of its meters, the messages that were acknowledged) is written down as `Truth`, against which the stored data
are audited. Everything follows from a seed.
"""
