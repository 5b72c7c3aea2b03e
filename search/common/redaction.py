"""Keeps passwords of database URLs, and terminal codes, out of messages, logs and tracebacks.

`search.database.urls.parse_url` registers the passwords of each URL that it reads (`learn`). Errors, logs, warnings and
tracebacks then pass through `conceal` before they are written (`install`, `report`), whether they come from this
program, SQLAlchemy, Optuna, Alembic, psycopg or libpq.

Passwords are found in two ways: by their place in a URL or a connection string, which also finds those that nobody
registered, and by the registered passwords in every usual spelling. A registered password that is shorter than
`SHORTEST`, or equal to a name that the URL shows anyway, is hidden by its place only: masking every `a` of a message
would give the password `a` away.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4

# scheme://user:PASSWORD@: up to the last @ before another URL or the line's end, because a password may contain @ and
# spaces. The word `PASSWORD` itself is left: messages use it to show what is expected.
_IN_URL = re.compile(r"(://[^\s/:@?]*:)(?!PASSWORD@)(?:(?!\w://)[^\n])*(?=@)")
# password=..., sslpassword='...', "password": "...": in a query, a connection string, a printed dictionary.
_NAMED = re.compile(
    r"""(?ix) ( pass(?:word|wd|phrase)? ['"]? (?: \s*=\s* | (?<=['"])\s*:\s* ) )
    (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [^\s&'",;)}\]]+ )"""
)

_known: set[str] = set()


def learn(secrets: Iterable[str], shown: Iterable[str] = ()) -> None:
    """Register passwords, which `conceal` hides from now on in all their usual spellings.

    Args:
        shown: names that messages show anyway, such as the user's.
    """
    public = {"pairsearch", *shown}
    for secret in secrets:
        if len(secret) >= SHORTEST and secret not in public:
            _known.update(form for form in _spellings(secret) if len(form) >= SHORTEST)


def _spellings(secret: str) -> Iterator[str]:
    """Yield a password as URLs, Python, JSON and libpq's connection strings write it."""
    yield secret
    yield secret.replace("\\", "\\\\").replace("'", "\\'")
    yield repr(secret)[1:-1]
    yield ascii(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    for encoded in (
        *(quote(secret, safe=safe, errors="surrogatepass") for safe in ("", "/", " +", " +/")),
        quote_plus(secret, errors="surrogatepass"),
    ):
        yield encoded
        yield re.sub("%..", lambda code: code[0].lower(), encoded)
        # Alembic gets the URL through ConfigParser, where a % is doubled.
        yield encoded.replace("%", "%%")


def conceal_places(text: str) -> str:
    """Mask whatever stands where a URL or a connection string has its password."""
    return _NAMED.sub(rf"\1{MASK}", _IN_URL.sub(rf"\1{MASK}", text))


def conceal(text: str) -> str:
    """Mask all passwords in a text."""
    known = _known
    # libpq reads this variable by itself, so no URL has registered it.
    if len(password := os.environ.get("PGPASSWORD", "")) >= SHORTEST:
        known = known | set(_spellings(password))
    # The longest comes first, since one password may be part of another.
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return conceal_places(text)


def printable(text: str, keep: str = "") -> str:
    """Escape control characters but those to `keep`, undecodable bytes and invisible codes: no terminal obeys them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def presentable(text: str) -> str:
    """Mask passwords and escape control characters in a text of several lines, for a log or a terminal."""
    return printable(conceal(text), keep="\n\t")


def report(error: BaseException) -> None:
    """Print the traceback of an error on standard error, passwords masked."""
    sys.stderr.write(presentable("".join(traceback.format_exception(error))))


def install() -> None:
    """Pass logs, warnings and the tracebacks of threads through this module for the rest of the process."""
    make, show = logging.getLogRecordFactory(), warnings.formatwarning

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        made.msg, made.args = presentable(made.getMessage()), ()
        if made.exc_info and made.exc_info[1] is not None:
            # Formatters print this text instead of formatting the exception.
            made.exc_text = presentable("".join(traceback.format_exception(made.exc_info[1]))).rstrip("\n")
        return made

    def formatwarning(*args: Any, **kwargs: Any) -> str:
        return presentable(show(*args, **kwargs))

    def failed(failure: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
        if failure.exc_value is not None:
            report(failure.exc_value)

    logging.setLogRecordFactory(record)
    warnings.formatwarning = formatwarning
    threading.excepthook = failed
    sys.unraisablehook = failed
