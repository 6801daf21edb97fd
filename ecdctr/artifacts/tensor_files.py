"""Tensors as safetensors files, whole or in one part per rank."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ecdctr.exceptions import IntegrityError

CHUNK = 1 << 26
DTYPES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
PART = re.compile(r"-(\d+)-of-(\d+)\.safetensors$")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file straight from the tensors' memory.

    The library's own writer copies all of them first, which for embedding tables is their size once more.

    Args:
        path: The file, replaced where it exists.
        tensors: By name.
    """
    # Wide numbers first, as the format's own writer has it: every tensor then begins at a multiple of its item's size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    at = 0
    for name in names:
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            # Through bytes, since NumPy has no bfloat16.
            for part in flat.view(torch.uint8).split(CHUNK):
                file.write(memoryview(part.numpy()))


def part_name(name: str, rank: int, size: int) -> str:
    """Name of the file in which a rank writes its rows."""
    return f"{name}-{rank:05d}-of-{size:05d}.safetensors"


def parts_of(folder: Path, name: str) -> list[Path]:
    """Files of all ranks, in their order; none where nothing was written in parts.

    Raises:
        IntegrityError: Some of them are missing.
    """
    found = sorted(path for path in folder.glob(f"{name}-*.safetensors") if PART.search(path.name))
    if found:
        match = PART.search(found[0].name)
        size = int(match[2]) if match else 0
        expected = [part_name(name, rank, size) for rank in range(size)]
        if [path.name for path in found] != expected:
            raise IntegrityError(
                f"{folder} has {[path.name for path in found]}, expected {expected}",
                hint="restore the files that are missing, or train that version again",
            )
    return found


def read_parts(folder: Path, name: str) -> dict[str, list[Tensor]]:
    """For each tensor that was written in parts, its parts in the order of ranks, mapped from the files."""
    parts = [load_file(path) for path in parts_of(folder, name)]
    return {key: [part[key] for part in parts] for key in (parts[0] if parts else ())}
