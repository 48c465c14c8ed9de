"""Worker processes: how they start, what travels, what happens when they die."""
