"""The pages in parts that tests can hold against the program, and a reader who types what a page shows.

A `console` block holds commands, each after `$ ` (and `> ` where it goes on), with what they print below them. `...`
stands for any lines, or within a line for any text. Times, sizes and dates differ from run to run: only their shape is
held.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import programs
from markdown_it import MarkdownIt

from pairsearch.docs import shipped

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
BENCHMARKS = ROOT / "benchmarks" / "README.md"
DOCS = ROOT / "docs"
PAGES = (
    README,
    CONTRIBUTING,
    BENCHMARKS,
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
)


def copy_database(source: str, url: str, _: str) -> None:
    """Copy a SQLite database, both given by their URLs."""
    shutil.copyfile(*(one.removeprefix("sqlite:///") for one in (source, url)))


def load_by_copying(paper: str) -> None:
    """Have figures drawn of a copy of a database with the shipped results, for loading takes seconds."""
    shipped.load = partial(copy_database, paper)


FORKED = re.compile(
    r"(?P<words>(?:pairsearch|python) [^|&;<>()$`?\[\]#~%\n\\]+?)"
    r"(?:(?P<told>; echo \$\?)| (?P<err>2)?> (?P<file>[\w.]+)(?(err)| 2>&1 & echo \$! > (?P<number>[\w.]+)))?"
)
"""A line that needs no shell: a program, with `*` in names of files, and perhaps its exit code.

