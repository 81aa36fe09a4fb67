"""What travels to the cluster: the study, the file that starts it there and, in development, the code.

It is a working folder of Ray's: every process of the job starts in its own copy. Code lies in it as a wheel unpacks, so
it goes before what the cluster has installed, nothing is installed there, and no package index is asked.
"""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from importlib.metadata import distribution, version
from pathlib import Path, PurePosixPath

from crossover.platform.cluster.jobs import start
from crossover.platform.study import Study
from crossover.platform.study.document import write_yaml
from crossover.trainers.data.python_stdlib import EMBEDDED
from crossover.trainers.errors import CrossoverError
from crossover.trainers.mixture import parse_mixture
from crossover.trainers.places import is_uri

__all__ = ["STUDY_FILE", "check_for_a_cluster", "code_here", "pack_study"]

STUDY_FILE = "study.yaml"
_PACKAGES = ("platform", "search_spaces", "trainers")
_WHOLE_WHEEL = ("crossover/platform/cli.py", "crossover/trainers/loop.py")


def check_for_a_cluster(study: Study) -> None:
    """Refuses what names a place of this machine: the cluster would look for it in the job's own folder.

    Raises:
        CrossoverError: the storage, a corpus, a file of tasks or an earlier study is a relative path.
    """
    if _is_relative(study.storage):
        raise CrossoverError(
            f"storage {study.storage} is a relative path, and what a job writes below its own folder on the cluster is "
            "lost with it: give --storage with an absolute path that all machines of the cluster share, or s3://bucket/folder"
        )
    for where, name in _files_named(study):
        if _is_relative(name):
            raise CrossoverError(
                f"{where} = {name} is a path of this machine, and the study alone travels to the cluster: copy it to "
                f"where all machines see it, and give its absolute path (--set {where}=/...)"
            )


def pack_study(study: Study, folder: Path, wheel: Path | None = None, *, code: Path | None = None) -> None:
    """Fills an empty folder with what the job needs.

    Args:
        study: it is written whole: the cluster needs neither overrides nor overlays.
        folder: of the job.
        wheel: whose code to send; None: none.
        code: a source tree (`code_here`) whose code to send instead.

    Raises:
        CrossoverError: the wheel is none of Crossover's, or is of another version.
    """
    (folder / STUDY_FILE).write_text(write_yaml(study.model_dump(mode="json", exclude_unset=True)))
    shutil.copyfile(start.__file__, folder / "start.py")
    if wheel is not None:
        _unpack(wheel, folder)
    elif code is not None:
        _copy_code(code, folder)


def code_here() -> Path | None:
    """The source tree of an editable install; None: this is none, and the cluster has the same release."""
    direct_url = distribution("crossover").read_text("direct_url.json")
    if direct_url is None or not json.loads(direct_url).get("dir_info", {}).get("editable"):
        return None
    return Path(next(iter(importlib.import_module("crossover.platform").__path__))).parent


def _is_relative(name: str) -> bool:
    return not (is_uri(name) or name.startswith("~") or PurePosixPath(name).is_absolute())


def _files_named(study: Study) -> set[tuple[str, str]]:
    found = set()
    if study.search.warm_start is not None:
        found.add(("search.warm_start", study.search.warm_start))
    for stratum in study.strata():
        settings = {**study.base, **stratum.settings}
        corpus, tasks = str(settings["data.corpus"]), settings.get("evaluation.tasks")
        names = [part.name for part in parse_mixture(corpus)] or [corpus]
        found |= {("data.corpus", name) for name in names if name not in EMBEDDED}
        if tasks is not None:
            found.add(("evaluation.tasks", str(tasks)))
    return found


def _unpack(wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as opened:
            names = opened.namelist()
            own = f"crossover-{version('crossover')}.dist-info/METADATA"
            if missing := [name for name in (*_WHOLE_WHEEL, own) if name not in names]:
                raise CrossoverError(
                    f"{wheel} is no wheel of Crossover {version('crossover')} (it lacks {missing[0]}): build one with "
                    "`pip wheel --no-deps .` in the tree that is installed here"
                )
            opened.extractall(folder)  # names that lead out of it are made harmless
    except (OSError, zipfile.BadZipFile) as error:
        raise CrossoverError(f"wheel {wheel} cannot be read: {error}") from None


def _copy_code(code: Path, folder: Path) -> None:
    """As the wheel of that tree would unpack."""
    for package in _PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(code / package, folder / "crossover" / package, ignore=ignored)
    information = folder / f"crossover-{version('crossover')}.dist-info"
    information.mkdir()
    own = distribution("crossover")  # in the tree itself its .egg-info is found, which has PKG-INFO
    (information / "METADATA").write_text(own.read_text("METADATA") or own.read_text("PKG-INFO") or "")
