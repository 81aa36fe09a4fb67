"""What is checked before Ray starts: a study that cannot run is refused while nothing has been started or written."""

from __future__ import annotations

import os

import torch

from crossover.platform.execution.gpus import gpu_bytes_here
from crossover.platform.execution.study_workers import workers_of_study
from crossover.platform.execution.workers import Room
from crossover.platform.search.study_plan import first_settings
from crossover.platform.study import Study
from crossover.platform.study.model import ResourcesConfig
from crossover.trainers.data import Corpus, MixedCorpus, check_budget, held_out_windows, open_corpus
from crossover.trainers.device import resolve
from crossover.trainers.errors import CrossoverError

__all__ = ["check_data", "check_machine", "room_here"]


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
