"""`TrialConfig`: the whole of one run. Two of its sections have files of their own: `model_config.py` and
`optimizer_config.py`. What of it makes the run's identity is in `identity.py`: a new setting that changes the
mathematics is entered there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from crossover.trainers.errors import ConfigError
from crossover.trainers.mixture import mixture_text
from crossover.trainers.model_config import ModelConfig
from crossover.trainers.optimizer_config import OptimizerConfig
from crossover.trainers.section import Section

__all__ = [
    "AnnealingConfig",
    "AveragingConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "ExecutionConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RegularizationConfig",
    "ScheduleConfig",
    "StoppingConfig",
    "TrialConfig",
    "config_from_dotted",
    "describe_validation_error",
]


class DataConfig(Section):
    """What is trained on."""

    corpus: Annotated[str, BeforeValidator(mixture_text, json_schema_input_type=str | dict[str, dict[str, float]])] = (
        Field(
            description="Name of an embedded corpus (python-stdlib), folder or URI of a prepared corpus, or a mixture: "
            "corpus -> {weight: share of the tokens read, repeats: times a pass reads it}."
        )
    )
    tier: str | None = Field(
        default=None, description="Tier of quality of the training text, as low; null: all of it. Held-out text is all."
    )
    unique_tokens: int = Field(gt=0, description="Unique tokens U of the training subset.")
    sequence_length: int = Field(default=128, ge=2, description="Tokens a sequence, L.")
    seed: int = Field(default=0, ge=0, description="Seed of the permutation of pieces, and so of the subset.")

    @model_validator(mode="after")
    def _a_sequence_fits(self) -> Self:
        if self.sequence_length > self.unique_tokens:
            raise ValueError(
                f"data.sequence_length = {self.sequence_length} is more than data.unique_tokens = "
                f"{self.unique_tokens}, so every sequence would be padding for the most part: set it to that or less"
            )
        return self


class ObjectiveConfig(Section):
    """What is learned."""

    name: str = Field(description="A registered objective: autoregressive, masked_diffusion or block_diffusion.")
    noise_schedule: Literal["linear", "cosine", "polynomial"] = Field(
        default="linear",
        description="Diffusion: share masked at time t: t, cos(pi/2 (1 - t)), or t to the power of noise_power. The "
        "bound is the same, its variance is not.",
    )
    noise_power: float = Field(default=2.0, gt=0, le=16, description="noise_schedule: polynomial: its power.")
    loss_weight: Literal["elbo", "uniform"] = Field(
        default="elbo",
        description="Diffusion, in training only: the weights of the bound, or one weight for every masked token.",
    )
    time_sampling: Literal["stratified", "iid", "antithetic"] = Field(
        default="stratified",
        description="Diffusion: times of a step: one in each of as many strata as there are, each by itself, or in "
        "pairs t and 1 - t.",
    )
    at_least_one_mask: bool = Field(
        default=False, description="Diffusion, in training only: where no token of a sequence was masked, one is."
    )
    mask_fraction: Literal["nominal", "realised"] = Field(
        default="nominal",
        description="Diffusion, in training only: weights divide by the share that was to be masked, or that was.",
    )
    block_length: int = Field(default=16, gt=0, description="block_diffusion: tokens that are denoised together.")


class ScheduleConfig(Section):
    """How long, in which steps and at which rates."""

    epochs: float = Field(gt=0, le=1e6, description="Passes over the unique tokens; may be fractional.")
    batch_size: int = Field(default=16, gt=0, description="Sequences an optimizer step, over all workers.")
    name: Literal["constant", "cosine", "wsd"] = Field(default="constant", description="Shape after the warm-up.")
    warmup_steps: int = Field(default=50, ge=0, description="Steps of linear warm-up.")
    decay_fraction: float = Field(default=0.2, gt=0, le=1, description="wsd: share of the steps that decay.")
    final_fraction: float = Field(default=0.1, ge=0, le=1, description="cosine, wsd: last rate over peak rate.")


class RegularizationConfig(Section):
    """What keeps a model from learning the training set by heart."""

    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of what each block adds to the residual.")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of attention weights.")
    mlp_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of the MLP's hidden units.")
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of the embedded input.")
    expert_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Mixtures: chance that a token cannot choose an expert; as many as it needs are left.",
    )
    mlp_output_mask: float = Field(
        default=0.0, ge=0, lt=1, description="Share of tokens that get nothing from an MLP or mixture in training."
    )
    expert_output_mask: float = Field(
        default=0.0, ge=0, lt=1, description="Mixtures: share of a token's chosen experts that give it nothing."
    )
    stochastic_depth: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of sequences that skip the last block in training; of earlier ones linearly less "
        "(arXiv 1603.09382).",
    )
    input_noise: float = Field(
        default=0.0, ge=0, lt=1, description="autoregressive: share of input tokens replaced in training."
    )
    input_noise_kind: Literal["mask", "random"] = Field(
        default="mask", description="autoregressive: replaced by the mask token, or by a random one."
    )
    input_noise_rate: Literal["fixed", "uniform"] = Field(
        default="fixed",
        description="autoregressive: input_noise for every sequence, or for each its own, uniform from 0 to it.",
    )
    masked_input_loss: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="autoregressive: weight of the loss of a second pass whose input is masked (MIR, 2606.06888: 0.4).",
    )
    masked_input_ratio: float = Field(
        default=0.5, gt=0, lt=1, description="masked_input_loss: each sequence masks a share uniform from 0 to this."
    )


class AnnealingConfig(Section):
    """Branches on which the learning rate falls to its end while the run goes on: a curve of endpoints of one run."""

    first_epoch: float | None = Field(
        default=None, ge=1e-6, le=1e6, description="Epochs to the first branch; null: there are none."
    )
    ratio: float = Field(default=2.0, ge=1.001, le=1e6, description="Ratio of the epochs of two branches in a row.")
    fraction: float = Field(
        default=0.1, gt=0, le=1, description="Length of a branch over the tokens that the run had seen before it."
    )
    final_fraction: float = Field(default=0.0, ge=0, lt=1, description="Last rate of a branch over its first.")
    decides: bool = Field(
        default=False,
        description="Decisions (best, stopping, search, test) are taken on the annealed branches, not on the averaged "
        "weights of the run.",
    )


class AveragingConfig(Section):
    """Averaged weights, on which every decision is taken."""

    horizon_fraction: float = Field(
        default=0.1, ge=0, lt=0.5, description="Mean age of the averaged weights over tokens seen; 0 is off."
    )


class EvaluationConfig(Section):
    """What is measured, and when."""

    first_epoch: float = Field(default=1.0, ge=1e-6, le=1e6, description="Epochs to the first evaluation.")
    ratio: float = Field(default=1.25, ge=1.001, le=1e6, description="Ratio of the epochs of two evaluations in a row.")
    validation_windows: int = Field(default=256, ge=2, description="Windows scored at each evaluation.")
    test_windows: int = Field(default=1024, ge=2, description="Windows scored once, at the chosen checkpoint.")
    masks_per_window: int = Field(default=2, ge=2, description="Monte-Carlo masks a validation window, for bounds.")
    test_masks_per_window: int = Field(default=4, ge=2, description="Monte-Carlo masks a test window, for bounds.")
    seed: int = Field(default=0, ge=0, description="Seed of windows and masks: common to all trials compared.")
    tasks: str | None = Field(
        default=None,
        description="Files of multiple-choice questions that are asked at each evaluation, with commas between; null: "
        "none.",
    )
    task_masks: int = Field(default=8, ge=2, description="Monte-Carlo masks an option of several tokens, for bounds.")
    decision_metric: Literal["val_loss", "task_gap"] = Field(
        default="val_loss",
        description="What chooses the best evaluation: the validation loss, or the gap between the right and the best "
        "wrong option of the tasks.",
    )
    memorization_pieces: int = Field(
        default=0, ge=0, description="Training and held-out sequences that memorization is measured on; 0: off."
    )

    @property
    def task_paths(self) -> tuple[str, ...]:
        """The files of `tasks`."""
        return tuple(path.strip() for path in (self.tasks or "").split(",") if path.strip())


class StoppingConfig(Section):
    """When a run ends before its epochs are over: one rule for every objective."""

    rule: Literal["overfit", "task_gap", "none"] = Field(
        default="overfit",
        description="overfit: the validation loss has risen; task_gap: the gap of the tasks has fallen; or none.",
    )
    patience: int = Field(default=3, ge=1, description="Evaluations in a row that must agree.")
    min_rise: float = Field(
        default=0.01,
        ge=0,
        description="Smallest rise over the best that counts, nats a token; for task_gap a fall, nats a question.",
    )
    z: float = Field(
        default=2.0,
        ge=0,
        description="Paired standard errors that a rise must exceed, beyond what the choice of the best explains.",
    )
    plateau_evaluations: int | None = Field(
        default=None, ge=2, description="Evaluations without a new best after which it ends as a plateau; null: off."
    )


class CheckpointConfig(Section):
    """How much a fault can cost."""

    interval_seconds: float = Field(default=300.0, gt=0, description="Longest time between two checkpoints.")
    min_interval_seconds: float = Field(
        default=5.0, ge=0, description="Shortest time between two checkpoints; what is evaluated meanwhile waits."
    )
    poll_seconds: float = Field(default=10.0, gt=0, description="Longest time before a request to stop is heard.")


class ExecutionConfig(Section):
    """How it is computed. Nothing here changes the mathematics."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where it runs.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 autocast where the processor has it and it is faster."
    )
    threads: int | None = Field(default=None, gt=0, description="Processor threads; null: what the worker was given.")
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile of each block; auto: where the run is long enough to repay it."
    )
    activation_checkpointing: Literal["none", "selective", "full"] = Field(
        default="none",
        description="What is computed again in the backward pass to save memory: nothing, all but matrix products and "
        "attention, or whole blocks.",
    )
    micro_batch_size: int | None = Field(
        default=None,
        gt=0,
        description="Sequences a worker and forward pass; a step accumulates gradients over them. null: all at once.",
    )
    replicas: int = Field(
        default=1, gt=0, description="Copies of the model, each sharded over workers / replicas of the workers."
    )


