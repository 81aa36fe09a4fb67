"""The folder in which a driver works: the study's own, or its copy of one in an object store; one driver at a time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crossover.platform.execution.decisions import DecisionLog
from crossover.platform.execution.lock import StudyLock
from crossover.platform.storage.lease import StudyLease
from crossover.platform.storage.probe import FolderProbe, StoreProbe, check_reach
from crossover.platform.storage.remote_study import DecisionParts, RemoteStudy, copy_folder
from crossover.platform.storage.space import FolderSpace, StoreSpace
from crossover.platform.study import Study, read_frozen
from crossover.trainers.durable import durable_file
from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import is_uri, joined, storage_mistake
from crossover.trainers.storage import ObjectStore

__all__ = ["StudyFolder", "remote_folder", "study_folder"]


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, or this driver's copy of one in an object store.

    Args:
        path: absolute.
        remote: where the study lies, if `path` is a copy.
        lease: of the study there.
    """

    path: Path
    remote: RemoteStudy | None = None
    lease: StudyLease | None = None

    @property
    def is_new(self) -> bool:
        """It holds no frozen study yet."""
        return not (self.path / "study.yaml").exists()

    @property
    def space(self) -> FolderSpace | StoreSpace:
        """Where its records take room."""
        return FolderSpace(self.path) if self.remote is None else StoreSpace(self.remote.store)

    @property
    def shown(self) -> str:
        """As a user names it, and a shell reads it."""
        return shlex.quote(str(self.path) if self.remote is None else self.remote.uri)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other drivers out, and brings the copy up to date.

        Raises:
            CrossoverError: another driver has it, or the store cannot be used.
        """
        with StudyLock(self.path):
            if self.remote is None or self.lease is None:
                yield
                return
            with self.lease:
                self.remote.fetch()
                yield

    def check_reach(self) -> None:
        """Asks every machine of the cluster whether it reaches the study's folder.

        Raises:
            CrossoverError: which do not.
        """
        place = FolderProbe.of(self.path) if self.remote is None else StoreProbe.of(self.remote.store)
        check_reach(place, self.shown)

    def open_log(self) -> DecisionLog:
        """The decisions of a new attempt."""
        if self.lease is None:
            return DecisionLog(self.path)
        return DecisionLog(self.path, DecisionParts(self.lease.store, self.lease.check))

    def freeze(self, study: Study, data_hash: str) -> None:
        """Writes the study there: once, and again where what it may change has changed (budget, resources)."""
        durable_file(self.path / "study.yaml", study.freeze(data_hash).encode())
        if self.remote is not None:
            self.remote.publish_top()

    def check_same(self, study: Study, data_hash: str) -> None:
        """Refuses to go on with other questions, or on other text.

        Raises:
            CrossoverError: every difference, and what to do.
        """
        if self.is_new:
            if any((self.path / "decisions").glob("*.jsonl")):
                raise CrossoverError(
                    f"{self.shown} holds trials of a study whose study.yaml is gone, so nobody can say whether they "
                    "are yours: restore it from a copy, or give this study another name or another --storage"
                )
            return
        frozen = read_frozen(self.path)
        found = frozen.differences(study)
        if frozen.data_hash != data_hash:
            found.append(f"data: the corpus {study.data.corpus} has another content (its manifest hash differs)")
        if found:
            raise CrossoverError(
                f"{self.shown} holds a study that asks something else, and its trials cannot be mixed with yours:\n"
                + "\n".join(f"  {difference}" for difference in found)
                + "\nGive this study another name or another --storage, or set back what differs"
            )


def study_folder(study: Study, storage: str | Path | None) -> StudyFolder:
    """The folder of a study, made if need be, and tried for writing; of one in an object store, the driver's copy.

    Raises:
        CrossoverError: it cannot be made or written.
    """
    where = str(storage or study.storage)
    if (mistake := storage_mistake(where)) is not None:
        raise CrossoverError(f"--storage: {mistake}")
    if not is_uri(where):
        return StudyFolder(_made((Path(where).expanduser() / study.name).absolute()))
    return remote_folder(joined(where, study.name))


def remote_folder(uri: str) -> StudyFolder:
    """The driver's copy of a study in an object store.

    Args:
        uri: of the study's folder.

    Raises:
        CrossoverError: the copy cannot be made.
    """
    copy = _made(copy_folder(uri, "driver").absolute())
    return StudyFolder(copy, RemoteStudy(uri, copy), StudyLease(ObjectStore(uri), str(copy)))


def _made(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".tmp-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CrossoverError(
            f"the study cannot be written in {path}: {error.strerror}. Give another folder with --storage"
        ) from None
    return path
