"""The command line: commands, options, and terminal output."""
