"""What can be wrong with a study's definition.

ValueError
└── DefinitionError    a definition that cannot be read, is not valid, or cannot be trained
"""

from __future__ import annotations


class DefinitionError(ValueError):
    """A definition is unreadable or invalid; the message is one line that names the file and the field."""
