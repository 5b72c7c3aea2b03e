"""Keeps passwords of database URLs, and terminal codes, out of all that is written for people.

`search.database.urls.parse_url` tells this module each password that the program is given (`learn`). Errors, logs,
warnings and tracebacks then pass through `conceal` on their way out (`install`, `report`), whoever raised or wrote
them: this program, SQLAlchemy, Optuna, Alembic, psycopg or libpq.

Two nets, for a password that nobody was told of is hidden too: what stands where a URL or a connection string has
its password, and every form of the passwords that are known. Known passwords shorter than `SHORTEST`, and those
that equal a name which the URL shows anyway, are hidden by the first net only: to blot out every `a` of a message
would tell the password `a`.
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

# scheme://user:PASSWORD@: up to the last @ before another URL or the line's end, as a password may hold one, and
# spaces too. `PASSWORD` itself stands in messages that say what is expected.
_IN_URL = re.compile(r"(://[^\s/:@?]*:)(?!PASSWORD@)(?:(?!\w://)[^\n])*(?=@)")
# password=..., sslpassword='...', "password": "...": in a query, a connection string, a printed dictionary.
_NAMED = re.compile(
    r"""(?ix) ( \w*pass(?:word|wd|phrase)? ['"]? (?: \s*=\s* | (?<=['"])\s*:\s* ) )
    (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [^\s&'",;)}\]]+ )"""
)

_known: set[str] = set()


def learn(secrets: Iterable[str], shown: Iterable[str] = ()) -> None:
    """Remember passwords, to be hidden from now on in all their usual spellings.

    Args:
        shown: what people are shown anyway, such as the user's name.
    """
    public = {"pairsearch", *shown}
    for secret in secrets:
        if len(secret) >= SHORTEST and secret not in public:
            _known.update(form for form in _spellings(secret) if len(form) >= SHORTEST)


def _spellings(secret: str) -> Iterator[str]:
    """A password as URLs, Python, JSON and libpq's connection strings write it."""
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
        # ConfigParser, through which Alembic is told the URL, doubles it.
        yield encoded.replace("%", "%%")


def conceal_places(text: str) -> str:
    """The text without what stands in a password's place."""
    return _NAMED.sub(rf"\1{MASK}", _IN_URL.sub(rf"\1{MASK}", text))


def conceal(text: str) -> str:
    """The text without passwords."""
    known = _known
    # libpq reads this one by itself.
    if len(given := os.environ.get("PGPASSWORD", "")) >= SHORTEST:
        known = known | set(_spellings(given))
    # The longest first: one password may be a part of another.
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return conceal_places(text)


def printable(text: str, keep: str = "") -> str:
    """The text with control characters, undecodable bytes and invisible codes shown instead of sent.

    Args:
        keep: control characters that are meant.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def presentable(text: str) -> str:
    """Text of several lines, of anybody's making, for a log or a terminal."""
    return printable(conceal(text), keep="\n\t")


def report(error: BaseException) -> None:
    """Print the traceback of a bug on standard error."""
    sys.stderr.write(presentable("".join(traceback.format_exception(error))))


def install() -> None:
    """Lead logs, warnings and the tracebacks of threads through this module, for the rest of the process."""
    make, show = logging.getLogRecordFactory(), warnings.formatwarning

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        made.msg, made.args = presentable(made.getMessage()), ()
        if made.exc_info and made.exc_info[1] is not None:
            # What formatters print in place of the exception.
            made.exc_text = presentable("".join(traceback.format_exception(made.exc_info[1]))).rstrip("\n")
        return made

    def formatwarning(*args: Any, **kwargs: Any) -> str:
        return presentable(show(*args, **kwargs))

    def thread_failed(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None:
            report(failure.exc_value)

    def unraisable(failure: sys.UnraisableHookArgs) -> None:
        if failure.exc_value is not None:
            report(failure.exc_value)

    logging.setLogRecordFactory(record)
    warnings.formatwarning = formatwarning
    threading.excepthook = thread_failed
    sys.unraisablehook = unraisable
