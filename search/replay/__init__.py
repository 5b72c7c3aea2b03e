"""Searches a finished study again without training: what samplers would find, and what early stopping loses."""
