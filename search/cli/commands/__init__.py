"""The commands. Each imports what it needs when it runs: looking at a database must start at once."""
