"""Compiles functions with Numba, and caches them on disk only where no other user can write."""
