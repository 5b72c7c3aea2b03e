"""CONTRIBUTING says which rooms, targets and checks there are."""

from __future__ import annotations

import re
import tomllib

import yaml
from pages import CONTRIBUTING, PAGES, ROOT, rows

TEXT = CONTRIBUTING.read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_its_make_targets_are_those_of_the_makefile() -> None:
    # Those that `make help` lists.
    targets = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert {row[0].strip("`").removeprefix("make ") for row in rows(TEXT, "target")} == targets - {"help"}
    for page in PAGES:
        assert set(re.findall(r"`make (\w+)", page.read_text(encoding="utf-8"))) <= targets, page


def test_every_package_is_in_its_layout() -> None:
    packages = [name.split(".")[1:] for name in PROJECT["tool"]["setuptools"]["packages"]]
    stated = {match[1] for match in re.finditer(r"^\| \[([\w/]+)/\]", TEXT, re.MULTILINE)}
    tops = {parts[0] for parts in packages if parts}
    rooms = {"/".join(parts) for parts in packages if parts[:1] != ["models"] and len(parts) == 2}
    assert stated == tops | rooms | {"benchmarks", "docs", "tests"}


def test_the_rooms_of_the_service_are_in_the_order_of_their_imports() -> None:
    (layers,) = [
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["name"].startswith("inside search")
    ]
    stated = re.findall(r"^\| \[(search/[\w./]+?)/?\]", TEXT, re.MULTILINE)
    held = [layer.removeprefix("pairsearch.").replace(".", "/") for layer in layers if "|" not in layer]
    assert [room.removesuffix(".py") for room in stated if room != "search"] == held


def test_the_hooks_before_a_commit_run_the_commands_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    assert [hook["entry"] for hook in hooks] == commands
