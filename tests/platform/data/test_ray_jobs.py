"""A corpus prepared by Ray Data is the one prepared here, byte for byte, and its errors are as plain."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest

from crossover.platform.data.preparing import prepare
from crossover.trainers.data.preparation import pipeline
from crossover.trainers.errors import CorpusError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("source"), random.Random(0)
    words = ["".join(draw.choices("abcdefghijkl", k=draw.randint(2, 7))) for _ in range(300)]
    for part in range(4):
        lines = [json.dumps({"text": " ".join(draw.choices(words, k=60))}) for _ in range(50)]
        (folder / f"{part}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.usefixtures("ray_session")
def test_ray_data_gives_the_same_bytes(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_PART_FILES", 1)
    settings = {"tokenizer": "bpe:400", "quality": "compression", "shard_bytes": 16_000}
    for name, on_ray in (("here", False), ("ray", True)):
        (tmp_path / name).mkdir()
        prepare([str(source)], tmp_path / name / "corpus", on_ray=on_ray, **settings)
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "corpus").iterdir()} for name in ("here", "ray")
    ]
    assert files[0] == files[1] and len(files[0]) > 5


@pytest.mark.usefixtures("ray_session")
def test_a_broken_line_on_ray_is_the_same_message(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n{"text": "cut')
    with pytest.raises(CorpusError, match=r"bad\.jsonl, line 2, is no JSON"):
        prepare([str(source), str(tmp_path / "bad.jsonl")], tmp_path / "corpus", on_ray=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]
    assert not [thread.name for thread in threading.enumerate() if "StreamingExecutor" in thread.name]
