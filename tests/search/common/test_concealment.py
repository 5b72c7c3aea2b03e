"""No password of a database URL is shown, whatever it looks like and whichever way the words take."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import programs
import pytest
from sqlalchemy import create_engine

from pairsearch.search.common import redaction
from pairsearch.search.common.errors import PairsearchError
from pairsearch.search.common.redaction import conceal, learn, presentable, printable
from pairsearch.search.database.connection import Database
from pairsearch.search.database.urls import mask, parse_url
from pairsearch.search.mirror.tables import open_optuna

# Each ends in the same word, so that a part that was left over is found as well.
PASSWORDS = [
    "open-sesame",
    "open sesame",
    "open@sesame",
    "open:sesame",
    "open/sesame",
    "open?sesame",
    "open#sesame",
    "open&a=sesame",
    "open%sesame",
    "open%40sesame",
    "open+sesame",
    "open'sesame",
    'open"sesame',
    "open\\sesame",
    "open\nsesame",
    "open\x1b[31msesame",
    "open{sesame}",
    "open$sesame",
    "öffne-sesame",
    "開け-sesame",
    "\N{KEY}sesame",
    "open]sesame",
    "***sesame",
    "\x1böffne-sesame'\\",
    "xsesame" * 40,
]
PLACES: dict[str, Callable[[str], str]] = {
    "password": lambda secret: f"postgresql://ann:{quote(secret, safe='')}@127.0.0.1:1/db",
    "password in small letters": lambda secret: (
        f"postgresql://ann:{quote(secret, safe='').lower()}@127.0.0.1:1/db"
    ),
    "query": lambda secret: f"postgresql://ann@127.0.0.1:1/db?password={quote_plus(secret)}",
    "query of the key's password": lambda secret: (
        f"postgresql://ann@127.0.0.1:1/db?sslpassword={quote_plus(secret)}"
    ),
    "another place of the query": lambda secret: (
        f"postgresql://ann@127.0.0.1:1/db?pasword={quote_plus(secret)}"
    ),
    "an option's value": lambda secret: (
        f"postgresql://ann:{quote(secret, safe='')}@127.0.0.1:1/db?sslrootcert={quote_plus(secret)}"
    ),
}


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without knowing a password."""
    monkeypatch.setattr(redaction, "_known", set())


@pytest.fixture
def installed() -> Iterator[None]:
    """Logs, warnings and threads' tracebacks led through `conceal`, until the end of the test."""
    before = (
        logging.getLogRecordFactory(), warnings.formatwarning, threading.excepthook, sys.unraisablehook,
    )  # fmt: skip
    redaction.install()
    yield
    logging.setLogRecordFactory(before[0])
    warnings.formatwarning, threading.excepthook, sys.unraisablehook = before[1:]


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("secret", PASSWORDS)
def test_labels_and_errors_of_all_libraries_hide_it(secret: str, place: str) -> None:
    given = PLACES[place](secret)
    url = parse_url(given)
    database = Database(given)
    shown = [mask(url), database.label, conceal(repr(database.engine)), conceal(given), conceal(repr(url))]
    for attempt in (
        database.schema_version,
        lambda: open_optuna(database),
        lambda: create_engine(given.replace("postgresql://", "postgresql+psycopg://")).connect(),
    ):
        with pytest.raises(Exception) as failure:  # noqa: PT011 - of ours, SQLAlchemy, Optuna or psycopg
            attempt()
        if isinstance(failure.value, PairsearchError):
            shown.append(str(failure.value))
        shown.append(presentable("".join(traceback.format_exception(failure.value))))
    for text in shown:
        assert "sesame" not in text.lower()


@pytest.mark.parametrize("secret", PASSWORDS)
@pytest.mark.parametrize(
    ("spelling", "left"),
    [
        (lambda secret: secret, "***"),
        (lambda secret: quote(secret, safe=""), "***"),
        (lambda secret: quote(secret, safe="").lower(), "***"),
        (quote_plus, "***"),
        (lambda secret: quote(secret, safe="").replace("%", "%%"), "***"),
        (lambda secret: secret.replace("\\", "\\\\").replace("'", "\\'"), "***"),
        (repr, "'***'"),
        (ascii, "'***'"),
        (json.dumps, "'***'"),
        (lambda secret: f"host=h password={secret!r} user=ann", "host=h password=*** user=ann"),
        (lambda secret: repr({"user": "ann", "password": secret}), "{'user': 'ann', 'password': ***}"),
    ],
)
def test_every_spelling_of_a_known_password_is_hidden_and_nothing_else(
    secret: str, spelling: Callable[[str], str], left: str
) -> None:
    learn([secret])
    # Python chooses between two quotes.
    assert conceal(f"before {spelling(secret)} after").replace('"', "'") == f"before {left} after"


