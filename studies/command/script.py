"""A user's program as a process, with what it prints as lines."""

from __future__ import annotations

import codecs
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SUPERVISOR = Path(__file__).parents[1] / "supervisor.py"
CHUNK = 2**16
LONGEST_LINE = 2**20
"""Characters after which a line without an end is taken as one."""
TAIL = 20
"""Lines that a traceback shows of what it wrote to standard error."""
SHOWN = 500
"""Characters of a last line that a message shows."""


class ScriptError(RuntimeError):
    """A program failed. The message is one line, which ends in the last one that it wrote to standard error."""


class _Lines:
    """Makes lines of bytes; what is no UTF-8 is replaced."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def of(self, content: bytes) -> list[str]:
        """Return the lines that end in the content, and the last one at the end of the stream, which is no content."""
        *lines, self._rest = (self._rest + self._decode(content, final=not content)).split("\n")
        if self._rest and (not content or len(self._rest) > LONGEST_LINE):
            lines, self._rest = [*lines, self._rest], ""
        return lines


class Script:
    """A program that runs, with all that it starts: nothing is left of it once it has ended, nor if this process dies.

    It works in `folder`, has `grace` seconds after SIGTERM, and a folder of its `own` that is removed if this process
    dies.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], grace: float, own: Path
    ) -> None:
        supervised = [sys.executable, "-I", "-S", str(SUPERVISOR), str(grace), str(own), *words]
        self._process = subprocess.Popen(  # noqa: S603 - the definition names it
            supervised,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._streams = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None  # noqa: S101 - they are pipes
            self._streams.register(stream, selectors.EVENT_READ, _Lines())

    @property
    def ended(self) -> bool:
        """Whether it has ended, and all that it printed was read."""
        return self._process.poll() is not None and not (
            self._streams.get_map() and self._streams.select(timeout=0)
        )

    @property
    def code(self) -> int:
        """Its exit code once it has ended, negative for a signal."""
        return self._process.wait()

    def lines(self, seconds: float) -> Iterator[str]:
        """Yield the lines that it prints to standard output, waiting up to some seconds for the first one.

        Standard error is passed on.
        """
        if not self._streams.get_map():
            with suppress(subprocess.TimeoutExpired):  # it has closed its streams, and goes on
                self._process.wait(seconds)
            return
        for key, _ in self._streams.select(seconds):
            content = os.read(key.fd, CHUNK)
            lines: list[str] = key.data.of(content)
            if not content:
                self._streams.unregister(key.fileobj)
            if key.fileobj is self._process.stdout:
                yield from lines
            elif lines:
                pass_on(lines)
                # A progress bar writes over itself.
                parts = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines)
                self._tail += (part[:SHOWN] for part in parts if part)

    def ask_to_end(self) -> None:
        """Have it end by SIGTERM, or be killed when its grace is over."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        # It stays open: its end tells that this process is gone.
        with suppress(OSError):  # it has ended
            self._process.stdin.write(b".")

    def end(self) -> None:
        """Have it end, and wait for that."""
        self.ask_to_end()
        while not self.ended:
            pass_on([*self.lines(1.0)])

    def close(self) -> None:
        """Close its streams, whatever it does."""
        self._streams.close()
        for stream in filter(None, (self._process.stdin, self._process.stdout, self._process.stderr)):
            stream.close()

    def failed(self, what: str) -> ScriptError:
        """Return the error that says what happened."""
        error = ScriptError(f"{what}: {self._tail[-1]}" if self._tail else what)
        if self._tail:
            error.add_note("\n".join(["Its last lines on standard error:", *self._tail]))
        return error


def pass_on(lines: Sequence[str]) -> None:
    """Write lines to standard error, where all goes that problems print."""
    if lines:
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
