"""What tests of all packages share. What a test needs and this machine lacks: it is skipped, and says why."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from s3_server import Store

sys.path.append(str(Path(__file__).parent))  # with --import-mode=importlib a test's folder is no path

# Tiny models run slower on several threads than on one, and far slower where somebody else uses the processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests and not _has_gpu():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))


@pytest.fixture(scope="session")
def browser() -> str:
    """A browser that runs without a screen."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser, one of: {', '.join(_BROWSERS)}")
    return found


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A real S3-protocol server on loopback, with credentials for it in the environment."""
    pytest.importorskip("moto", reason="needs moto's S3 server")
    from s3_server import Store

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ACCESS_KEY_ID", "test")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = Store()
        yield store
        store.close()


@pytest.fixture(scope="session")
def real_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed study of real trials; tests only read it."""
    folder = tmp_path_factory.mktemp("real_study")
    with tarfile.open(Path(__file__).parent / "data" / "crossover-cpu.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder / "crossover-cpu"
