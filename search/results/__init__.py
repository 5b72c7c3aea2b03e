"""Reads progress, rankings, evaluations and tables from the database; its tables go out and come in."""
