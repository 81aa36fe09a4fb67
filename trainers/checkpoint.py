"""A training state on disk: tensors as safetensors, scalars as JSON, never a pickle.

Both formats give back every bit: safetensors holds the raw bytes, and JSON's floats are written with the digits that
read back the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from crossover.trainers.errors import RecordError

__all__ = ["Checkpoint", "read_checkpoint", "read_tensors", "write_checkpoint", "write_tensors"]

Tensors = Mapping[str, torch.Tensor]

_SCALARS = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """Everything from which a run goes on as if it had never stopped.

    Args:
        tensors: groups of named tensors (model, optimizer, averages), one file each.
        scalars: JSON values; a float comes back bit for bit, non-finite ones too.
    """

    tensors: Mapping[str, Tensors]
    scalars: Mapping[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` into the existing `folder`."""
    for group, tensors in checkpoint.tensors.items():
        write_tensors(folder / f"{group}.safetensors", tensors)
    (folder / _SCALARS).write_text(json.dumps(dict(checkpoint.scalars), sort_keys=True))


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, on the CPU.

    Raises:
        RecordError: a file is missing or is not what its name says.
    """
    tensors = {path.stem: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}
    scalars_at = folder / _SCALARS
    try:
        return Checkpoint(tensors, json.loads(scalars_at.read_text()))
    except (OSError, ValueError) as error:
        raise RecordError(f"{scalars_at} cannot be read: {error}") from None


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Writes named tensors to one file; tensors that share memory are written once each."""
    save_file({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors in the file at `path`, on the CPU.

    Raises:
        RecordError: the file is missing or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
