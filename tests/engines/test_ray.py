"""Ray Jobs, on a real head."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import programs
import pytest
import tiny
from gathered import PASSWORD, Started
from whole import Whole, in_peace

from pairsearch.search.common.errors import InputError
from pairsearch.search.engines.contract import engine_named


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": "many"}, "--option cpus=many: 'many' is no amount"),
        ({"memory": "-1"}, "'-1' is no amount"),
        ({"resources": "tpu"}, "--option resources=tpu: 'tpu' is no amount"),
        (
            {"partition": "long"},
            "ray has no such option: expected one of cpus, gpus, memory, resources, python",
        ),
    ],
)
def test_an_option_that_it_does_not_have_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine_named("ray", "http://127.0.0.1:8265", options)


def test_a_cluster_that_does_not_answer_is_told_once_and_nothing_is_stored(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    there = ("--on", "ray", "--workers", "2", "--data", "digits")
    # Ray's own client would take the variable for the address, whatever it is told.
    for at, found in [((), 2), (("--at", "http://127.0.0.1:1"), 1)]:
        refused = programs.run(tmp_path, "run", "tiny.toml", *there, *at, RAY_ADDRESS="http://127.0.0.1:2")
        address = f"http://127.0.0.1:{found}"
        assert (refused.code, refused.out) == (1, "")
        assert refused.err == f"error: ray at {address}: Failed to connect to Ray at address: {address}.\n"
    assert not (tmp_path / "pairsearch.db").exists()
    refused = programs.run(tmp_path, "run", "tiny.toml", *there, "--at", "127.0.0.1:6379")
    assert "expected the address of Ray's dashboard, http://HOST:8265" in refused.complaint


@pytest.mark.soak
def test_a_study_is_searched_and_evaluated_and_its_password_shown_nowhere(
    started: Started, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, postgresql_url: str
) -> None:
    engine = started("ray")()
    whole = Whole(tmp_path, postgresql_url, engine)
    home = tmp_path_factory.getbasetemp() / "ray0"
    whole.search_and_evaluate([home, home / "ray", tmp_path])
    with urlopen(f"{engine.address}/api/jobs/") as answer:  # noqa: S310
        shown = answer.read().decode()
    assert "PAIRSEARCH_STORAGE_FILE" in shown
    assert PASSWORD not in shown
    whole.assert_whole(in_peace())
