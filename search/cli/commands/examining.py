"""The command `doctor`."""

from __future__ import annotations

from pairsearch.search.cli import options
from pairsearch.search.cli.doctor import examine
from pairsearch.search.cli.terminal import show_checks


def doctor(
    study: options.SomeStudies = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    device: options.Device = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """A problem is loaded as by a worker, which may download its data. Code of your own is run if you name its .toml
    file.
    """
    here = options.machine(setting, data, data_dir, device=device)
    show_checks(examine(storage, study or [], here), as_json=as_json)
