"""Charging stations of OCPP 1.6J, 2.0.1 and 2.1: behaviour without I/O, and a link that carries it over a socket."""
