from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crossover.trainers.data import open_corpus
from crossover.trainers.data.python_stdlib import library_files
from crossover.trainers.errors import CorpusError


def test_only_the_library_itself_is_taken(tmp_path: Path) -> None:
    kept = ["abc.py", "json/decoder.py", "idlelib/idle.py", "json/config-like.py"]
    left_out = [
        "site-packages/numpy/abc.py",
        "dist-packages/x.py",
        "test/test_abc.py",
        "lib2to3/tests/data/bad.py",
        "idlelib/idle_test/test_x.py",
        "json/__pycache__/decoder.py",
        "config-3.11-x86_64-linux-gnu/python-config.py",
        "_sysconfigdata__linux_x86_64-linux-gnu.py",
        "sitecustomize.py",
        "lib-dynload/_ssl.so",
        "LICENSE.txt",
    ]
    for name in kept + left_out:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in library_files(tmp_path)] == sorted(kept)


def test_python_stdlib_is_prepared_on_first_use_and_only_opened_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSOVER_CACHE", str(tmp_path))
    first = open_corpus("python-stdlib")
    assert first.folder.is_relative_to(tmp_path)
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    second = open_corpus("python-stdlib", cache_dir=tmp_path)
    assert (second.folder / "manifest.json").stat().st_mtime_ns == written

    manifest = first.manifest
    assert second.manifest == manifest
    assert manifest.provenance.interpreter is not None and sys.version in manifest.provenance.interpreter
    assert 8_000_000 < sum(facts.num_bytes for facts in manifest.splits.values()) < 20_000_000
    assert manifest.splits["training"].num_tokens > 5_000_000
    assert manifest.splits["validation"].num_documents > 10 and manifest.splits["test"].num_documents > 10


def test_a_cache_that_cannot_be_written_is_told_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="set CROSSOVER_CACHE"):
        open_corpus("python-stdlib", cache_dir=tmp_path / "file")
