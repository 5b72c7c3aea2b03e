"""The content of a checkpoint: a state as numbers, never as code.

`pack` writes nested mappings and sequences as JSON, and the arrays and tensors in them in safetensors format, into one
zip file; `unpack` reads nothing else back.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as arrays_format

from pairsearch.studies.checkpoint import State
from pairsearch.studies.errors import ReportError

DTYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)) | {
    "bool",
    "float16",
    "float32",
    "float64",
}
"""Types of arrays that safetensors holds."""


def pack(state: State) -> bytes:
    """Return a state as a file's content, equal for equal states; raises a ReportError where it cannot be stored."""
    arrays: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    contents = {
        "structure.json": json.dumps(_described(state, "state", arrays, tensors)).encode(),
        "arrays.safetensors": arrays_format.save(arrays),
    }
    if tensors:
        contents["tensors.safetensors"] = _tensors_format().save(tensors)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        for name, content in contents.items():
            # Without the time of day, which would make equal states differ.
            parts.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def unpack(content: bytes) -> Any:
    """Return the state of a content that `pack` made; raises a ReportError where that is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            structure = json.loads(parts.read("structure.json"))
            arrays = arrays_format.load(parts.read("arrays.safetensors"))
            tensors: dict[str, Any] = {}
            if "tensors.safetensors" in parts.namelist():
                tensors = _tensors_format().load(parts.read("tensors.safetensors"))
        return _restored(structure, arrays, tensors)
    except (zipfile.BadZipFile, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReportError(f"checkpoint: it is damaged ({type(error).__name__}): it is not used") from error


def stored_tensor(tensor: Any) -> Any:
    """Return a copy of a tensor as safetensors stores it, on the CPU; raises a ValueError where it cannot.

    A copy, because tensors that share memory, as those of a module may, would be refused.
    """
    import torch  # noqa: PLC0415 - slow to import

    try:
        copy = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        _tensors_format().save({"": torch.empty(0, dtype=tensor.dtype)})
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}: "
            "expected a dense one, with content, of real numbers"
        ) from error
    return copy


def _tensors_format() -> ModuleType:
    from safetensors import torch as tensors_format  # noqa: PLC0415 - only who uses PyTorch has tensors

    return tensors_format


def _described(value: Any, where: str, arrays: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """Describe a value as JSON, and take its arrays and tensors out."""
    torch = sys.modules.get("torch")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, bytes | bytearray):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        items = [
            [_described(key, where, arrays, tensors), _described(one, f"{where}[{key!r}]", arrays, tensors)]
            for key, one in value.items()
        ]
        return {"mapping": items}
    if isinstance(value, list | tuple):
        items = [_described(one, f"{where}[{at}]", arrays, tensors) for at, one in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if torch is not None and isinstance(value, torch.Tensor):
        name = str(len(tensors))
        try:
            tensors[name] = stored_tensor(value)
        except ValueError as error:
            raise ReportError(f"checkpoint: {where} is {error}") from error
        return {"tensor": name, "device": str(value.device)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in DTYPES:
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name, "shape": list(value.shape), "scalar": isinstance(value, np.generic)}
    raise ReportError(
        f"checkpoint: {where} is {type(value).__name__}: expected mappings, lists and tuples of arrays, tensors, "
        "numbers, texts, bytes and None"
    )


def _restored(value: Any, arrays: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = next(iter(value))
    content = value[kind]
    if kind in ("list", "tuple"):
        items = [_restored(one, arrays, tensors) for one in content]
        return items if kind == "list" else tuple(items)
    if kind == "mapping":
        return {_restored(key, arrays, tensors): _restored(one, arrays, tensors) for key, one in content}
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "tensor":
        return tensors[content].to(value["device"])
    array = arrays[content].reshape(value["shape"])
    return array[()] if value["scalar"] else array
