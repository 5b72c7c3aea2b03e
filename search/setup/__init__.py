"""Opens the database and checks the studies that a command names."""
