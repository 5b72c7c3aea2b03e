"""The command `upgrade`, which takes a database to this program's schema."""

from __future__ import annotations

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import say
from pairsearch.search.database.tables import SCHEMA_VERSION
from pairsearch.search.setup import upgrading


def upgrade(storage: options.Storage = options.DEFAULT_STORAGE) -> None:
    """A SQLite file is copied first, to a file beside it."""
    done = upgrading.upgrade(storage)
    if done.before == SCHEMA_VERSION:
        say(f"the database has schema {SCHEMA_VERSION}: nothing to do")
        return
    say(f"upgraded from schema {done.before} to {SCHEMA_VERSION}")
    if done.copy is not None:
        say(f"what it was before is in {done.copy}")
