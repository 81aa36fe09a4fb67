"""Everything that a configuration names, opened and checked before the first step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from crossover.trainers.config import TrialConfig
from crossover.trainers.data import Corpus, MixedCorpus, TrainingSubset, Windows, held_out_windows, open_corpus
from crossover.trainers.device import Runtime, resolve
from crossover.trainers.flops import evaluation_flops, training_flops_per_token
from crossover.trainers.identity import config_hash, trial_identity
from crossover.trainers.measures import Measures, open_measures
from crossover.trainers.model.shapes import ModelShape, shape_of
from crossover.trainers.objectives import Objective, build
from crossover.trainers.provenance import provenance
from crossover.trainers.record import WindowFacts
from crossover.trainers.routing_report import NUM_MASKS, probe_windows
from crossover.trainers.rows import TrialFacts
from crossover.trainers.schedule import branch_ends, evaluation_steps, num_training_steps
from crossover.trainers.shares import check_shares, micro_batches
from crossover.trainers.world import World

__all__ = ["TrialSetup", "open_setup", "window_facts"]


@dataclass(frozen=True)
class TrialSetup:
    """What a trial is made of; nothing in it changes while it runs."""

    config: TrialConfig
    runtime: Runtime
    corpus: Corpus | MixedCorpus
    subset: TrainingSubset
    validation: Windows
    test: Windows
    shape: ModelShape
    objective: Objective
    world: World = field(default_factory=World)
    measures: Measures = field(default_factory=Measures)

    @property
    def trial_id(self) -> str:
        """Identity of the trial."""
        return trial_identity(self.config, self.corpus.content_hash)

    @cached_property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return num_training_steps(self.config.schedule, self.subset.num_sequences)

    @cached_property
    def evaluation_steps(self) -> frozenset[int]:
        """Steps after which the run is evaluated, the last one among them."""
        steps_per_epoch = self.subset.num_sequences / self.config.schedule.batch_size
        return frozenset(evaluation_steps(self.config.evaluation, steps_per_epoch, self.num_steps))

    @cached_property
    def branch_ends(self) -> dict[int, int]:
        """Steps at which the run branches off to be annealed, each with the step at which its branch ends."""
        steps_per_epoch = self.subset.num_sequences / self.config.schedule.batch_size
        return branch_ends(self.config.annealing, steps_per_epoch, self.num_steps, self.evaluation_steps)

    @cached_property
    def micro_batches(self) -> tuple[slice, ...]:
        """This worker's rows of each global batch, one slice a forward pass."""
        share = self.world.rows(self.config.schedule.batch_size)
        return micro_batches(share, self.config.execution.micro_batch_size)

    @cached_property
    def train_flops_per_token(self) -> float:
        """Training FLOPs a token, counted exactly."""
        return training_flops_per_token(self.shape, self.objective, self.config.data.sequence_length)

    @cached_property
    def validation_flops(self) -> float:
        """FLOPs of one evaluation: the validation windows, what else is measured, and a look at routers."""
        shape, objective, windows = self.shape, self.objective, self.validation
        flops = evaluation_flops(shape, objective, windows.num_tokens_W, self.config.evaluation.masks_per_window)
        if shape.mixture is not None:
            flops += evaluation_flops(shape, objective, probe_windows(windows).num_tokens_W, NUM_MASKS)
        return flops + self.measures.flops(shape, objective)

    @cached_property
    def test_flops(self) -> float:
        """FLOPs of the test at the end."""
        masks = self.config.evaluation.test_masks_per_window
        return evaluation_flops(self.shape, self.objective, self.test.num_tokens_W, masks)

    def check_world(self) -> None:
        """Refuses a world that cannot share this run out.

        Raises:
            ConfigError: batch size, micro-batches, replicas or data do not fit the number of workers.
        """
        num_windows = min(self.validation.num, self.test.num)
        check_shares(self.config, self.world.size, self.subset.num_sequences, num_windows)

    def facts(self) -> TrialFacts:
        """What is known of the trial before it starts."""
        config, origin, manifest_hash = self.config, provenance(), self.corpus.content_hash
        return TrialFacts(
            trial_id=self.trial_id,
            config_hash=config_hash(config, manifest_hash),
            config=config.model_dump(mode="json"),
            objective=self.objective.name,
            is_bound=self.objective.is_bound,
            seed=config.seed,
            data_hash=manifest_hash,
            subset_hash=self.subset.tokens_hash,
            corpus=config.data.corpus,
            unique_tokens=self.subset.unique_tokens,
            num_params_total=self.shape.num_params_total,
            num_params_active=self.shape.num_params_active,
            num_params_with_embeddings=self.shape.num_params_with_embeddings,
            flops_per_token=self.train_flops_per_token,
            git_commit=origin.git_commit,
            packages=origin.packages,
            python=origin.python,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def open_setup(config: TrialConfig, world: World | None = None) -> TrialSetup:
    """Opens what `config` names.

    Args:
        config: the whole of the run.
        world: who trains it; None: this process alone.

    Raises:
        CrossoverError: the corpus, the subset, the model, the objective or the device is not to be had.
    """
    data, evaluation = config.data, config.evaluation
    corpus = open_corpus(data.corpus)
    vocabulary = corpus.vocabulary
    shape = shape_of(config.model, vocabulary.num_input_tokens, vocabulary.num_output_tokens)
    objective = build(config, vocabulary)
    num_tokens = config.schedule.epochs * data.unique_tokens
    train_flops = num_tokens * training_flops_per_token(shape, objective, data.sequence_length)
    subset = TrainingSubset(corpus, data.unique_tokens, data.sequence_length, data.seed, data.tier)
    return TrialSetup(
        config=config,
        runtime=resolve(config.execution, shape.num_params_active, train_flops),
        corpus=corpus,
        subset=subset,
        validation=held_out_windows(
            corpus, "validation", data.sequence_length, evaluation.validation_windows, evaluation.seed
        ),
        test=held_out_windows(corpus, "test", data.sequence_length, evaluation.test_windows, evaluation.seed),
        shape=shape,
        objective=objective,
        world=world or World(),
        measures=open_measures(config, corpus, subset),
    )


def window_facts(windows: Windows) -> WindowFacts:
    """What the record keeps of held-out windows."""
    return WindowFacts(windows.num_tokens_W, windows.num_bytes_W, windows.document_W)
