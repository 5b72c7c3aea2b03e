"""Parses database URLs, and shows them without their passwords."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from pairsearch.search.common.errors import StorageError
from pairsearch.search.common.redaction import MASK, conceal_places, learn

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
# Options that SQLite reads from a URL if `uri=true` is among them.
SQLITE_OPTIONS = frozenset({"uri", "mode", "cache", "immutable", "nolock", "psow", "vfs"})
# Options of the query whose values are shown. Any other value may be a secret: the option may be a misspelt `password`.
SHOWN = SQLITE_OPTIONS | {
    "host", "port", "dbname", "user", "sslmode", "application_name", "connect_timeout", "target_session_attrs",
}  # fmt: skip


def parse_url(text: str) -> URL:
    """Parse a database URL, name its driver, and register its passwords with `search.common.redaction`.

    Raises:
        StorageError: it is no URL, or names a database other than SQLite and PostgreSQL. The message masks passwords.
    """
    expected = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StorageError(f"storage URL has bytes that are no UTF-8: {expected}") from None
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The message does not repeat the text: it may contain a password although it is no URL.
        raise StorageError(f"storage URL is malformed: {expected}") from None
    learn(_secrets(url), filter(None, (url.username, url.host, url.database, url.get_backend_name())))
    backend = url.get_backend_name()
    # libpq would read up to the NUL only, and connect to somewhere else.
    if "\0" in "".join(filter(None, (url.username, url.password, url.host, url.database))):
        raise StorageError(f"storage URL has a NUL character (%00): {expected}")
    if backend == POSTGRESQL:
        if url.drivername not in (POSTGRESQL, f"{POSTGRESQL}+psycopg"):
            raise StorageError(f"storage URL names driver {url.drivername!r}: {expected}")
        # A password would end at its first unquoted @, and its rest would be read, and shown, as the host.
        if text.count("@") > (url.username is not None):
            raise StorageError(
                "storage URL has an @ that ends neither user nor password: "
                "write an @ inside of a name or a password as %40"
            )
        return url.set(drivername=f"{POSTGRESQL}+psycopg")
    if backend == SQLITE:
        if url.drivername not in (SQLITE, f"{SQLITE}+pysqlite") or not url.database or url.host:
            raise StorageError(f"storage URL {mask(url)!r} names no file: {expected}")
        if "://" in url.database:
            raise StorageError(f"storage URL has another URL in a file's place: {expected}")
        unknown = [key for key in url.query if key not in SQLITE_OPTIONS or "uri" not in url.query]
        if unknown:
            raise StorageError(
                f"storage URL {mask(url)!r} has options that SQLite does not read ({', '.join(unknown)}): "
                f"expected some of {', '.join(sorted(SQLITE_OPTIONS))}, uri=true among them"
            )
        if url.database == ":memory:":
            raise StorageError(
                "storage URL names a database in memory, which workers cannot share: name a file"
            )
        return url.set(drivername=SQLITE)
    raise StorageError(f"storage URL names database {backend!r}: {expected}")


def absolute(url: URL) -> URL:
    """Return the URL with the absolute path of a SQLite file: a problem may change the working directory."""
    if url.get_backend_name() != SQLITE or not url.database:
        return url
    scheme = "file:" if url.database.startswith("file:") else ""
    return url.set(database=scheme + str(Path(url.database.removeprefix(scheme)).absolute()))


def _secrets(url: URL) -> list[str]:
    secrets = [] if url.password is None else [str(url.password)]
    for key, value in url.query.items():
        if key.lower() not in SHOWN:
            secrets += [value] if isinstance(value, str) else value
    return secrets


def mask(url: URL) -> str:
    """Return the URL as text for messages, its secrets masked."""
    hidden = {key: MASK for key in url.query if key.lower() not in SHOWN}
    return conceal_places(url.update_query_dict(hidden).render_as_string(hide_password=True))
