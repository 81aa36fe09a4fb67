"""Pieces of tensors in files, against slices of the whole and against torch.distributed.checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.distributed import checkpoint as dcp

from crossover.trainers.checkpoint import load_into, read_tensors, shapes_of
from crossover.trainers.errors import RecordError
from crossover.trainers.shards import Piece, SavedTensors, piece_of, write_pieces

Box = tuple[slice, ...]


def whole() -> dict[str, torch.Tensor]:
    return {
        "square": torch.arange(30, dtype=torch.float32).view(6, 5),
        "cube": torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "count": torch.tensor(7),
    }


def write_rows_apart(folder: Path, tensors: dict[str, torch.Tensor], cuts: Sequence[int]) -> list[Path]:
    """A file for the rows between each two cuts; the first one has what has no rows."""
    files = []
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        pieces = {
            name: Piece(tensor[start:end], (start,) + (0,) * (tensor.ndim - 1), tuple(tensor.shape))
            for name, tensor in tensors.items()
            if tensor.ndim and end > start
        }
        if number == 0:
            pieces |= {name: piece_of(tensor) for name, tensor in tensors.items() if not tensor.ndim}
        files.append(folder / f"{number}.safetensors")
        write_pieces(files[-1], pieces)
    return files


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    ends = [sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=2))) for size in shape]
    return tuple(slice(*pair) for pair in ends)


@given(cuts=st.lists(st.integers(0, 6), max_size=4), square=boxes((6, 5)), cube=boxes((6, 2, 3)))
def test_any_box_is_read_from_any_number_of_files(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], square: Box, cube: Box
) -> None:
    tensors = whole()
    saved = SavedTensors(write_rows_apart(tmp_path_factory.mktemp("s"), tensors, [0, *sorted(cuts), 6]))
    for name, box in (("square", square), ("cube", cube), ("count", ())):
        expected = tensors[name][box]
        offsets = tuple(side.start for side in box)
        found = saved.read(name, offsets, tuple(expected.shape))
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
        assert torch.equal(saved[name], tensors[name])


def test_columns_may_be_apart_too(tmp_path: Path) -> None:
    tensor = whole()["square"]
    for number, columns in enumerate((slice(0, 2), slice(2, 5))):
        piece = Piece(tensor[:, columns], (0, columns.start), (6, 5))
        write_pieces(tmp_path / f"{number}.safetensors", {"square": piece})
    saved = SavedTensors(sorted(tmp_path.iterdir()))
    assert torch.equal(saved["square"], tensor)
    assert torch.equal(saved.read("square", (1, 1), (4, 3)), tensor[1:5, 1:4])


def test_shapes_and_names_are_told_without_the_numbers(tmp_path: Path) -> None:
    saved = SavedTensors(write_rows_apart(tmp_path, whole(), [0, 1, 6]))
    assert set(saved) == set(whole())
    assert shapes_of(saved) == shapes_of(whole()) == {"square": (6, 5), "cube": (6, 2, 3), "count": ()}


def test_a_missing_file_of_the_last_worker_is_found_out(tmp_path: Path) -> None:
    files = write_rows_apart(tmp_path, whole(), [0, 2, 6])
    for left in (files[:1], files[1:]):
        with pytest.raises(RecordError, match=r"lacks a part of (square|cube)"):
            SavedTensors(left)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64])
def test_a_file_that_holds_no_tensors_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    files = write_rows_apart(tmp_path, whole(), [0, 2, 6])
    files[1].write_bytes(content)
    with pytest.raises(RecordError, match=r"1\.safetensors cannot be read"):
        SavedTensors(files)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_torch_distributed_checkpoint_reads_what_is_written(tmp_path: Path) -> None:
    tensors = whole()
    write_rows_apart(tmp_path, tensors, [0, 1, 4, 6])
    found = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    dcp.load(found, storage_reader=dcp.HuggingFaceStorageReader(str(tmp_path)), no_dist=True)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_what_torch_distributed_checkpoint_wrote_is_read(tmp_path: Path) -> None:
    tensors = whole()
    dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(tmp_path), save_distributed=True), no_dist=True)
    saved = SavedTensors(sorted(tmp_path.glob("*.safetensors")))
    for name, tensor in tensors.items():
        assert torch.equal(saved[name], tensor), name


def test_a_whole_file_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    write_pieces(path, {name: piece_of(tensor) for name, tensor in whole().items()})
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, whole()[name])
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert "__metadata__" not in json.loads(path.read_bytes()[8 : 8 + length])


def test_a_tensor_without_numbers_is_written(tmp_path: Path) -> None:
    write_pieces(tmp_path / "none.safetensors", {"none": piece_of(torch.zeros(0, 3))})
    assert read_tensors(tmp_path / "none.safetensors")["none"].shape == (0, 3)
    assert SavedTensors([tmp_path / "none.safetensors"])["none"].shape == (0, 3)


def test_tensors_are_loaded_from_the_disk_and_from_memory(tmp_path: Path) -> None:
    saved = SavedTensors(write_rows_apart(tmp_path, whole(), [0, 5, 6]))
    for source in (saved, whole()):
        target = torch.nn.Parameter(torch.zeros(6, 5))
        load_into(target, source, "square")
        assert torch.equal(target, whole()["square"])


@pytest.mark.parametrize(
    ("target", "name", "message"),
    [
        (torch.zeros(6, 5), "round", "the saved state has no round"),
        (torch.zeros(5, 6), "square", r"the saved square has the shape \(6, 5\), and here it is \(5, 6\)"),
        (torch.zeros(6, 5, dtype=torch.bfloat16), "square", "square is torch.float32, and here it is torch.bfloat16"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, target: torch.Tensor, name: str, message: str) -> None:
    saved = SavedTensors(write_rows_apart(tmp_path, whole(), [0, 5, 6]))
    for source in (saved, whole()):
        with pytest.raises(RecordError, match=message):
            load_into(target, source, name)
    assert not target.any()
