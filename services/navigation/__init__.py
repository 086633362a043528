"""NSP: shows drivers where they can charge, from what CPOs publish through the hub."""
