"""The report of a run: what is noted while it runs, and the page that is made of it."""
