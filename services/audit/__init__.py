"""Recomputes what must hold: nothing lost, nothing twice, energy and money conserved."""