Or with its standard error in a file; or left running, with all that it writes in one file and its number in another.
"""
LIMIT = 120
"""Seconds after which a command of a page counts as hanging."""
AMOUNT = re.compile(r"\b\d+(?:[.,]\d+)*(?:e-?\d+)? ?(?:ns|µs|ms|s|min|h|kB|KiB|MB|MiB|GB|GiB)\b")
DATE = re.compile(r"\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?\b")


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language, the file that it is (or empty), its text, and its first line, from 0."""

    language: str
    file: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a console block, what stands below it, and the lines of the page where that stands."""

    line: str
    printed: str
    place: slice


@dataclass(frozen=True)
class Difference:
    """What a page says that a command prints, what it printed, and where to write that."""

    command: str
    stated: str
    printed: str
    place: slice


def page_name(page: Path) -> str:
    """A page by its place in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page. A file is named by a caption, or, in the README that no Sphinx reads, by a comment."""
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.map is not None:
            directive = re.match(r"\{code-block\} (\w+)", token.info)
            options = re.match(r"(?::\w+:.*\n)*", token.content) if directive else None
            text = token.content[options.end() :] if options else token.content
            caption = re.search(r":caption: (.*)", options[0] if options else "") or re.match(
                r"# ([\w./-]+\.(?:py|toml))\n", text
            )
            first = token.map[0] + 1 + (options[0].count("\n") if options else 0)
            found.append(
                Block(directive[1] if directive else token.info, caption[1] if caption else "", text, first)
            )
    return found


def text_of(page: Path, title: str) -> str:
    """The text under a `##` heading."""
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of each row of the Markdown table whose first column has this header."""
    table = re.search(rf"^\| {header} \|.*\n\|[-| ]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE)
    assert table is not None, f"no table with first column {header!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block."""
    lines = block.text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    assert starts[:1] == [0], f"line {block.line + 1}: a console block begins with a command after `$ `"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        below = start + 1
        while below < end and lines[below].startswith("> "):
            below += 1
        typed = "\n".join(line[2:] for line in lines[start:below])
        printed = "".join(f"{line}\n" for line in lines[below:end])
        yield Command(typed, printed, slice(block.line + below, block.line + end))


def shown(page: Path) -> list[list[str]]:
    """The words of every command that a page shows to type, of console and of sh blocks; a pipe is several commands."""
    found: list[list[str]] = []
    for block in blocks(page):
        if block.language == "console":
            lines = [command.line for command in commands(block)]
        else:
            lines = block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []
        for line in lines:
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            operators = itertools.groupby(words, key=lambda word: set(word) <= set("|&;<>()"))
            found += [list(command) for operator, command in operators if not operator]
    return found


def agrees(stated: str, printed: str) -> bool:
    """Whether what a command printed is what the page says; where lines break is left to the width of tables."""
    pattern = re.escape(_alike(stated)).replace(r"\ \.\.\.\ ", r"\ (?:.*?\ )?").replace(r"\.\.\.", ".*?")
    return re.fullmatch(pattern, _alike(printed)) is not None


def _alike(text: str) -> str:
    """The text in one line, without what differs from run to run."""
    text = DATE.sub("DATE", AMOUNT.sub("AMOUNT", _without_seconds(text)))
    return " ".join(re.sub(r"[─━-]{3,}", "---", text).split())


def _without_seconds(text: str) -> str:
    """The text with one and the same value in the columns of tables that are headed `seconds`."""
    lines: list[str] = []
    columns: list[int] = []
    for line in text.splitlines():
        cells = line.split("│")
        if "┃" in line:
            columns = [number for number, cell in enumerate(line.split("┃")) if "seconds" in cell]
        elif len(cells) > 1:
            cells = [" S " if number in columns else cell for number, cell in enumerate(cells)]
        lines.append("│".join(cells))
    return "\n".join(lines)


class Reader:
    """Types what a page shows, from its top to its end, in an empty folder.

    Args:
        variables: of the environment, beside those that all programs of the tests have.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.variables = dict(variables)
        self.differences: list[Difference] = []
        self._code = 0

    def read(self, page: Path) -> None:
        """Run the blocks of a page.

        Raises:
            AssertionError: a command failed without a word about it on the page, or a query found nothing.
        """
        everything = blocks(page)
        for number, block in enumerate(everything):
            after = everything[number + 1] if number + 1 < len(everything) else None
            if block.file:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "console":
                self._type(list(commands(block)))
            elif block.language == "python":
                (self.folder / ".block.py").write_text(block.text, encoding="utf-8")
                printed = self._fork([], ".block.py")
                assert self._code == 0, printed
                if after is not None and after.language == "text":
                    lines = after.text.count("\n")
                    self._hold("the Python block", after.text, printed, slice(after.line, after.line + lines))
            elif block.language == "sql":
                self._query(block.text)

    def _type(self, typed: list[Command]) -> None:
        for number, command in enumerate(typed):
            # A reader has one shell, in which `$?` is that of the command before.
            forked = FORKED.fullmatch(command.line)
            if forked is None:
                printed = self._run(["bash", "-c", f"(exit {self._code})\n{command.line}"], command.line)
            else:
                program, *words = itertools.chain(*map(self._named, shlex.split(forked["words"])))
                module = None
                if program == "python":
                    words = words[1:] if words[0] == "-m" else words
                    module, *words = words
                if forked["number"]:
                    self._leave_running(words, module, forked["file"], forked["number"])
                    continue
                printed = self._fork(words, module, forked["file"])
                if forked["told"]:
                    printed, self._code = f"{printed}{self._code}\n", 0
            told = number + 1 < len(typed) and "$?" in typed[number + 1].line
            assert self._code == 0 or told, f"$ {command.line}\nexit code {self._code}\n{printed}"
            self._hold(command.line, command.printed, printed, command.place)

    def _named(self, word: str) -> list[str]:
        """The files of a pattern, as a shell finds them; any other word itself."""
        return (
            sorted(str(file.relative_to(self.folder)) for file in self.folder.glob(word))
            if "*" in word
            else [word]
        )

    def _leave_running(self, arguments: list[str], module: str | None, output: str, number: str) -> None:
        process = programs.start_forked(
            self.folder, *arguments, module=module, streams=(output, output), **self.variables
        )
        (self.folder / number).write_text(f"{process.pid}\n", encoding="utf-8")
        self._code = 0

    def _fork(self, arguments: list[str], module: str | None = None, complaints: str | None = None) -> str:
        """Run the program, or another, as `programs.run` does, which takes a tenth of the time of a start."""
        process = programs.start_forked(
            self.folder, *arguments, module=module, streams=("out", complaints or "out"), **self.variables
        )
        process.join(LIMIT)
        assert process.exitcode is not None, (
            f"{module or 'pairsearch'} {arguments}: still running after {LIMIT} s"
        )
        self._code = process.exitcode
        return (self.folder / "out").read_text(encoding="utf-8")

    def _run(self, command: list[str], name: str) -> str:
        with (self.folder / ".output").open("w+", encoding="utf-8") as output:
            # Into a file, not a pipe: what a command leaves running would keep a pipe open.
            try:
                self._code = subprocess.run(
                    command, cwd=self.folder, env=programs.environment(**self.variables),
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=LIMIT, check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                raise AssertionError(f"$ {name}\nstill running after {LIMIT} s") from None
        return (self.folder / ".output").read_text(encoding="utf-8")

    def _hold(self, command: str, stated: str, printed: str, place: slice) -> None:
        if not agrees(stated, printed):
            self.differences.append(Difference(command, stated, printed, place))

    def _query(self, text: str) -> None:
        connection = sqlite3.connect(self.folder / "pairsearch.db")
        try:
            for query in filter(str.strip, text.split(";")):
                assert connection.execute(query).fetchone() is not None, f"no rows:\n{query}"
        finally:
            connection.close()


def write(page: Path, differences: list[Difference]) -> None:
    """Write what commands printed into a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for difference in sorted(differences, key=lambda one: one.place.start, reverse=True):
        lines[difference.place] = [line.rstrip() for line in difference.printed.splitlines()]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
