"""Events: what happens where nodes run, and what the driver makes of it for callbacks."""
