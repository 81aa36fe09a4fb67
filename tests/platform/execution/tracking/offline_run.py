"""Reads the file of an offline W&B run: a log of protobuf records in blocks of 32 KiB, as LevelDB's."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PATIENCE_SECONDS = 60
_BLOCK, _FILE_HEADER, _CHUNK_HEADER = 32_768, 7, 7


def records(path: Path) -> list[Any]:
    """Every record of a `.wandb` file. W&B's own process writes it, and may end a moment after `finish` returns."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    found = list(_records(path))
    while not any(record.WhichOneof("record_type") == "exit" for record in found):
        assert time.monotonic() < deadline, f"{path} was not finished"
        time.sleep(0.1)
        found = list(_records(path))
    return found


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    for content in _contents(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        yield record


def history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]


def summary(path: Path) -> dict[str, Any]:
    """The summary, as it was updated."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            found |= {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
    return found


def config(path: Path) -> dict[str, Any]:
    """The configuration with which the run was opened."""
    run = next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in run.config.update}


def artifacts(path: Path) -> list[tuple[str, str]]:
    """Name and type of every artifact."""
    requests = [record.request for record in records(path) if record.WhichOneof("record_type") == "request"]
    logged = [request.log_artifact.artifact for request in requests if request.HasField("log_artifact")]
    logged += [record.artifact for record in records(path) if record.WhichOneof("record_type") == "artifact"]
    return [(artifact.name, artifact.type) for artifact in logged]


def _contents(data: bytes) -> Iterator[bytes]:
    place, parts = _FILE_HEADER, []
    while place + _CHUNK_HEADER <= len(data):
        left_in_block = _BLOCK - place % _BLOCK
        if left_in_block < _CHUNK_HEADER:
            place += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + _CHUNK_HEADER])
        parts.append(data[place + _CHUNK_HEADER : place + _CHUNK_HEADER + length])
        place += _CHUNK_HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []
