"""The errors of `data/`. Each message is one line that says what was given, what was expected and what to do.

Errors of torchvision, Pillow, the network and the file system never leave `data/` as they are.
"""

from __future__ import annotations


class DataError(ValueError):
    """The data, or a value that asks for data, cannot be used."""


class CorruptDataError(DataError):
    """A data file is truncated, unreadable or has a wrong checksum. The program never replaces it by itself."""


class MissingDataError(DataError):
    """A data file is absent, or it could not be downloaded or written to its folder."""