def test_a_password_that_is_no_text_is_hidden_too() -> None:
    secret = b"open-\xffsesame".decode(errors="surrogateescape")
    learn([secret])
    assert conceal(f"{secret} {secret!a} {quote(secret, errors='surrogatepass')}") == "*** '***' ***"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:open-sesame@host/db",
        "unknown study 'postgresql://ann:open sesame@host/db'",
        "postgresql://ann:op@en-sesame@host/db",
        "postgresql+psycopg://:open-sesame@host",
        "host=h password=open-sesame user=ann",
        "password = 'open \\'sesame'",
        "/db?password=open-sesame&sslmode=require",
        "{'user': 'ann', 'password': 'open-sesame'}",
        '{"sslpassword": "open-sesame"}',
        "connect(password='open-sesame')",
    ],
)
def test_a_password_that_nobody_told_of_is_hidden_by_its_place(text: str) -> None:
    assert "sesame" not in conceal(text)
    assert redaction.MASK in conceal(text)


@pytest.mark.parametrize(
    "text",
    [
        "see https://sqlalche.me/e/21/f405",
        "listens on http://127.0.0.1:8080/",
        "password authentication failed",
    ],
)
def test_what_holds_no_password_is_left_alone(text: str) -> None:
    assert conceal(text) == text


