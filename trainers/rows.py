"""What a trial writes down: one row an evaluation, its facts at the start, its end.

These names are the columns of the tables `evaluations` and `trials`; notebooks rely on them. A missing value is None,
never 0.0. Losses are nats per token of the averaged weights unless the name says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SCHEMA_VERSION", "Evaluation", "StopReason", "TrialEnd", "TrialFacts"]

SCHEMA_VERSION = 1

StopReason = Literal["completed", "overfit", "plateau", "diverged", "pruned", "budget", "failed", "interrupted"]


class Row(BaseModel):
    """A frozen row; a non-finite loss is kept as it is, so that a divergence can be seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Evaluation(Row):
    """Where a trial stood at one point of its life."""

    step: int = Field(description="Optimizer steps done.")
    epoch: float = Field(description="tokens_seen / unique_tokens.")
    tokens_seen: int = Field(description="Training tokens seen, repeats counted.")
    unique_tokens: int = Field(description="Unique tokens U of the training subset.")
    train_flops: float = Field(description="FLOPs of training so far, counted exactly, branches among them.")
    train_flops_6nd: float = Field(description="6 N D: N active parameters in matrix products, D tokens seen.")
    eval_flops: float = Field(description="FLOPs of evaluation so far.")
    wall_seconds: float = Field(description="Seconds of work so far, all legs, start-up excluded.")
    eval_seconds: float = Field(description="Seconds of evaluation so far.")
    train_loss: float | None = Field(description="Mean training loss since the last evaluation, nats per token.")
    val_loss: float = Field(description="NLL or ELBO of the validation windows, nats per token: the decision metric.")
    val_loss_se: float = Field(description="Its standard error: windows and masks, clustered by document.")
    val_loss_se_mc: float = Field(description="Monte-Carlo error on these windows alone; 0 for an exact likelihood.")
    val_bits_per_byte: float = Field(description="val_loss as bits per byte of text.")
    val_bits_per_byte_se: float = Field(description="Its standard error.")
    rise_over_best: float = Field(description="val_loss less the best so far, paired over windows; 0 for a new best.")
    rise_over_best_se: float = Field(description="Paired standard error of the rise, clustered by document.")
    best_val_loss: float = Field(description="Best val_loss so far, this one included.")
    raw_val_loss: float | None = Field(description="val_loss of the weights that are not averaged, same windows.")
    learning_rate: float = Field(description="Learning rate of the last step.")
    grad_norm: float | None = Field(description="Norm of the last gradient before clipping.")
    tokens_per_second: float | None = Field(description="Training tokens a second since the last evaluation.")
    mfu: float | None = Field(description="Model FLOPs utilization; None where the peak is not known.")
    peak_memory_bytes: int = Field(description="Peak memory: resident set of the process, or of the GPU's allocator.")
    router_max_load: float | None = Field(
        default=None, description="Mixtures: choices of the busiest expert over the mean, layers averaged; 1: balanced."
    )
    router_entropy: float | None = Field(default=None, description="Mixtures: nats of a token's scores over experts.")
    router_agreement: float | None = Field(
        default=None, description="Mixtures: share of tokens whose first expert is that of the evaluation before."
    )
    task_accuracy: float | None = Field(default=None, description="Share of the tasks' questions that are answered.")
    task_accuracy_norm: float | None = Field(default=None, description="The same by likelihood a byte of an ending.")
    task_gap: float | None = Field(
        default=None, description="Mean of log p(right) - log p(best wrong option), nats a question."
    )
    task_gap_se: float | None = Field(default=None, description="Its standard error over questions.")
    task_gap_se_mc: float | None = Field(default=None, description="What of it is Monte Carlo; 0 where exact.")
    task_gap_fall: float | None = Field(default=None, description="Best task_gap before, less this; 0 for a new best.")
    task_gap_fall_se: float | None = Field(default=None, description="Standard error of the fall, paired by question.")
    task_scores: str | None = Field(default=None, description="Every task by itself, as JSON.")
    memorization_auc: float | None = Field(
        default=None, description="Chance that a training sequence costs less than a held-out one; 0.5 says nothing."
    )
    memorization_auc_se: float | None = Field(default=None, description="Its standard error.")
    reproduced_fraction: float | None = Field(
        default=None, description="Share of training sequences whose last 16 tokens greedy generation gives back."
    )
    reproduced_held_out_fraction: float | None = Field(
        default=None, description="The same of held-out sequences: what needs no memory."
    )
    decision_metric: str = Field(default="val_loss", description="What chooses the best evaluation.")
    branch: Literal["stable", "annealed"] = Field(default="stable", description="Main run or annealed branch.")
    decides: bool = Field(default=True, description="Whether decisions are taken on rows of this branch.")
    branch_flops: float = Field(default=0.0, description="FLOPs of training on earlier branches; in train_flops too.")
    precision: str = Field(description="Precision that was resolved: float32 or bfloat16.")
    device: str = Field(description="Device, in words.")
    world_size: int = Field(default=1, description="Workers.")
    corpus_epochs: str | None = Field(
        default=None, description="Epochs of each corpus of a mixture, as JSON; None where there is one corpus."
    )

    @property
    def decision_loss(self) -> float:
        """What the best evaluation of a trial has the least of: val_loss, or the gap of the tasks turned round."""
        return self._by_metric(self.val_loss)

    @property
    def decision_value(self) -> float:
        """The same for comparing trials: bits per byte in the place of the loss."""
        return self._by_metric(self.val_bits_per_byte)

    def _by_metric(self, loss: float) -> float:
        if self.decision_metric != "task_gap" or self.task_gap is None:
            return loss
        return -self.task_gap


class TrialFacts(Row):
    """What is known of a trial when it starts: written once, as trial.json."""

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    config_hash: str
    config: dict[str, Any] = Field(description="The whole TrialConfig.")
    objective: str
    is_bound: bool = Field(description="True: losses are an ELBO (upper bound on the NLL); False: exact.")
    seed: int
    data_hash: str = Field(description="Hash of the corpus manifest.")
    subset_hash: str = Field(description="Hash of the training subset's tokens.")
    corpus: str
    unique_tokens: int
    num_params_total: int
    num_params_active: int = Field(description="In matrix products: output head in, input table out.")
    num_params_with_embeddings: int
    flops_per_token: float = Field(description="Training FLOPs a token, counted exactly.")
    git_commit: str | None
    packages: dict[str, str]
    python: str
    created: str = Field(description="UTC time, ISO 8601.")


class TrialEnd(Row):
    """How a trial ended: written once, as end.json."""

    stop_reason: StopReason
    stop_evidence: str = Field(description="The reason in one sentence, with its numbers.")
    best_step: int | None = None
    best_epoch: float | None = None
    best_val_loss: float | None = None
    best_bits_per_byte: float | None = None
    best_bits_per_byte_se: float | None = None
    final_bits_per_byte: float | None = None
    test_loss: float | None = Field(default=None, description="Nats per token on test at the best checkpoint.")
    test_loss_se: float | None = None
    test_loss_se_mc: float | None = None
    test_bits_per_byte: float | None = None
    test_bits_per_byte_se: float | None = None
    tokens_seen: int = 0
    train_flops: float = 0.0
    eval_flops: float = 0.0
    wall_seconds: float = 0.0
    eval_seconds: float | None = Field(default=None, description="Of them in evaluation, the test included.")