class TrialConfig(Section):
    """One training run of one configuration with one seed."""

    data: DataConfig
    model: ModelConfig
    objective: ObjectiveConfig
    schedule: ScheduleConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    averaging: AveragingConfig = AveragingConfig()
    annealing: AnnealingConfig = AnnealingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    stopping: StoppingConfig = StoppingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    execution: ExecutionConfig = ExecutionConfig()
    seed: int = Field(default=0, ge=0, description="Seed of initial weights, order, masks and dropout.")

    @model_validator(mode="after")
    def _branches_fit_the_run(self) -> Self:
        first, schedule = self.annealing.first_epoch, self.schedule
        if first is None:
            return self
        if schedule.name != "constant":
            raise ValueError(
                f"annealing.first_epoch = {first:g} anneals branches of a run whose rate stays, and schedule.name is "
                f"{schedule.name}, whose rate falls by itself: set schedule.name to constant"
            )
        if first > schedule.epochs:
            raise ValueError(
                f"annealing.first_epoch = {first:g} is after the end of the run at schedule.epochs = "
                f"{schedule.epochs:g}: set it to that or less"
            )
        return self

    @model_validator(mode="after")
    def _nothing_set_is_ignored(self) -> Self:
        for name in ("input_noise", "masked_input_loss"):
            value = getattr(self.regularization, name)
            if value > 0 and self.objective.name != "autoregressive":
                raise ValueError(
                    f"regularization.{name} = {value} is for the autoregressive objective only, and objective.name is "
                    f"{self.objective.name}: set it to 0, or give its axis `when: {{objective.name: autoregressive}}`"
                )
        for name in ("expert_dropout", "expert_output_mask"):
            value = getattr(self.regularization, name)
            if value > 0 and not (self.model.is_mixture and self.model.dense_control == "none"):
                raise ValueError(
                    f"regularization.{name} = {value} is for mixtures of experts, and this model is dense: set it to "
                    "0, or give its axis a `when` that names the mixtures"
                )
        return self


