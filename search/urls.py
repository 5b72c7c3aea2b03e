"""Database URLs: which are understood, and how they are shown without their password."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search.errors import StorageError

SQLITE = "sqlite"
POSTGRESQL = "postgresql"


def parse_url(given: str) -> URL:
    """The URL with its driver named.

    Raises:
        StorageError: not a URL, or of a database other than SQLite and PostgreSQL. The message masks passwords.
    """
    expected = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        # What is no URL may still hold a password: it is not repeated.
        raise StorageError(f"storage URL is malformed: {expected}") from None
    backend = url.get_backend_name()
    if backend == POSTGRESQL:
        if url.drivername not in (POSTGRESQL, f"{POSTGRESQL}+psycopg"):
            raise StorageError(f"storage URL names driver {url.drivername!r}: {expected}")
        return url.set(drivername=f"{POSTGRESQL}+psycopg")
    if backend == SQLITE:
        if url.drivername not in (SQLITE, f"{SQLITE}+pysqlite") or not url.database or url.host:
            raise StorageError(f"storage URL {mask(url)!r} names no file: {expected}")
        if url.database == ":memory:":
            raise StorageError(
                "storage URL names a database in memory, which workers cannot share: name a file"
            )
        return url.set(drivername=SQLITE)
    raise StorageError(f"storage URL names database {backend!r}: {expected}")


def mask(url: URL) -> str:
    """The URL without its password, for people."""
    secretive = {key: "***" for key in url.query if "pass" in key.lower()}
    return url.update_query_dict(secretive).render_as_string(hide_password=True)
