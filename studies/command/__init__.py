"""Programs of a user's, in any language, as a problem: a command with placeholders, and the figures that it prints."""
