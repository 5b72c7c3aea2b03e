"""The errors of `data/`: each message is one line that says what was given, what was expected and what to do.

ValueError
└── DataError                 a bad value: an unknown source, a size, a seed, more pairs than images
    ├── CorruptDataError      a file is truncated, unreadable or of a wrong checksum; names the file
    └── MissingDataError      a file is not there, and nothing may be downloaded; names the file
        └── DownloadError     a download was tried and failed

Errors of torchvision, of the network and of the file system are translated in `data.mnist`, and nowhere else.
"""

from __future__ import annotations


class DataError(ValueError):
    """Something about the data, or about a request for data, cannot be worked with."""


class CorruptDataError(DataError):
    """A data file is truncated, unreadable or has a wrong checksum; it is never replaced on its own."""


class MissingDataError(DataError):
    """A data file is absent."""


class DownloadError(MissingDataError):
    """A data file is absent and could not be fetched, or could not be put where it belongs."""
