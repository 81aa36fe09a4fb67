"""Named tensors in safetensors files, one file a worker, that are read back at any world size.

The files are those of torch.distributed.checkpoint's Hugging Face storage (offsets in the metadata of each file, under
its key), so its reader and its consolidation take a group's folder as it is. Its writer is not used: it plans every
save in collectives, which a background thread must not make, and took 21-26 ms of processor time for a state of 0.5M
parameters against 5 ms here, 250 against 28 for 5M (2 cores, one thread). Its default storage unpickles what it reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from crossover.trainers.errors import RecordError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["Piece", "SavedTensors", "owned_pieces", "piece_of", "write_pieces"]

Indices = tuple[int, ...]

_OFFSETS = "DCP_SHARDING_INFO"  # the name that torch.distributed.checkpoint reads
_SHAPES = "shapes"
_SOMETHING = torch.zeros(1)


@dataclass(frozen=True)
class Piece:
    """A box of a named tensor.

    Args:
        tensor: the numbers in it.
        offsets: where it begins in the whole.
        shape: of the whole.
    """

    tensor: torch.Tensor
    offsets: Indices
    shape: Indices


def piece_of(tensor: torch.Tensor) -> Piece:
    """What this worker has of `tensor`: all of a plain one, the local shard of a DTensor."""
    tensor = tensor.detach()
    if not _is_distributed(tensor):
        return Piece(tensor, (0,) * tensor.ndim, tuple(tensor.shape))
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[no-untyped-call]  # what DCP asks too
    return Piece(tensor.to_local(), tuple(chunk.offsets), tuple(tensor.shape))


def owned_pieces(tensors: Mapping[str, torch.Tensor], rank: int) -> dict[str, Piece]:
    """What worker `rank`, which is this one, is to write of `tensors`: of equal copies one worker writes its own."""
    return {name: piece_of(tensor) for name, tensor in tensors.items() if _is_first_copy(tensor, rank)}


def _is_distributed(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Told by the methods that DCP asks for: importing DTensor takes 0.35 s, and most runs have none."""
    return hasattr(tensor, "__create_chunk_list__")


def _is_first_copy(tensor: torch.Tensor, rank: int) -> bool:
    if not _is_distributed(tensor):
        return rank == 0
    place = tensor.device_mesh.get_coordinate()
    copies = [coordinate for coordinate, p in zip(place or (), tensor.placements, strict=True) if p.is_replicate()]
    return not any(copies) and tensor.to_local().numel() > 0


def write_pieces(path: Path, pieces: Mapping[str, Piece]) -> None:
    """Writes the pieces of one worker, on the CPU, to one file; tensors that share memory are written once each."""
    whole = all(piece.shape == tuple(piece.tensor.shape) for piece in pieces.values())
    tensors = {name: piece.tensor.contiguous() for name, piece in pieces.items()}
    specs = {name: _spec(tensor) for name, tensor in tensors.items()}
    serialize_file(specs, path, None if whole else _metadata(pieces))


def _spec(tensor: torch.Tensor) -> TensorSpec:
    """Where the numbers lie: safetensors.torch.save_file asks the same in three times the time."""
    address = (tensor if tensor.numel() else _SOMETHING).data_ptr()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(dtype=dtype, shape=list(tensor.shape), data_ptr=address, data_len=tensor.nbytes)


def _metadata(pieces: Mapping[str, Piece]) -> dict[str, str]:
    return {
        _OFFSETS: json.dumps({name: {"saved_offsets": piece.offsets} for name, piece in pieces.items()}),
        _SHAPES: json.dumps({name: piece.shape for name, piece in pieces.items()}),
    }


class SavedTensors(Mapping[str, torch.Tensor]):
    """The tensors of a group, in the files of all the workers that wrote it; nothing is read before it is asked for.

    An item is the whole tensor, on the CPU; `read` gives a part.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        """Open the group in `files`, of which there is one for each worker that wrote.

        Raises:
            RecordError: a file is missing or no safetensors file, or together they lack a part of a tensor.
        """
        self._pieces: dict[str, list[_SavedPiece]] = {}
        self._shapes: dict[str, Indices] = {}
        for file in files:
            try:
                self._open(file)
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                raise RecordError(f"{file} cannot be read: {error}") from None
        for name, shape in self._shapes.items():
            if sum(math.prod(piece.sizes) for piece in self._pieces[name]) != math.prod(shape):
                raise RecordError(f"{files[0].parent} lacks a part of {name}: the file of a worker is missing")

    def _open(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        metadata = file.metadata() or {}
        offsets, shapes = (json.loads(metadata.get(key, "{}")) for key in (_OFFSETS, _SHAPES))
        for name in file.keys():  # noqa: SIM118 - no mapping
            sizes = tuple(file.get_slice(name).get_shape())
            begin = tuple(offsets[name]["saved_offsets"]) if offsets else (0,) * len(sizes)
            self._pieces.setdefault(name, []).append(_SavedPiece(file, name, begin, sizes))
            self._shapes[name] = tuple(shapes[name]) if shapes else sizes

    def __getitem__(self, name: str) -> torch.Tensor:
        shape = self._shapes[name]
        return self.read(name, (0,) * len(shape), shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, name: str) -> Indices:
        """Shape of the whole tensor."""
        return self._shapes[name]

    def read(self, name: str, offsets: Indices, sizes: Indices) -> torch.Tensor:
        """The box of tensor `name` that begins at `offsets`, on the CPU, put together from the pieces it lies in."""
        pieces = self._pieces[name]
        for piece in pieces:
            if (piece.offsets, piece.sizes) == (offsets, sizes):
                return piece.whole()
        box = torch.empty(sizes, dtype=pieces[0].dtype)
        for piece in pieces:
            piece.copy_into(box, offsets)
        return box


@dataclass(frozen=True)
class _SavedPiece:
    """A box of a tensor in an open file."""

    file: Any
    name: str
    offsets: Indices
    sizes: Indices

    @property
    def dtype(self) -> torch.dtype:
        return self.whole().dtype  # mapped into memory: nothing is read

    def whole(self) -> torch.Tensor:
        tensor: torch.Tensor = self.file.get_tensor(self.name)
        return tensor

    def copy_into(self, box: torch.Tensor, box_offsets: Indices) -> None:
        """Copies what this piece and `box`, which begins at `box_offsets` of the whole, have in common."""
        sides = list(zip(self.offsets, self.sizes, box_offsets, box.shape, strict=True))
        common = [(max(o, b), min(o + s, b + t)) for o, s, b, t in sides]
        if any(begin >= end for begin, end in common):
            return
        here = tuple(slice(begin - o, end - o) for (begin, end), o in zip(common, self.offsets, strict=True))
        there = tuple(slice(begin - b, end - b) for (begin, end), b in zip(common, box_offsets, strict=True))
        box[there] = self.whole()[here]
