"""The `wattroam` command."""
