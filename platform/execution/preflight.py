"""What is checked before Ray starts: a study that cannot run is refused while nothing has been started or written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from crossover.platform.search.study_plan import first_settings
from crossover.platform.study import Study, read_frozen
from crossover.platform.study_model import ResourcesConfig
from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Corpus, held_out_windows, open_corpus
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.device import resolve
from crossover.trainers.durable import durable_file
from crossover.trainers.errors import CorpusError, CrossoverError
from crossover.trainers.model.shapes import shape_of

__all__ = ["StudyFolder", "check_data", "check_machine", "corpus_location", "study_folder"]

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study.

    Args:
        path: absolute.
        is_new: it holds no frozen study yet.
    """

    path: Path
    is_new: bool

    def freeze(self, study: Study, data_hash: str) -> None:
        """Writes the study there: once, and again where what it may change has changed (budget, resources)."""
        durable_file(self.path / "study.yaml", study.freeze(data_hash).encode())

    def check_same(self, study: Study, data_hash: str) -> None:
        """Refuses to go on with other questions, or on other text.

        Raises:
            CrossoverError: every difference, and what to do.
        """
        if self.is_new:
            if any((self.path / "decisions").glob("*.jsonl")):
                raise CrossoverError(
                    f"{self.path} holds trials of a study whose study.yaml is gone, so nobody can say whether they are "
                    "yours: restore it from a copy, or give this study another name or another --storage"
                )
            return
        frozen = read_frozen(self.path)
        found = frozen.differences(study)
        if frozen.data_hash != data_hash:
            found.append(f"data: the corpus {study.data.corpus} has another content (its manifest hash differs)")
        if found:
            raise CrossoverError(
                f"{self.path} holds a study that asks something else, and its trials cannot be mixed with yours:\n"
                + "\n".join(f"  {difference}" for difference in found)
                + "\nGive this study another name or another --storage, or set back what differs"
            )


def study_folder(study: Study, storage: Path | None) -> StudyFolder:
    """The folder of a study, made if need be, and tried for writing.

    Raises:
        CrossoverError: it cannot be made or written.
    """
    path = ((storage or Path(study.storage)).expanduser() / study.name).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".tmp-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CrossoverError(
            f"the study cannot be written in {path}: {error.strerror}. Give another folder with --storage"
        ) from None
    return StudyFolder(path, not (path / "study.yaml").exists())


def check_data(study: Study) -> Corpus:
    """The corpus, opened, and large enough for every stratum.

    Raises:
        CorpusError: it is missing or damaged, or has fewer tokens or held-out windows than the study asks for.
    """
    corpus = open_corpus(study.data.corpus)
    training = corpus.manifest.splits["training"]
    available = training.num_tokens + training.num_pieces
    for stratum in study.strata():
        wanted = stratum.settings.get("data.unique_tokens", study.data.unique_tokens)
        if isinstance(wanted, int) and wanted > available:
            raise CorpusError(
                f"data.unique_tokens = {wanted:,} in stratum {stratum.label}, but corpus {study.data.corpus} has "
                f"{available:,} training tokens (separators counted): set it to that or less, or give more text"
            )
    _check_windows(corpus, study)
    return corpus


def check_machine(study: Study) -> None:
    """Refuses what this machine lacks, for a study that runs on it alone; a cluster says for itself what it lacks.

    Raises:
        CrossoverError: CUDA or bfloat16 is asked for, or more processors or GPUs a trial, than there are, or the model
            cannot fit in the memory of the GPUs.
    """
    wanted, num_cpus, num_gpus = study.resources, os.cpu_count() or 1, torch.cuda.device_count()
    workers = wanted.workers.min
    if workers * wanted.cpus_per_worker > num_cpus or workers * wanted.gpus_per_worker > num_gpus:
        several = f"resources.workers = {workers}, " if workers > 1 else ""
        raise CrossoverError(
            f"{several}resources.cpus_per_worker = {wanted.cpus_per_worker} and resources.gpus_per_worker = "
            f"{wanted.gpus_per_worker:g}, but this machine has {num_cpus} CPUs and {num_gpus} GPUs: lower these "
            "settings, or set RAY_ADDRESS to a cluster that has more"
        )
    for stratum in study.strata():
        config = study.trial_config(stratum, first_settings(study, stratum))
        if wanted.gpus_per_worker:
            _check_gpu_memory(config, wanted, stratum.label)
        elif not num_gpus:  # what a GPU can do is asked by the worker that gets it
            resolve(config.execution, num_params=0)


def _check_gpu_memory(config: TrialConfig, resources: ResourcesConfig, stratum: str) -> None:
    """What is surely held for each parameter: weight, gradient, moments and average, shared by the workers' shards."""
    shape = shape_of(config.model, BYTES.num_input_tokens, BYTES.num_output_tokens)
    values = 3 + (config.optimizer.name == "adamw") + (config.averaging.horizon_fraction > 0)
    shards = resources.workers.max // config.execution.replicas
    needed = shape.num_params_with_embeddings * values * _FLOAT32_BYTES / shards
    memory = min(torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count()))
    if needed > memory * resources.gpus_per_worker:
        raise CrossoverError(
            f"weights, gradients, optimizer and averages take {needed / 1e9:.1f} GB a worker in stratum {stratum}, but "
            f"a worker has {memory * resources.gpus_per_worker / 1e9:.1f} GB of GPU memory (resources.gpus_per_worker "
            f"= {resources.gpus_per_worker:g}): set more resources.workers, or make the model smaller"
        )


def _check_windows(corpus: Corpus, study: Study) -> None:
    stratum = study.strata()[0]  # trials of one study are scored alike
    config = study.trial_config(stratum, first_settings(study, stratum))
    evaluation, length = config.evaluation, config.data.sequence_length
    held_out_windows(corpus, "validation", length, evaluation.validation_windows, evaluation.seed)
    held_out_windows(corpus, "test", length, evaluation.test_windows, evaluation.seed)


def corpus_location(corpus: Corpus) -> str:
    """Where a worker finds the corpus, whatever its working folder: its name if it is embedded, else its folder."""
    return str(corpus.folder.absolute()) if Path(corpus.name) == corpus.folder else corpus.name
