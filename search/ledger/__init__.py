"""Each study, configuration and round exactly once, however many workers come and go."""
