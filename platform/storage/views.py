"""What reads a study reads a folder: the study's own, or this machine's copy of one in an object store."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crossover.platform.storage.remote_study import RemoteStudy, copy_folder
from crossover.trainers.durable import remove_folder, writing
from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import is_uri, storage_mistake
from crossover.trainers.storage import ObjectStore

__all__ = ["StudyPlace", "local_study", "local_trial"]


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is read.

    Args:
        path: its folder, or a copy of it without checkpoints.
        remote: where the study lies, if `path` is a copy.
    """

    path: Path
    remote: RemoteStudy | None = None

    @classmethod
    def of(cls, source: str | Path) -> StudyPlace:
        """A folder as it is, or a copy of a study in an object store that is up to date.

        Raises:
            CrossoverError: there is no study at that URI, or the store cannot be read.
        """
        if not is_uri(str(source)):
            return cls(Path(source))
        uri = str(source)
        if (mistake := storage_mistake(uri)) is not None:
            raise CrossoverError(mistake)
        path = copy_folder(uri, "view")
        place = cls(path, RemoteStudy(uri, path, with_windows=True))
        place.update()
        if not (path / "study.yaml").is_file():
            raise CrossoverError(
                f"{uri} is no study's folder: it has no study.yaml. Give <storage>/<name of the study>, as `crossover "
                "run` printed it"
            )
        return place

    def update(self) -> None:
        """Brings a copy up to date.

        Raises:
            StorageError: the store cannot be read.
        """
        if self.remote is not None:
            with _alone(self.path):
                self.remote.fetch()
                self.remote.fetch_holder()

    def shown(self, path: Path) -> str:
        """A file as a user names it."""
        if self.remote is None or not path.is_relative_to(self.path):
            return str(path)
        return self.remote.store.folder(path.relative_to(self.path).as_posix()).uri

    def publish(self, path: Path) -> None:
        """Puts a file that was written into the copy where the study lies; elsewhere there is nothing to do."""
        if self.remote is not None and path.is_relative_to(self.path):
            self.remote.publish([path.relative_to(self.path).as_posix()])


def local_study(source: str) -> Path:
    """A file or folder as it is; a URI as this machine's copy of the study there, without checkpoints.

    Raises:
        CrossoverError: there is no study at that URI, or the store cannot be read.
    """
    return StudyPlace.of(source).path


def local_trial(source: str) -> Path:
    """A folder as it is; a URI as this machine's copy of the trial's record there, with its best weights.

    Raises:
        CrossoverError: there is no trial at that URI, or the store cannot be read.
    """
    if not is_uri(source):
        return Path(source)
    if (mistake := storage_mistake(source)) is not None:
        raise CrossoverError(mistake)
    store, folder = ObjectStore(source), copy_folder(source, "model")
    there = store.list()
    if "trial.json" not in there:
        raise CrossoverError(
            f"{source} is no trial's folder: it has no trial.json. Give <storage>/<study>/trials/ID; `crossover "
            "results` lists them"
        )
    with _alone(folder):
        remove_folder(folder / "trial")
        store.download({name: folder / "trial" / name for name in there if "/checkpoint/" not in name})
    return folder / "trial"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Readers on one machine share a copy, which one of them at a time brings up to date."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
