"""Clusters of others' making: chunks as their tasks, intermediates where they were made."""
