"""Rounds that were trained under a claim, and are to be stored with their models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pairsearch.search.common.errors import WorkError
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Finish, Ledger
from pairsearch.search.workers.models import file_name
from pairsearch.search.workers.rounds import TrainedRound, model_content
from pairsearch.search.workers.run_files import RunFiles, remove
from pairsearch.studies.errors import ProblemError


class NewRounds:
    """Trained rounds of a claim. Small models go into the database, in the transaction that stores the figures.

    Larger ones are written to hidden files of a folder that workers share, and get their names once the figures are
    stored. Whoever loses the race to store a round leaves no file, so that a file always has the stored figures.

    Attributes:
        refused: why models cannot be kept.
        too_large: which models are not kept because the worker has no folder.

    Args:
        files: in that folder.
    """

    def __init__(
        self, ledger: Ledger, claim: Claim, trained: Sequence[TrainedRound], files: RunFiles
    ) -> None:
        self.refused: list[ProblemError | WorkError] = []
        self.too_large: list[int] = []
        self._ledger, self._claim, self._trained, self._files = ledger, claim, trained, files
        self._contents: dict[int, bytes] = {}
        self._aside: dict[int, Path] = {}
        for one in trained:
            try:
                self._take(one)
            except (ProblemError, WorkError) as error:
                self.refused.append(error)

    def __len__(self) -> int:
        return len(self._trained)

    def __str__(self) -> str:
        """Say what was trained."""
        left = f", {len(self.too_large)} models too large for the database (--models FOLDER keeps them)"
        return f"{len(self)} rounds trained{left if self.too_large else ''}"

    def _take(self, one: TrainedRound) -> None:
        study = self._ledger.study
        content = model_content(study, self._claim.configuration, one)
        if content is None:
            return
        if len(content) <= 1e6 * study.definition.evaluation.model_megabytes:
            self._contents[one.index] = content
        elif self._files.folder is not None:
            self._aside[one.index] = self._files.write_aside(self._claim, one.index, content)
        else:
            self.too_large.append(one.index)

    def store(self, patiently: Callable[[Callable[[], Any]], Any]) -> Finish:
        """Store the rounds, and settle what becomes of the files.

        Args:
            patiently: makes a call, and repeats it while the database is away.
        """
        results, first = [one.result for one in self._trained], self._trained[0]
        counted: Finish = Finish.SUPERSEDED
        try:
            counted = patiently(
                lambda: self._ledger.finish_rounds(
                    self._claim, results, first.provenance, first.facts, self._contents
                )
            )
        finally:
            if counted:
                self._name_files()
            else:
                remove(self._aside.values())
        return counted

    def _name_files(self) -> None:
        for index, aside in self._aside.items():
            place = aside.with_name(file_name(self._ledger.study, self._claim.configuration.key, index))
            try:
                aside.replace(place)
            except OSError as error:
                self.refused.append(WorkError(f"cannot write {place}: {error.strerror or error}"))
        # Those of workers that are late, or were killed.
        self._files.clear(self._claim, self._aside)
