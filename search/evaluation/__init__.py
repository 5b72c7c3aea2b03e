"""The final evaluation: trains configurations in several rounds, and keeps their models."""
