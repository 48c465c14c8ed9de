"""Runs with a cache: signatures first, then only what the outputs asked for need."""
