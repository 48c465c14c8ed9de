"""Callbacks read, checked and compiled into tables of calls; nothing here knows the engine."""
