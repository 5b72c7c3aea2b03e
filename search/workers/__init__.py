"""Trains configurations: one worker, or a pool of worker processes."""
