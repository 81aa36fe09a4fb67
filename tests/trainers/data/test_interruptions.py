"""Several processes give the same corpus as one; a preparation that was interrupted goes on, and leaves nothing."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from corpora import contents, prepared, sentences

from crossover.trainers.data import prepare_corpus
from crossover.trainers.data.preparation import pipeline, runs
from crossover.trainers.data.preparation.executors import Here, Processes
from crossover.trainers.errors import CorpusError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number, text in enumerate(sentences(400)):
        (folder / f"{number}.txt").write_text(text)
    return folder


SETTINGS = {"shard_bytes": 4000, "tokenizer": "bpe:400", "quality": "compression"}


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expected")
    prepared(source, folder / "corpus", executor=Here(), **SETTINGS)
    return folder / "corpus"


def test_several_processes_give_the_same_bytes(
    source: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_PART_FILES", 50)
    prepared(source, tmp_path / "corpus", executor=Processes(2), **SETTINGS)
    assert contents(tmp_path / "corpus") == contents(expected)
    assert (tmp_path / "corpus" / "manifest.json").read_text() != ""


class _Stopped(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize("after", [1, 3, 9, 14])
def test_an_interrupted_preparation_goes_on_where_it_was(
    after: int, source: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_PART_FILES", 50)
    told: list[str] = []

    def stop(activity: str, done: int, total: int) -> None:
        told.extend([activity] * (done > 0))
        if len(told) == after:
            raise _Stopped

    with pytest.raises(_Stopped):
        prepared(source, tmp_path / "corpus", progress=stop, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.preparing"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".arrow", ".json")}
    kept: list[bool] = []
    monkeypatch.setattr(pipeline.shutil, "copy", _copy_and_look(before, kept))
    prepared(source, tmp_path / "corpus", **SETTINGS)
    assert contents(tmp_path / "corpus") == contents(expected)
    assert kept == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def _copy_and_look(before: dict[Path, int], kept: list[bool]) -> object:
    import shutil

    copy = shutil.copy

    def look(*arguments: object) -> object:
        kept.append(all(path.stat().st_mtime_ns == modified for path, modified in before.items()))
        return copy(*arguments)  # type: ignore[call-overload]

    return look


def test_other_settings_begin_anew(source: Path, tmp_path: Path) -> None:
    def stop(activity: str, done: int, total: int) -> None:
        raise _Stopped

    with pytest.raises(_Stopped):
        prepared(source, tmp_path / "corpus", progress=stop, piece_tokens=7)
    manifest = prepared(source, tmp_path / "corpus")
    assert manifest.piece_tokens == 2048
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_killed_preparation_leaves_no_corpus_and_goes_on(source: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from crossover.trainers.data import prepare_corpus\n"
        "def kill(*told):\n"
        "    if told[0] == 'training shards': os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare_corpus([sys.argv[1]], __import__('pathlib').Path(sys.argv[2]), shard_bytes=4000, progress=kill)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(source), str(tmp_path / "corpus")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.preparing"]
    manifest = prepare_corpus([source], tmp_path / "corpus", shard_bytes=4000)
    assert manifest.content_hash == prepare_corpus([source], tmp_path / "other", shard_bytes=4000).content_hash


def test_a_full_disk_is_one_message_and_no_corpus(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(runs.pa.ipc, "new_file", full)
        with pytest.raises(CorpusError, match=r"cannot be written \(No space left on device\): make room.*goes on"):
            prepared(source, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
    prepared(source, tmp_path / "corpus")


def test_the_limit_of_a_file_system_is_one_message(source: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from crossover.platform.cli import main\n"
        "sys.argv = ['crossover', 'data', 'prepare', sys.argv[1], '--output', sys.argv[2]]\nmain()\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "corpus")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written (File too large)" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "corpus").exists()


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Not root, who may write everywhere."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_folder_without_permission_is_one_message(source: Path, tmp_path: Path) -> None:
    prepared(source, tmp_path / "corpus")  # loads what an ordinary user may not be able to read here
    with ordinary_user(), tempfile.TemporaryDirectory() as scratch:
        (text := Path(scratch, "a.txt")).write_text("text")
        (place := Path(scratch, "closed")).mkdir(0o500)
        with pytest.raises(CorpusError, match=r"closed/corpus cannot be written \(Permission denied\): make room"):
            prepared(text, place / "corpus")
        assert not any(place.iterdir())


def test_workers_end_with_their_parent(source: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom crossover.trainers.data.preparation.executors import Processes\n"
        "for pid in Processes(2).map(__import__('os').getpgid, [0, 0]):\n"
        "    import multiprocessing\n"
        "    print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    children = [int(word) for word in done.stdout.split()]
    assert children
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
