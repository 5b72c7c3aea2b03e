"""Turns a database URL into transactions, and defines the tables of the service."""
