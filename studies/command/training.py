"""Watches a program until it ends: takes its figures, keeps its checkpoint, ends it where the training has to end."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from pairsearch.studies.command.figures import Curve, Followed, Found
from pairsearch.studies.command.kept import Kept
from pairsearch.studies.command.script import Script, pass_on
from pairsearch.studies.problem import Run

LOOK_SECONDS = 0.2
"""How often somebody looks whether the training has to end, and whether files have changed."""


@dataclass(slots=True, eq=False)
class Training:
    """The training of one model by a program that was started."""

    run: Run
    curve: Curve
    script: Script
    read_line: Callable[[str], Found | None] | None
    """Takes figures out of a line of standard output; None where a file has them, which is `followed`."""
    followed: Followed | None
    kept: Kept | None
    """The folder of the program's checkpoint."""

    def train(self, last: int | None) -> None:
        """Report what the program says, until it ends, or is ended after a `last` epoch.

        Raises:
            ScriptError: the program failed.
            SkippedError: it left epochs out.
            Stopped: the training has to end.
            ValueError: an epoch or a figure is no number.
        """
        try:
            self._watch(last)
        except BaseException:
            self.script.end()
            raise
        finally:
            self.script.close()

    def _watch(self, last: int | None) -> None:
        curve, script = self.curve, self.script
        looked, before = time.monotonic(), curve.now
        while not script.ended:
            self._take()
            if last is not None and curve.now > last:
                script.end()
                self._report(before=last + 1)
                return
            self._report(before=curve.now)
            if time.monotonic() - looked >= LOOK_SECONDS:
                self.run.poll()
                self._keep()
                looked = time.monotonic()
        self._take()
        if script.code:
            how = f"with exit code {script.code}" if script.code > 0 else f"by {_name(-script.code)}"
            raise script.failed(f"ended {how}")
        self._report()
        if not curve.reported or not curve.now:
            raise script.failed(f"ended without a figure {curve.metric!r}")
        if curve.resumed and curve.now == before < self.run.epochs:
            # Its files were of an epoch whose figures it had not printed when it was interrupted.
            raise curve.skipped("and ended without a figure")

    def _report(self, before: float = math.inf) -> None:
        """Report the epochs before one; any of the reports may ask for a last checkpoint."""
        while self.curve.report_next(before):
            if self.run.checkpoint.wanted:
                self._keep()

    def _take(self) -> None:
        """Take the figures that are new; lines without any are passed on."""
        others = []
        try:
            for line in self.script.lines(LOOK_SECONDS):
                found = None if self.read_line is None else self.read_line(line)
                if found is None or not self.curve.take(found):
                    others.append(line)
        finally:
            pass_on(others)
        if self.followed is not None:
            for found in self.followed.read(ended=self.script.ended):
                self.curve.take(found)

    def _keep(self) -> None:
        """Store the files of the checkpoint where they have changed, or the training ends with them."""
        if self.kept is None:
            return
        wanted = self.run.checkpoint.wanted
        if wanted:
            self.script.ask_to_end()
            while not self.script.ended:
                self._take()
            # One that was killed may have been in the middle of writing.
            if self.script.code != -signal.SIGKILL:
                self.kept.read()
        elif not self.kept.changed():
            return
        began = time.monotonic()
        state = {"files": self.kept.files, "figures": self.curve.pending, "stride": self.curve.stride}
        self.run.checkpoint.save(self.curve.reported, state)
        self.kept.took(time.monotonic() - began)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
