from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossover.trainers.checkpoint import Checkpoint, read_checkpoint, read_tensors, write_groups, write_scalars
from crossover.trainers.errors import RecordError
from crossover.trainers.shards import piece_of, write_pieces


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    write_pieces(path, {name: piece_of(tensor) for name, tensor in tensors.items()})


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    groups = checkpoint.tensors.items()
    write_groups(folder, {group: {n: piece_of(t) for n, t in tensors.items()} for group, tensors in groups})
    write_scalars(folder, checkpoint.scalars)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_tensors_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.randint(0, 2, (5, 8), dtype=torch.uint8)
    tensor = raw.bool() if dtype == torch.bool else torch.randint(-(2**30), 2**30, (5, 8)).to(dtype)
    write_tensors(tmp_path / "t.safetensors", {"x": tensor, "scalar": tensor[0, 0]})
    back = read_tensors(tmp_path / "t.safetensors")
    assert back["x"].dtype == dtype
    assert torch.equal(back["x"], tensor)
    assert back["scalar"].shape == ()


def test_non_finite_and_negative_zero_weights_keep_their_bits(tmp_path: Path) -> None:
    tensor = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45])
    write_tensors(tmp_path / "t.safetensors", {"x": tensor})
    assert torch.equal(read_tensors(tmp_path / "t.safetensors")["x"].view(torch.int32), tensor.view(torch.int32))


def test_tied_and_transposed_tensors_are_written(tmp_path: Path) -> None:
    table = torch.randn(4, 3)
    write_tensors(tmp_path / "t.safetensors", {"input": table, "head": table, "turned": table.T})
    back = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(back["head"], table)
    assert torch.equal(back["turned"], table.T)


@given(value=st.floats(allow_nan=False), count=st.integers(0, 2**62))
def test_scalars_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, value: float, count: int) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, Checkpoint({}, {"value": value, "count": count}))
    back = read_checkpoint(folder).scalars
    assert math.copysign(1, back["value"]) == math.copysign(1, value)
    assert back == {"value": value, "count": count}


def test_groups_come_back_by_name_an_empty_one_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Checkpoint({"model": {"w": torch.ones(1)}, "averages": {}}, {"loss": math.nan}))
    back = read_checkpoint(tmp_path)
    assert set(back.tensors) == {"model", "averages"}
    assert back.tensors["averages"] == {}
    assert math.isnan(back.scalars["loss"])


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Checkpoint({"model": {"w": torch.ones(1)}}, {"step": 1}))
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "state.json"}
    for path in tmp_path.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64])
def test_a_file_that_holds_no_tensors_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"model\.safetensors cannot be read"):
        read_tensors(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"state\.json cannot be read"):
        read_checkpoint(tmp_path)
    with pytest.raises(RecordError, match=r"gone\.safetensors cannot be read"):
        read_tensors(tmp_path / "gone.safetensors")
