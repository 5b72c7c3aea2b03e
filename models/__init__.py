"""Architectures, losses, optimisers, the plain reference trainer and the fast ones."""
