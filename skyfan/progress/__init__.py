"""A run as people watch it: a bar on a terminal, one line in a notebook, lines of a log elsewhere."""
