"""What a program prints or writes becomes the figures of its epochs."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairsearch.studies.problem import RunReport

Found = Mapping[str, Any]
"""What a line says: values by name, some of them figures."""
BARE = re.compile(r":\s*([-+]?)(?:(nan)|inf(?:inity)?)\b", re.IGNORECASE)
"""Numbers that are no JSON, as many languages print them."""
LONGEST_LINE = 2**20
"""Bytes after which a line is cut."""


def of_json(line: str) -> Found | None:
    """Return what a line says that is a JSON object, else None."""
    # A progress bar may have written over itself before, and some programs begin with a byte order mark.
    text = line.strip().rpartition("\r")[2].lstrip("\ufeff")
    if not (text.startswith("{") and text.endswith("}")):
        return None
    for attempt in (text, BARE.sub(lambda one: ":NaN" if one[2] else f":{one[1].strip('+')}Infinity", text)):
        try:
            found = json.loads(attempt)
        except (ValueError, RecursionError):
            continue
        return found if isinstance(found, dict) else None
    return None


class Followed:
    """A `.jsonl` or `.csv` file that a program writes, read while it grows.

    `anew` is called where it is written anew, before it is read from its beginning.
    """

    def __init__(self, path: Path, anew: Callable[[], None]) -> None:
        self._anew = anew
        self._path = path
        self._is_table = path.suffix == ".csv"
        self._first, self._at, self._columns = b"", 0, list[str]()

    def read(self, *, ended: bool) -> Iterator[Found]:
        """Yield what its new lines say; a last line without an end only where the program has `ended`."""
        try:
            with self._path.open("rb") as file:
                first = file.readline(LONGEST_LINE)
                if self._first and (first != self._first or file.seek(0, 2) < self._at):
                    self._first, self._at = b"", 0
                    self._anew()
                file.seek(self._at)
                while (line := file.readline(LONGEST_LINE)) and (line.endswith(b"\n") or ended):
                    self._at += len(line)
                    self._first = self._first or line
                    if (found := self._of(line, header=self._at == len(line))) is not None:
                        yield found
        except FileNotFoundError:
            return

    def _of(self, line: bytes, *, header: bool) -> Found | None:
        text = line.decode("utf-8-sig", "replace")
        if not self._is_table:
            return of_json(text)
        try:
            cells = [cell.strip() for cell in next(csv.reader([text]), [])]
        except csv.Error:
            return None
        if header:
            self._columns = cells
            return None
        return dict(zip(self._columns, cells, strict=False))


class SkippedError(Exception):
    """A program that went on from a checkpoint left epochs out. The message is one line."""


@dataclass(slots=True, eq=False)
class Curve:
    """Gathers figures into one report for each epoch, made once the next epoch begins or the program has ended.

    A figure that an epoch has several times counts as it was last. Lines that state no epoch belong to the one that was
    stated last; where none is ever stated, an epoch begins with each figure that comes again, unless there is but one.
    """

    report: RunReport
    names: Collection[str]
    """Names of the figures."""
    metric: str
    key: str
    """Name of what holds the epoch."""
    first: int
    """Number of the program's first epoch."""
    single: bool
    """Whether the definition has one epoch only."""
    required: bool
    """Whether only epochs with the metric are reported."""
    now: int = 0
    """The epoch that the program is at."""
    reported: int = 0
    """The epoch that was reported last."""
    pending: dict[int, dict[str, float]] = field(default_factory=dict)
    """Figures of epochs that are not reported yet."""
    known: int = 0
    """Up to this epoch the program may repeat what was reported: it goes on from a checkpoint, or writes its file
    anew."""
    stride: int = 0
    """The most by which an epoch lay after the one before."""
    resumed: bool = False
    """Whether the program was given a checkpoint, so that it has to state its epochs."""
    _stated: bool = False
    _seen: set[str] = field(default_factory=set)

    def restore(self, reported: int, pending: Mapping[int, dict[str, float]], stride: int) -> None:
        """Go on from a checkpoint."""
        self.reported, self.pending, self.stride, self.resumed = reported, dict(pending), stride, True
        self.now = self.known = max([reported, *pending])

    def take(self, found: Found) -> bool:
        """Take what a line says; return whether that is an epoch or a figure.

        Raises:
            ValueError: an epoch or a figure is no number, or an epoch comes after a later one.
            SkippedError: the checkpoint was of an epoch whose figures the program had not printed.
        """
        given = {
            name: number
            for name in self.names
            if name in found and (number := self._number(name, found[name])) is not None
        }
        stated = self._epoch(found[self.key]) if found.get(self.key) not in (None, "") else None
        if stated is None and not given:
            return False
        if stated is not None:
            self._stated = True
            epoch = stated
        elif self._stated or self.single:
            epoch = max(self.now, 1)
        else:
            if self.resumed:
                raise ValueError(
                    f"a program with {{checkpoint}} states its epochs: no {self.key!r} is in its figures"
                )
            epoch = self.now + (not self.now or not self._seen.isdisjoint(given))
        if self.known < epoch < self.now:
            raise ValueError(f"epoch {epoch} came after epoch {self.now}: each epoch counts once")
        if self.resumed and self.now == self.known and epoch - self.now > self.stride:
            raise self.skipped(f"with epoch {epoch}")
        self.stride = max(self.stride, epoch - self.now)
        self._seen = {*given} if epoch != self.now else self._seen | {*given}
        self.now = max(epoch, self.now)
        if epoch > self.reported:
            self.pending.setdefault(epoch, {}).update(given)
        return True

    def report_next(self, before: float) -> bool:
        """Report the next epoch before one, as it is complete; return whether there was any.

        Raises what `report` raises.
        """
        epoch = min(self.pending, default=None)
        if epoch is None or epoch >= before:
            return False
        figures = self.pending.pop(epoch)
        if figures and (self.metric in figures or not self.required):
            self.reported = epoch
            self.report(epoch, **figures)
        return True

    def begin_again(self) -> None:
        """Let the program repeat what it has said, as it writes its file anew, or has no checkpoint any more."""
        self.known, self.now = max(self.known, self.now), 0

    def skipped(self, how: str) -> SkippedError:
        """Return the error of a program that went on in a way that leaves epochs out."""
        return SkippedError(
            f"the program went on after epoch {self.known} {how}: print the figures of an epoch before its files are "
            "saved"
        )

    def _number(self, name: str, value: Any) -> float | None:
        # JavaScript writes null for NaN.
        if value is None:
            return math.nan if name == self.metric else None
        if value == "":
            return None
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"figure {name!r} is no number: got {str(value)[:60]!r}") from None

    def _epoch(self, value: Any) -> int:
        try:
            number = float(value)
            if isinstance(value, bool) or number != int(number):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{self.key!r} is no epoch: expected a whole number, got {str(value)[:60]!r}"
            ) from None
        epoch = int(number) + 1 - self.first
        if epoch < 1:
            advice = (
                ": write first_epoch = 0 under [settings] if the program counts from 0" if self.first else ""
            )
            raise ValueError(f"{self.key!r} is {int(number)}, and the first is {self.first}{advice}")
        return epoch


def reader(figures: str | None, names: Collection[str]) -> Callable[[str], Found | None] | None:
    """Return what reads a line of standard output; None where a file has the figures.

    A ValueError says that the setting is neither a file nor a regular expression with a group for a figure.
    """
    if figures is None:
        return of_json
    if figures.endswith((".jsonl", ".csv")):
        if not figures.startswith(("{out}/", "{checkpoint}/")):
            raise ValueError(
                f"settings.figures: expected a file under {{out}} or {{checkpoint}}, as several programs run at once, "
                f"got {figures!r}"
            )
        return None
    try:
        pattern = re.compile(figures)
    except re.error as error:
        raise ValueError(f"settings.figures: {figures!r} is no regular expression ({error})") from None
    if not pattern.groupindex.keys() & set(names):
        raise ValueError(
            f"settings.figures: expected a file .jsonl or .csv, or a regular expression with a named group for a "
            f"figure, such as (?P<{next(iter(names))}>\\S+), got {figures!r}"
        )

    def of_pattern(line: str) -> Found | None:
        groups = (group for match in pattern.finditer(line) for group in match.groupdict().items())
        return {name: text for name, text in groups if text is not None} or None

    return of_pattern
