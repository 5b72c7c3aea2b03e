"""The command `deploy`, which writes files to run the installed program in containers and on clusters."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import say
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import made_folder, usable_folder, whole_file

PACKAGE = Path(__file__).parents[3]
AT_THE_TOP = ("docker-compose.yml", "docker-compose.tls.yml", "Dockerfile", ".dockerignore", ".env.example")
BESIDE = Path("studies", "deploy")
WHEELS = "pairsearch-*.whl"
NOT_SOURCE = {".pyc", ".nbi", ".nbc"}


def deploy(
    out: Annotated[Path, options.folder("--out", help="Folder to write to; made at need.", default=False)],
) -> None:
    """If the folder has a file of the same name with other content, nothing is written."""
    usable_folder(out)
    files = deploy_files()
    refuse_others(out, files)
    with ExitStack() as stack:
        for name, content in files.items():
            for folder in reversed(name.parents):
                made_folder(out / folder)
            stack.enter_context(whole_file(out / name)).write(content)
    for name in files:
        say(str(out / name))
    say("")
    say(f"Containers: cd {out}; sh {BESIDE / 'secrets.sh'}; docker compose up --detach --scale worker=4")
    say(
        "Other settings: copy .env.example to .env. There, STUDIES_FOLDER mounts a folder with a study of your own"
    )
    say(
        f"Clusters: {BESIDE / 'worker-job.yaml'} (Kubernetes) and {BESIDE / 'worker.slurm'} say how at their head"
    )


def deploy_files() -> dict[Path, bytes]:
    """Return the files to write by their path in the folder: files of the repository, and the wheel."""
    names = [
        *map(Path, AT_THE_TOP),
        *sorted(path.relative_to(PACKAGE) for path in (PACKAGE / BESIDE).iterdir()),
    ]
    name, content = wheel()
    return {name: (PACKAGE / name).read_bytes() for name in names} | {Path(name): content}


def refuse_others(out: Path, files: dict[Path, bytes]) -> None:
    """Check that no file in the folder would be overwritten with other content; raises InputError, which names them."""
    try:
        differing = [
            name
            for name, content in files.items()
            if (out / name).exists() and (out / name).read_bytes() != content
        ]
        differing += sorted({path.relative_to(out) for path in out.glob(WHEELS)} - files.keys())
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from None
    if differing:
        raise InputError(
            f"{out} has files that this version would write otherwise: {', '.join(map(str, differing))}. Move them "
            "away, or name another folder"
        )


def wheel() -> tuple[str, bytes]:
    """Return name and content of a wheel of the installed program, to build the image without a checkout."""
    installed = next((one for one in distributions(name="pairsearch") if one.read_text("METADATA")), None)
    if installed is None:
        raise InputError("pairsearch is not installed: `pip install .` in its checkout does that")
    folder = f"pairsearch-{installed.version}.dist-info"
    files = {f"pairsearch/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in _source()}
    files[f"{folder}/METADATA"] = (installed.read_text("METADATA") or "").encode()
    files[f"{folder}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    files[f"{folder}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: pairsearch deploy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{folder}/RECORD"] = f"{record}{folder}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # Without a date, so that the same program gives the same bytes.
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, content)
    return f"pairsearch-{installed.version}-py3-none-any.whl", buffer.getvalue()


def _source() -> Iterator[Path]:
    """Yield the files of the package, whose folder may be a checkout with much else in it."""
    yield from sorted(PACKAGE.glob("*.py"))
    yield from (PACKAGE / name for name in ("py.typed", *AT_THE_TOP))
    for room in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        yield from sorted(
            path
            for path in room.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in NOT_SOURCE
        )


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