@pytest.mark.parametrize(
    ("text", "keep", "shown"),
    [
        ("plain ö", "", "plain ö"),
        ("ö\x1b[31m\n\t", "", "ö\\x1b[31m\\n\\t"),
        ("ö\x1b[31m\n\t", "\n\t", "ö\\x1b[31m\n\t"),
        ("\udcff\u200b", "\n", "\\udcff\\u200b"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, keep: str, shown: str) -> None:
    assert printable(text, keep) == shown


@pytest.mark.parametrize("secret", ["a", "ann", "db", "postgresql", "pairsearch"])
def test_a_password_that_is_no_secret_word_is_hidden_in_its_place_alone(secret: str) -> None:
    url = parse_url(f"postgresql://ann:{secret}@host/db")
    assert mask(url) == "postgresql+psycopg://ann:***@host/db"
    message = "a database of ann cannot be reached by postgresql, says pairsearch"
    assert conceal(message) == message


def test_of_a_password_that_holds_another_one_nothing_is_left() -> None:
    learn(["sesame", "open-sesame", "open-sesame-open"])
    assert conceal("open-sesame-open, open-sesame, sesame") == "***, ***, ***"


@pytest.mark.parametrize("secret", ["open-sesame", "open"])
def test_libpq_s_own_variable_is_hidden(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("PGPASSWORD", secret)
    assert conceal(f"given: {secret}") == "given: ***"


def test_four_letters_are_long_enough_to_be_hidden_everywhere() -> None:
    learn(["open", "ope"])
    assert conceal("given: open, not ope") == "given: ***, not ope"


@pytest.mark.usefixtures("installed")
def test_logs_of_every_library_hide_it(caplog: pytest.LogCaptureFixture) -> None:
    learn(["open-sesame"])
    libraries = ("pairsearch.search.workers.worker", "optuna", "sqlalchemy.pool", "alembic", "psycopg")
    for name in libraries:
        logging.getLogger(name).propagate, before = True, logging.getLogger(name).propagate
        try:
            raise ValueError("because of open-sesame")
        except ValueError:
            logging.getLogger(name).exception("%s failed: %s", name, {"password": "open-sesame"})
        logging.getLogger(name).propagate = before
    assert {record.name for record in caplog.records} == set(libraries)
    assert caplog.text.count("Traceback") == len(caplog.records)
    assert "sesame" not in caplog.text


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("error", [None, True, ValueError("open-sesame")], ids=repr)
def test_logs_hide_it_with_an_error_and_without(caplog: pytest.LogCaptureFixture, error: object) -> None:
    learn(["open-sesame"])
    # True outside of an except clause, and an exception that was not raised, have no traceback.
    logging.getLogger("optuna").propagate, before = True, logging.getLogger("optuna").propagate
    logging.getLogger("optuna").error("given: %s", "open-sesame", exc_info=error)
    logging.getLogger("optuna").propagate = before
    assert "given: ***" in caplog.text
    assert ("ValueError: ***" in caplog.text) == isinstance(error, ValueError)
    assert "sesame" not in caplog.text


class Unready:
    """Fails when Python frees it, which nobody can catch."""

    def __del__(self) -> None:
        int("open-sesame")


def free() -> None:
    Unready()


def fail_in_a_thread() -> None:
    thread = threading.Thread(target=lambda: int("open-sesame"))
    thread.start()
    thread.join()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("fail", [fail_in_a_thread, free])
def test_errors_that_nobody_can_catch_hide_it(
    capsys: pytest.CaptureFixture[str], fail: Callable[[], None]
) -> None:
    learn(["open-sesame"])
    fail()
    shown = capsys.readouterr().err
    assert "ValueError: invalid literal for int() with base 10: '***'" in shown
    assert "sesame" not in shown


@pytest.mark.usefixtures("installed")
def test_warnings_hide_it() -> None:
    learn(["open-sesame"])
    shown = warnings.formatwarning("open-sesame", UserWarning, "x.py", 1, "f('open-sesame')")
    assert shown == "x.py:1: UserWarning: ***\n  f('***')\n"


def test_the_traceback_of_a_bug_hides_it_with_its_causes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pairsearch.search.cli import app as program  # noqa: PLC0415

    def broken(*_: object, **__: object) -> None:
        url = parse_url("postgresql://ann:open-sesame@host/db")
        try:
            raise OSError(f"no {url.render_as_string(hide_password=False)}")
        except OSError as error:
            raise LookupError({"password": "open-sesame", "\x1b[31m": 1}) from error

    monkeypatch.setattr(program, "app", broken)
    monkeypatch.setattr(program.redaction, "install", lambda: None)
    monkeypatch.setattr(program.threads, "limit", lambda: None)
    with pytest.raises(SystemExit) as ending:
        program.main()
    shown = capsys.readouterr().err
    assert ending.value.code == 1
    assert shown.count("Traceback") == 2
    assert "OSError: no postgresql+psycopg://ann:***@host/db" in shown
    assert "sesame" not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://ann:open@sesame@host/db", "an @ that ends neither user nor password"),
        ("postgresql://a/nn:open-sesame@host/db", "an @ that ends neither user nor password"),
        ("postgresql://ann:open@ses?ame@host/db", "an @ that ends neither user nor password"),
        ("postgresql://ann:open@ses:ame@host/db", "malformed"),
        ("postgresql://ann:open%00sesame@host/db", "a NUL character"),
        ("postgresql://ann@127.0.0.1:1/db?pasword=open-sesame", 'invalid connection option "pasword"'),
        ("sqlite:///postgresql://ann:open-sesame@host/db", "another URL in a file's place"),
        ("sqlite:///a.db?password=open-sesame", "options that SQLite does not read (password)"),
        ("sqlite://ann:open-sesame@host/a.db", "names no file"),
        ("ann:open-sesame@host", "malformed"),
    ],
)
def test_a_url_that_would_be_taken_apart_at_the_wrong_place_is_refused(
    tmp_path: Path, url: str, message: str
) -> None:
    complaint = programs.run(tmp_path, "status", PAIRSEARCH_STORAGE=url).complaint
    assert message in complaint
    for word in ("sesame", "ses", "ame@"):
        assert word not in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "postgresql://ann:open-sesame@host/db"),
        ("status", "tiny", "--json", "--storag=postgresql://ann:open-sesame@host/db"),
        ("best", "tiny", "postgresql://ann:open-sesame@host/db"),
        ("worker", "tiny", "--max-trials", "postgresql://ann:open-sesame@host/db"),
        ("postgresql://ann:open-sesame@host/db",),
        ("--storage=postgresql://ann:open-sesame@host/db", "status"),
    ],
    ids=lambda arguments: arguments[0][:10],
)
def test_a_url_in_the_wrong_place_of_the_command_line_is_not_repeated(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ended = programs.run(tmp_path, *arguments)
    assert ended.code == 2
    assert "sesame" not in ended.out + ended.err


def test_a_password_on_the_command_line_is_warned_of_once(tmp_path: Path) -> None:
    for url in (
        "postgresql://ann:open-sesame@127.0.0.1:1/db",
        "postgresql://ann@127.0.0.1:1/db?password=open-sesame",
    ):
        ended = programs.run(tmp_path, "status", "--storage", url)
        warning, error = ended.err.splitlines()
        assert warning.startswith(
            "warning: other people can read the password of --storage in the process list"
        )
        assert error.startswith("error: database postgresql+psycopg://ann")
        assert "sesame" not in ended.err
    for url in ("postgresql://ann@127.0.0.1:1/db", "sqlite:///a.db"):
        assert "warning" not in programs.run(tmp_path, "status", "--storage", url).err


def test_a_text_of_any_length_is_looked_through() -> None:
    long = "x" * 5_000_000
    assert conceal(f"{long} sslpassword=secret") == f"{long} sslpassword=***"
