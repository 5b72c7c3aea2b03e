"""Architectures, the plain reference trainer and the fast training core; imports nothing from `data`."""
