"""The problem `command`: a program of the user's trains, as it is, and prints or writes its figures."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairsearch.studies.command.figures import Curve, Followed, SkippedError, reader
from pairsearch.studies.command.kept import Kept
from pairsearch.studies.command.script import Script, ScriptError
from pairsearch.studies.command.settings import Settings
from pairsearch.studies.command.training import Training
from pairsearch.studies.command.words import Words
from pairsearch.studies.configuration import Params
from pairsearch.studies.definition import Definition
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.place import Place
from pairsearch.studies.problem import Metric, OneByOne, Run, RunReport
from pairsearch.studies.user_files import digests
from pairsearch.studies.validation import read_settings

log = logging.getLogger(__name__)

PYTHONS = ("python", "python3")
SEEDS = 2**31
"""Seeds are below this, so that every language takes them."""
NO_FOLD = (
    "command: neither {fold} nor {seed} stands in it: folds differ only where the program reads PAIRSEARCH_FOLD "
    "or PAIRSEARCH_SEED"
)
NO_KIND = (
    "command: {kind} does not stand in it: a round of the final evaluation looks like a fold to the program, unless it "
    "reads PAIRSEARCH_KIND"
)


class Command(OneByOne):
    """A program, started once for each fold and round, in the folder of the definition."""

    gives_weights = False
    # The program is a process of its own, which is looked after between its reports.
    isolated = False

    def __init__(self, *, place: Place, definition: Definition, **settings: Any) -> None:
        if place.folder is None:
            raise ProblemError(
                "it is a program of yours, which is not run because a database names it: name the definition's .toml "
                "file instead of the study"
            )
        self.settings = read_settings(Settings, settings)
        self._folder, self._definition = place.folder, definition
        self._names = [*({definition.metric: Metric()} | definition.metrics)]
        self._words = Words(self.settings.command)
        self.ends_by_itself = "epochs" not in self._words.names
        self._read_line = reader(self.settings.figures, self._names)
        self._file = Words([self.settings.figures or ""], "figures") if self._read_line is None else None
        if self._file is not None and "checkpoint" in self._file.names - self._words.names:
            raise ValueError(
                "settings.figures: a word of settings.command has to name {checkpoint} too; or use {out}"
            )
        self._files = self._digested()
        self._stamped = self._stamp()
        place.files |= self._files
        place.paths |= {self._folder / name for name in self._files}
        named = self._words.names
        self.notes = [
            *([NO_FOLD] if named.isdisjoint(("fold", "seed")) else []),
            *([NO_KIND] if "kind" not in named else []),
        ]

    def check(self, params: Params) -> None:
        """Refuse placeholders that do not exist, and parameters that none uses."""
        self._words.check(params)
        self._words.check_used(params)
        if self._file is not None:
            self._file.check(params)

    def overlap(self, folds: int) -> float:
        """Return what the settings say, else what k-fold cross-validation has."""
        chosen: float | None = self.settings.overlap
        return super().overlap(folds) if chosen is None else chosen

    def prepare(self, runs: Sequence[Run]) -> None:
        """Refuse a program that is not there."""
        self._program()

    def prove(self, device: str) -> None:
        """Refuse a program that is not there."""
        self._program()

    def examine(self) -> Mapping[str, Callable[[], str]]:
        """Return where the program is."""
        return {"program": self._program}

    def backend(self, device: str) -> str:
        """Return the name of the program."""
        return f"command {Path(self.settings.command[0]).name}"

    def fit(self, params: Params, run: Run, report: RunReport) -> None:
        """Run the program to its end, and report its figures.

        Raises:
            ScriptError: it failed.
            ValueError: an epoch or a figure is no number.
        """
        self._check_unchanged()
        chosen, metric = self.settings, self._definition.metric
        epochs = self._definition.epochs if run.kind == "fold" else self._definition.evaluation_epochs
        required = run.kind == "fold"
        curve = Curve(report, self._names, metric, chosen.epoch, chosen.first_epoch, epochs == 1, required)
        # `check` trains for fewer epochs, of which a program that is not told how many knows nothing.
        last = run.epochs if run.epochs < epochs and self.ends_by_itself else None
        files = self._restored(run, curve)
        while True:
            try:
                return self._train(params, run, curve, files, last)
            except SkippedError as error:
                log.warning("%s: the run begins again", error)
            curve.resumed, files = False, {}
            curve.begin_again()

    def _train(
        self, params: Params, run: Run, curve: Curve, files: Mapping[str, bytes], last: int | None
    ) -> None:
        """Run the program once, with the files of its checkpoint."""
        with tempfile.TemporaryDirectory(prefix="pairsearch-", ignore_cleanup_errors=True) as name:
            own = Path(name)
            kept = Kept(own / "checkpoint", files) if "checkpoint" in self._words.names else None
            texts = self._texts(params, run, own)
            file = None if self._file is None else self._folder / self._file.filled(params, texts)[0]
            followed = None if file is None else Followed(file, curve.begin_again)
            words = self._words.filled(params, texts)
            if words[0] in PYTHONS:
                words[0] = sys.executable
            told = {**texts, "params": json.dumps(dict(params))}
            variables = {f"PAIRSEARCH_{name.upper()}": text for name, text in told.items()}
            # Without it Python would keep what it prints until there is much of it.
            environment = {"PYTHONUNBUFFERED": "1"} | dict(os.environ) | variables
            script = Script(words, self._folder, environment, self.settings.grace, own)
            Training(run, curve, script, self._read_line, followed, kept).train(last)

    def _texts(self, params: Params, run: Run, own: Path) -> dict[str, str]:
        """Return the texts of the placeholders of a run; a folder of its own gets what they name."""
        (own / "out").mkdir()
        (own / "params.json").write_text(json.dumps(dict(params)), encoding="utf-8")
        texts: dict[str, object] = {
            "fold": run.index,
            "folds": run.count,
            "kind": run.kind,
            "seed": run.stream("command") % SEEDS,
            "epochs": run.epochs,
            "device": run.device,
            "params": own / "params.json",
            "out": own / "out",
        }
        if "checkpoint" in self._words.names:
            texts["checkpoint"] = own / "checkpoint"
        return {name: str(value) for name, value in texts.items()}

    def _restored(self, run: Run, curve: Curve) -> Mapping[str, bytes]:
        """Return the files of the checkpoint, none where there is none, and let the curve go on from it."""
        found = run.checkpoint.load() if "checkpoint" in self._words.names else None
        if found is None:
            return {}
        epoch, state = found
        # Those of earlier versions do not say how far epochs lay apart.
        curve.restore(epoch, state["figures"], state.get("stride", run.epochs))
        files: Mapping[str, bytes] = state["files"]
        return files

    def _program(self) -> str:
        """Return the path of the program; raises a ValueError where there is none."""
        name: str = self.settings.command[0]
        if name in PYTHONS:
            return sys.executable
        found = shutil.which(self._folder / name if "/" in name else name)
        if found is None:
            raise ValueError(
                f"settings.command: there is no program {name!r} on this machine that can be started"
            )
        return found

    def _digested(self) -> dict[str, str]:
        """Return the SHA-256 of the files that the command names, and that its Python files import, by name."""
        found: dict[str, str] = {}
        for path in self._words.files(self._folder):
            if path.suffix == ".py":
                # Python looks beside the program first; the definition's folder is on the path with `-m`.
                for root in (path.parent, self._folder):
                    for name, digest in digests(path, root).items():
                        found[os.path.relpath(root / name, self._folder)] = digest
            else:
                with path.open("rb") as file:
                    name = path.relative_to(self._folder).as_posix()
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return dict(sorted(found.items()))

    def _stamp(self) -> dict[str, tuple[int, int]]:
        """Return size and time of each of these files."""
        stats = {name: (self._folder / name).stat() for name in self._files}
        return {name: (about.st_size, about.st_mtime_ns) for name, about in stats.items()}

    def _check_unchanged(self) -> None:
        """Refuse to train by other files than those that were recorded with the study: each run reads them anew."""
        if (stamp := self._stamp()) != self._stamped:
            now = self._digested()
            for name in sorted(now.keys() | self._files.keys()):
                if now.get(name) != self._files.get(name):
                    raise ScriptError(f"{name} was changed after this process began: start it anew")
            self._stamped = stamp
