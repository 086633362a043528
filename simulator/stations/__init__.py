"""Charging stations that speak OCPP 1.6J and 2.0.1: behaviour without I/O, and a link that carries it over a socket."""
