"""`crossover clean`: what a study has on the disk and needs no more.

Rows, losses, decisions and the study itself are never touched, so tables, answer and report are the same afterwards,
and an unfinished study still goes on.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crossover.platform.execution.checkpoint_quota import droppable_of_study
from crossover.platform.execution.decisions import read_decisions
from crossover.platform.execution.lock import StudyLock
from crossover.platform.execution.study_folder import remote_folder
from crossover.platform.execution.view import StudyView
from crossover.platform.storage.space import FolderSpace, StoreSpace
from crossover.platform.study import read_frozen
from crossover.platform.study.units import bytes_text
from crossover.trainers.durable import remove_folder, writing
from crossover.trainers.errors import CrossoverError
from crossover.trainers.places import is_uri
from crossover.trainers.record import RecordPaths
from crossover.trainers.record_space import Droppable, folder_bytes, leftovers
from crossover.trainers.storage import ObjectStore

__all__ = ["Cleaned", "clean_study"]

_LEFT = "what killed writers left"
_WHY = {
    "training state": "training state of trials that have ended",
    "best weights": "best weights of trials that are not the best of their stratum",
    "older checkpoint": "older checkpoints of trials that wait",
}


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or would be.

    Args:
        paths: each with what it is and its bytes.
        dry_run: nothing was removed.
    """

    paths: tuple[tuple[Path, str, int], ...]
    dry_run: bool

    def __str__(self) -> str:
        """A line a kind, the largest first."""
        counts, sizes = Counter(why for _, why, _ in self.paths), Counter[str]()
        for _, why, num_bytes in self.paths:
            sizes[why] += num_bytes
        lines = [f"{bytes_text(size):>10}  {why} ({counts[why]})" for why, size in sizes.most_common()]
        verb = "would be removed; nothing was" if self.dry_run else "removed"
        return "\n".join([*lines, f"{bytes_text(sizes.total()):>10}  {verb}"])

    def to_json(self) -> str:
        """For programs."""
        listed = [{"path": str(path), "what": why, "bytes": num_bytes} for path, why, num_bytes in self.paths]
        return json.dumps({"dry_run": self.dry_run, "removed": listed, "bytes": sum(size for *_, size in self.paths)})


def clean_study(directory: str | Path, *, dry_run: bool = False) -> Cleaned:
    """Removes what a study needs no more.

    Args:
        directory: the study's folder, or its URI in an object store.
        dry_run: only say what would go.

    Raises:
        CrossoverError: it is no study's folder, a driver runs the study, or something cannot be removed.
    """
    if is_uri(str(directory)):
        return _clean_store(str(directory), dry_run=dry_run)
    directory = Path(directory)
    _check_study(directory, str(directory))
    with StudyLock(directory):
        view, space = _view_of(directory), FolderSpace(directory)
        checkpoints = droppable_of_study(view, space)
        others = [*_leftovers(view, directory), *_views(directory)]
        if not dry_run:
            for path in [one.path for one in checkpoints] + [path for path, _, _ in others]:
                _remove(path)
    return Cleaned((*_listed(checkpoints), *others), dry_run)


def _clean_store(uri: str, *, dry_run: bool) -> Cleaned:
    """The same in an object store, where views lie beside the driver."""
    folder = remote_folder(uri)
    with folder.held():
        _check_study(folder.path, uri)
        view, space = _view_of(folder.path), StoreSpace(ObjectStore(uri))
        checkpoints = droppable_of_study(view, space)
        left = [(path, _LEFT, size) for trial in view.trials for path, size in space.leftovers(trial.trial_id)]
        views = list(_views(folder.path))
        if not dry_run:
            for one in checkpoints:
                space.drop(one)
            space.study.remove_folders([*(path.as_posix() for path, _, _ in left), "probe"])
            for path, _, _ in views:
                _remove(path)
    return Cleaned((*_listed(checkpoints), *left, *views), dry_run)


def _check_study(directory: Path, named: str) -> None:
    if not (directory / "study.yaml").is_file():
        raise CrossoverError(
            f"{named} is no study's folder (there is no study.yaml in it): give the folder that `crossover run` "
            "made, <storage>/<name of the study>"
        )


def _view_of(directory: Path) -> StudyView:
    view = StudyView.of(read_frozen(directory).study)
    view.replay(read_decisions(directory), directory, driver_alive=False)
    return view


def _listed(found: Iterable[Droppable]) -> Iterator[tuple[Path, str, int]]:
    for one in found:
        yield one.path, _WHY[one.kind], one.num_bytes


def _leftovers(view: StudyView, directory: Path) -> Iterator[tuple[Path, str, int]]:
    for trial in view.trials:
        for path in leftovers(RecordPaths(directory / "trials" / trial.trial_id)):
            yield path, _LEFT, _size(path)


def _views(directory: Path) -> Iterator[tuple[Path, str, int]]:
    if (ray := directory / "ray").is_dir():
        yield ray, "folders of Ray Tune, which nothing reads", folder_bytes(ray)
    for path in directory.glob("optuna.journal*"):
        yield path, "views for optuna-dashboard, which are built again", _size(path)


def _size(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.lstat().st_size


def _remove(path: Path) -> None:
    with writing(path):
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif path.name.startswith("."):
            shutil.rmtree(path)
        else:
            remove_folder(path)