def describe_validation_error(error: ValidationError) -> str:
    """Every mistake in one clause each: the path, the rule and the value, or the nearest name of a TrialConfig."""
    clauses = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        shown = "" if item["type"] in ("missing", "value_error") else f" (got {item['input']!r})"
        if item["type"] == "int_parsing":
            message = "Input should be a valid integer, written without a unit"
        if item["type"] == "extra_forbidden":
            message, shown = _unknown_name(item["loc"]), ""
        clauses.append(f"{path}: {message}{shown}" if path else f"{message}{shown}")
    return "; ".join(clauses)


def _unknown_name(path: tuple[int | str, ...]) -> str:
    *groups, name = (str(part) for part in path)
    section: Any = TrialConfig
    for group in groups:
        field = getattr(section, "model_fields", {}).get(group)
        section = None if field is None else field.annotation
    known = list(getattr(section, "model_fields", {}))
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"; did you mean {near[0]}?" if near else f": it is none of {', '.join(known)}" if known else ""
    return f"there is no such name{remedy}"


def config_from_dotted(settings: Mapping[str, Any]) -> TrialConfig:
    """A configuration from dotted paths, as studies write them.

    Raises:
        ConfigError: a path or a value is wrong; the message names each.
    """
    content: dict[str, Any] = {}
    for path, value in settings.items():
        *groups, name = path.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    try:
        return TrialConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(describe_validation_error(error)) from None
