"""What an exception of a problem reads like in one line."""

from __future__ import annotations

import traceback
from pathlib import Path

# The package's folder: files in it are not a user's.
OURS = Path(__file__).parents[2]


def failure(error: Exception) -> str:
    """An exception in one line, with the file and line that raised it where that is not ours."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    # What a library raises is told by the last line of the user's before it.
    own = [
        frame for frame in frames if not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)
    ]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {lines[0]}{where}"


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(OURS)
