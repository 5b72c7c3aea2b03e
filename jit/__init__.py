"""Compiles functions by Numba, and keeps them on disk where nobody else can put code of theirs."""
