"""The commands. Each imports what it needs when it runs, so that commands which only read start quickly."""
