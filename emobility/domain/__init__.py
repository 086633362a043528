"""The pure core: no I/O, no clock, no framework. Numbers in, decisions out."""
