"""What travels between a driver and its workers, wherever these are."""
