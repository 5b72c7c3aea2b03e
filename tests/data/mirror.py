"""A small stand-in for MNIST, and for the server from which it is downloaded."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch

from pairsearch.data.datasets import DATASETS, File
from pairsearch.data.sources import Source, resolve

MNIST = DATASETS["mnist"]


def torchvision_datasets() -> Any:
    """Imported late, as it takes seconds and every test process reads the tests."""
    return importlib.import_module("torchvision.datasets")


def load(kind: str, root: Path | None = None, *, download: bool = True) -> Source:
    """The source, without the reason why it was chosen."""
    return resolve(kind, root, download=download)[0]


def raw_files(train: int = 30, test: int = 10) -> dict[str, bytes]:
    """MNIST's four raw files, in its IDX format, with a few random images."""
    random = torch.Generator().manual_seed(0)
    files = {}
    for part, count in (("train", train), ("t10k", test)):
        images = torch.randint(256, (count, 28, 28), generator=random).byte()
        labels = torch.randint(10, (count,), generator=random).byte()
        header = struct.pack(">4I", 0x00000803, count, 28, 28)
        files[f"{part}-images-idx3-ubyte"] = header + images.numpy().tobytes()
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2I", 0x00000801, count) + labels.numpy().tobytes()
    return files


def write(root: Path, files: dict[str, bytes]) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def expect(patch: pytest.MonkeyPatch, files: dict[str, bytes]) -> dict[str, bytes]:
    """Make `files` count as MNIST, for torchvision and for pairsearch; returns what a mirror has to serve."""
    served = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    stated = tuple(File(name, md5(content), extracted=True) for name, content in files.items())
    patch.setitem(DATASETS, "mnist", dataclasses.replace(MNIST, files=stated))
    resources = [(name, md5(content)) for name, content in served.items()]
    patch.setattr("torchvision.datasets.MNIST.resources", resources)
    return served


@contextmanager
def mirror(
    served: dict[str, bytes], *, truncate: bool = False, silent: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Serve files on 127.0.0.1; yields the address and the list of names that are requested (GET), as it grows.

    With `truncate` a file is announced at its full length and its second half is never sent; with `silent`
    nothing is answered before the end.
    """
    asked: list[str] = []
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            asked.append(self.path[1:])
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            if silent:
                over.wait()
                return
            content = served.get(self.path[1:])
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if truncate else content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            over.set()
            server.shutdown()
            thread.join()
