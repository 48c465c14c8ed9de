"""A map of many items on many workers: what is measured of it, and what is simulated."""
