"""What a command names, as an opened database with checked studies."""
