from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from crossover.platform.execution import lock
from crossover.platform.execution.lock import StudyLock, lock_holder
from crossover.trainers.errors import CrossoverError

HOLD = """
import sys, time
from pathlib import Path
from crossover.platform.execution.lock import StudyLock
with StudyLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holding(study_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(study_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_driver_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    process = holding(tmp_path)
    try:
        with pytest.raises(CrossoverError, match=f"process {process.pid} on "), StudyLock(tmp_path):
            pass
        assert f"process {process.pid} " in (lock_holder(tmp_path) or "")
    finally:
        process.kill()
        process.wait()
    assert lock_holder(tmp_path) is None
    with StudyLock(tmp_path):
        pass


def test_lock_is_given_back_at_the_end(tmp_path: Path) -> None:
    with StudyLock(tmp_path):
        assert f"process {os.getpid()} " in (lock_holder(tmp_path) or "")
    assert lock_holder(tmp_path) is None


def test_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with StudyLock(tmp_path):
        forked = os.fork()
        if forked == 0:
            time.sleep(30)
            os._exit(0)
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], close_fds=False)
    try:
        assert lock_holder(tmp_path) is None
    finally:
        os.kill(forked, 9)
        os.waitpid(forked, 0)
        started.kill()
        started.wait()


def test_folder_without_a_lock_is_run_by_nobody(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(lock, "_WATCH_SECONDS", 0.02)


def elsewhere(study_dir: Path) -> Path:
    """What a driver on a machine that does not share kernel locks with this one leaves to be seen."""
    path = study_dir / "LOCK"
    path.write_text(json.dumps({"pid": 7, "host": "another-machine"}))
    return path


@pytest.mark.usefixtures("short_lease")
def test_dead_driver_on_another_machine_is_followed_when_its_lease_is_over(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    assert lock_holder(tmp_path) == "process 7 on another-machine"
    begin = time.monotonic()
    with StudyLock(tmp_path):
        assert time.monotonic() - begin > 0.5
    assert lock_holder(tmp_path) is None


@pytest.mark.usefixtures("short_lease")
def test_driver_that_renews_its_lease_on_another_machine_is_named(tmp_path: Path) -> None:
    path, done = elsewhere(tmp_path), threading.Event()

    def renew() -> None:
        while not done.wait(0.1):
            os.utime(path)

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(CrossoverError, match="process 7 on another-machine"), StudyLock(tmp_path):
            pass
    finally:
        done.set()
        renewing.join()


@pytest.mark.usefixtures("short_lease")
def test_holder_renews_its_lease_and_a_clean_end_leaves_none(tmp_path: Path) -> None:
    with StudyLock(tmp_path):
        before = (tmp_path / "LOCK").stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (tmp_path / "LOCK").stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (tmp_path / "LOCK").read_bytes() == b""
