"""Reads progress, rankings, evaluations and tables, from the database or from published results."""
