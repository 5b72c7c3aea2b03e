"""A database URL becomes transactions; the tables that the service keeps in it."""
