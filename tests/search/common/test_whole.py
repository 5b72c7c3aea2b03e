"""Files that appear whole or not at all, and the folders that they go to."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pairsearch.search.common.errors import InputError, WorkError
from pairsearch.search.common.files import made_folder, usable_folder, whole_file


def write(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"whole")


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    write(tmp_path / "page")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("page", "other")}
    assert len(modes) == 1


def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has room for a file's name and none for what is in it."""

    def replace(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    (tmp_path / "page").write_text("an earlier one")
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(WorkError, match="No space left on device: free some room"):
        write(tmp_path / "page")
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert (tmp_path / "page").read_text() == "an earlier one"


@pytest.mark.parametrize("name", ["/proc", "/proc/new"])
def test_a_folder_where_no_file_can_be_written_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^cannot write to folder /proc: "):
        usable_folder(Path(name))


def test_a_folder_is_made_once_and_not_below_what_is_not_there(tmp_path: Path) -> None:
    assert made_folder(made_folder(tmp_path / "new")).is_dir()
    with pytest.raises(InputError, match="cannot make folder"):
        made_folder(tmp_path / "missing" / "new")
