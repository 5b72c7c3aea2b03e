"""Stores each study, configuration and round exactly once, whatever happens to workers."""
