"""Charging stations, vehicles and drivers that speak the real protocols. Knows no deployable."""
