"""A training state on disk: tensors as safetensors, scalars as JSON, never a pickle.

Both formats give back every bit: safetensors holds the raw bytes, and JSON's floats are written with the digits that
read back the same. A run of one worker writes `<group>.safetensors`; of several, each writes its shards to a file in
the folder `<group>` (`shards.py`). Either is read at any world size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from crossover.trainers.errors import RecordError
from crossover.trainers.shards import Piece, SavedTensors, piece_of, write_pieces

__all__ = [
    "Checkpoint",
    "load_into",
    "read_checkpoint",
    "read_tensors",
    "shapes_of",
    "shard_name",
    "write_groups",
    "write_scalars",
]

Tensors = Mapping[str, torch.Tensor]

_SCALARS = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """Everything from which a run goes on as if it had never stopped.

    Args:
        tensors: groups of named tensors (model, optimizer, averages), live ones to be written; those that were read
            lie on disk until they are asked for.
        scalars: JSON values; a float comes back bit for bit, non-finite ones too.
    """

    tensors: Mapping[str, Tensors]
    scalars: Mapping[str, Any]


def shard_name(rank: int, world_size: int) -> str:
    """Name of the file of one worker of several."""
    return f"{rank + 1:05}-of-{world_size:05}.safetensors"


def write_groups(
    folder: Path, groups: Mapping[str, Mapping[str, Piece]], rank: int = 0, world_size: int = 1
) -> list[Path]:
    """Writes what one worker has of the tensors into `folder`; all workers write the same groups.

    Returns:
        The files that this worker wrote, one a group.
    """
    files = []
    for group, pieces in groups.items():
        path = folder / f"{group}.safetensors"
        if world_size > 1:
            path = folder / group / shard_name(rank, world_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pieces(path, pieces)
        files.append(path)
    return files


def write_scalars(folder: Path, scalars: Mapping[str, Any]) -> Path:
    """Writes the values that are no tensors to a file in `folder`, and says which."""
    folder.mkdir(exist_ok=True)
    (folder / _SCALARS).write_text(json.dumps(dict(scalars), sort_keys=True))
    return folder / _SCALARS


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, of any number of workers; its tensors stay on the disk until they are asked for.

    Raises:
        RecordError: a file is missing or is not what its name says.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        files.setdefault(path.stem if path.parent == folder else path.parent.name, []).append(path)
    scalars_at = folder / _SCALARS
    try:
        scalars = json.loads(scalars_at.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{scalars_at} cannot be read: {error}") from None
    return Checkpoint({group: SavedTensors(paths) for group, paths in files.items()}, scalars)


def shapes_of(source: Tensors) -> dict[str, tuple[int, ...]]:
    """Shape of every whole tensor, by name; of a saved group nothing is read for it."""
    if isinstance(source, SavedTensors):
        return {name: source.shape(name) for name in source}
    return {name: tuple(tensor.shape) for name, tensor in source.items()}


@torch.no_grad()
def load_into(target: torch.Tensor, source: Tensors, name: str) -> None:
    """Copies tensor `name` of `source` into `target`: a plain tensor takes all of it, a DTensor its local shard.

    Args:
        target: on any device; a worker of several calls this for its own, whatever world size wrote.
        source: whole tensors by name: a group of a checkpoint that was read, or tensors in memory.
        name: of the tensor.

    Raises:
        RecordError: there is no such tensor, or it has another shape or type of numbers.
    """
    if name not in source:
        raise RecordError(f"the saved state has no {name}: continue this trial with the configuration it began with")
    here = piece_of(target)
    shape = source.shape(name) if isinstance(source, SavedTensors) else tuple(source[name].shape)
    if shape != here.shape:
        raise RecordError(
            f"the saved {name} has the shape {shape}, and here it is {here.shape}: continue this trial with the "
            "configuration it began with"
        )
    sizes = tuple(here.tensor.shape)
    if isinstance(source, SavedTensors):
        found = source.read(name, here.offsets, sizes)
    else:
        found = source[name][tuple(slice(o, o + size) for o, size in zip(here.offsets, sizes, strict=True))]
    if found.dtype != here.tensor.dtype:
        raise RecordError(
            f"the saved {name} is {found.dtype}, and here it is {here.tensor.dtype}: digits would be lost"
        )
    here.tensor.copy_(found)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors in the file at `path`, on the CPU.

    Raises:
        RecordError: the file is missing or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
