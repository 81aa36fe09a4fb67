"""What is checked before Ray starts: a study that cannot run is refused while nothing has been started or written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from crossover.platform.execution.decisions import DecisionLog
from crossover.platform.execution.gpus import gpu_bytes_here
from crossover.platform.execution.lock import StudyLock
from crossover.platform.execution.study_workers import workers_of_study
from crossover.platform.execution.workers import Room
from crossover.platform.search.study_plan import first_settings
from crossover.platform.storage.lease import StudyLease
from crossover.platform.storage.remote_study import DecisionParts, RemoteStudy, copy_folder
from crossover.platform.study import Study, read_frozen
from crossover.platform.study.model import ResourcesConfig
from crossover.trainers.data import Corpus, MixedCorpus, check_budget, held_out_windows, open_corpus
from crossover.trainers.data.locations import is_uri
from crossover.trainers.device import resolve
from crossover.trainers.durable import durable_file
from crossover.trainers.errors import CrossoverError
from crossover.trainers.storage import ObjectStore, joined, storage_mistake

__all__ = ["StudyFolder", "check_data", "check_machine", "room_here", "study_folder"]


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
    uri = joined(where, study.name)
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


def check_data(study: Study) -> Corpus | MixedCorpus:
    """The corpus, opened, and large enough for every stratum.

    Raises:
        CorpusError: it is missing or damaged, or has fewer tokens or held-out windows than the study asks for.
    """
    corpus = open_corpus(study.data.corpus)
    for stratum in study.strata():
        unique = stratum.settings.get("data.unique_tokens", study.data.unique_tokens)
        tier = stratum.settings.get("data.tier", study.data.tier)
        if isinstance(unique, int):
            check_budget(corpus, unique, None if tier is None else str(tier), f" in stratum {stratum.label},")
    _check_windows(corpus, study)
    return corpus


def check_machine(study: Study) -> None:
    """Refuses what this machine lacks, for a study that runs on it alone; a cluster says for itself what it lacks.

    Raises:
        CrossoverError: CUDA or bfloat16 is asked for, or more processors or GPUs a trial, than there are, or a trial
            cannot fit in the memory of the GPUs.
    """
    wanted, num_cpus, num_gpus = study.resources, os.cpu_count() or 1, torch.cuda.device_count()
    workers = 1 if wanted.given_workers is None else wanted.given_workers.min
    if workers * wanted.cpus_per_worker > num_cpus or workers * wanted.gpus_per_worker > num_gpus:
        several = f"resources.workers = {workers}, " if workers > 1 else ""
        raise CrossoverError(
            f"{several}resources.cpus_per_worker = {wanted.cpus_per_worker} and resources.gpus_per_worker = "
            f"{wanted.gpus_per_worker:g}, but this machine has {num_cpus} CPUs and {num_gpus} GPUs: lower these "
            "settings, or set RAY_ADDRESS to a cluster that has more"
        )
    if wanted.gpus_per_worker:
        workers_of_study(study, room_here(wanted))
    elif not num_gpus:  # what a GPU can do is asked by the worker that gets it
        for stratum in study.strata():
            resolve(study.trial_config(stratum, first_settings(study, stratum)).execution, num_params=0)


def room_here(resources: ResourcesConfig) -> Room:
    """What this machine has for the workers of one trial."""
    num_workers = (os.cpu_count() or 1) // resources.cpus_per_worker
    if not resources.gpus_per_worker:
        return Room(num_workers)
    num_gpus = torch.cuda.device_count()
    return Room(min(num_workers, int(num_gpus / resources.gpus_per_worker)), gpu_bytes_here())


def _check_windows(corpus: Corpus | MixedCorpus, study: Study) -> None:
    stratum = study.strata()[0]  # trials of one study are scored alike
    config = study.trial_config(stratum, first_settings(study, stratum))
    evaluation, length = config.evaluation, config.data.sequence_length
    held_out_windows(corpus, "validation", length, evaluation.validation_windows, evaluation.seed)
    held_out_windows(corpus, "test", length, evaluation.test_windows, evaluation.seed)
