"""A study's folder with a known truth, written through the formats that trials and the driver write.

AR falls fast and overfits; MDM falls slowly and passes it. The loss of a window is the curve of its trial, plus what is
hard about its document (common to all trials), plus what the trial finds hard about the document and the window.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossover.platform.execution.decisions import (
    AttemptStarted,
    DecisionLog,
    LegEnded,
    LegStarted,
    RungDecided,
    StudyFinished,
    Suggested,
    TrialDecided,
)
from crossover.platform.study import Study, study_of
from crossover.trainers.durable import digest_of
from crossover.trainers.identity import config_hash, trial_identity
from crossover.trainers.record import Commit, RecordPaths, evaluations_to_bytes
from crossover.trainers.rows import Evaluation, TrialEnd, TrialFacts

AR, MDM = "autoregressive", "masked_diffusion"
DATA_HASH = "d" * 64
U = 24_576
BYTES = 120
TOKENS = 121
Curve = Callable[[np.ndarray], np.ndarray]


def ar_shared(epochs: np.ndarray) -> np.ndarray:
    """Bits per byte: best 2.43 near epoch 20, then overfits."""
    return 2.0 + 2.6 / (1 + epochs) ** 0.75 + 0.16 * (epochs / 20) ** 1.2


def mdm_shared(epochs: np.ndarray) -> np.ndarray:
    """Bits per byte: slower, and passes."""
    return 1.9 + 2.7 / (1 + epochs) ** 0.35


def ar_tuned(epochs: np.ndarray) -> np.ndarray:
    return 1.9 + 2.6 / (1 + epochs) ** 0.6


def mdm_tuned(epochs: np.ndarray) -> np.ndarray:
    return 2.05 + 2.7 / (1 + epochs) ** 0.42


def true_crossing(first: Curve, second: Curve, until: float, *, envelope: bool = False) -> float | None:
    """Last epoch at which `second` goes below `first`, by brute force."""
    epochs = np.exp(np.linspace(0, np.log(until), 200_001))
    target = np.minimum.accumulate(first(epochs)) if envelope else first(epochs)
    above = np.flatnonzero(second(epochs) > target)
    if above[-1] == len(epochs) - 1:
        return None
    return float(epochs[above[-1] + 1])


def with_rungs(folder: Path) -> Path:
    """Adds to a written study what a driver would have logged of two rungs: of 24 configurations 8 and 4 go on."""
    trials: dict[str, list[str]] = {}
    (path,) = (folder / "decisions").iterdir()
    for line in map(json.loads, path.read_text().splitlines()):
        if line["kind"] == "suggested":
            trials.setdefault(line["stratum_label"], []).append(line["trial_id"])
    added: list[Any] = []
    for label, ids in trials.items():
        for rung, (came, kept) in enumerate(((len(ids), len(ids) // 3), (len(ids) // 3, len(ids) // 6))):
            added += [LegEnded(trial_id=t, leg=rung + 1, status="paused", value=4.0 - rung + 0.01 * place)
                      for place, t in enumerate(ids[:came])]  # fmt: skip
            decided = [TrialDecided(trial_id=t, rung=rung, action="promote" if place < kept else "stop",
                                    reason=f"place {place + 1} of {came}" + ": beyond the third" * (place >= kept))
                       for place, t in enumerate(ids[:came])]  # fmt: skip
            added.append(RungDecided(stratum_label=label, cohort=0, decisions=tuple(decided)))
    with path.open("a") as file:
        file.write("".join(line.model_dump_json() + "\n" for line in added))
    return folder


@dataclass
class SyntheticStudy:
    """What to write. Standard deviations are in bits per byte."""

    num_seeds: int = 3
    num_tuned: int = 3
    last_epoch: float = 200.0
    ratio: float = 1.25
    num_documents: int = 60
    windows_per_document: int = 4
    document_sd: float = 0.4
    trial_document_sd: float = 0.05
    window_sd: float = 0.1
    seed_sd: float = 0.01
    noise_seed: int = 0
    recipes: tuple[str, ...] = ("shared", "tuned")
    objectives: tuple[str, ...] = (AR, MDM)
    ar_stops: bool = True
    finished: bool = True
    test_scored: bool = True
    diverged_repeat: int | None = None
    description: str = "Where do the curves cross?"
    scheduler: str = "none"
    sizes: tuple[str, ...] = ("400k",)
    tasks: bool = False  # a gap that still grows while the loss rises
    curves: Mapping[tuple[str, str], Curve] = field(
        default_factory=lambda: {
            ("shared", AR): ar_shared,
            ("shared", MDM): mdm_shared,
            ("tuned", AR): ar_tuned,
            ("tuned", MDM): mdm_tuned,
        }
    )

    def study(self) -> Study:
        axes: dict[str, Any] = {
            "objective.name": {"choice": list(self.objectives), "role": "scientific"},
        }
        if "tuned" in self.recipes:
            axes["recipe"] = {"choice": list(self.recipes), "role": "scientific"}
            axes["optimizer.learning_rate"] = {
                "log_uniform": [1e-4, 1e-2],
                "role": "nuisance",
                "when": {"recipe": "tuned"},
            }
            axes["regularization.dropout"] = {
                "choice": [0.0, 0.1, 0.2],
                "role": "nuisance",
                "when": {"recipe": "tuned"},
            }
        size = {"model.size": self.sizes[0]} if len(self.sizes) == 1 else {}
        if not size:
            axes["model.size"] = {"choice": list(self.sizes), "role": "scientific"}
        document = {
            "name": "synthetic",
            "description": self.description,
            "data": {"corpus": "python-stdlib", "unique_tokens": U, "sequence_length": 128, "seed": 0},
            "fixed": {"schedule.epochs": self.last_epoch, "optimizer.name": "adamw"} | size,
            "axes": axes,
            "search": {
                "trials": self.num_tuned,
                "repeats": 1,
                "final_repeats": self.num_seeds,
                "scheduler": self.scheduler,
            },
        }
        if "tuned" not in self.recipes:
            document["search"] = {"repeats": self.num_seeds}
        return study_of(document, "study synthetic")

    def write(self, folder: Path) -> Path:
        """Write the folder and return it."""
        study = self.study()
        folder.mkdir(parents=True)
        (folder / "study.yaml").write_text(study.freeze(DATA_HASH))
        self._documents = self._hardness(np.random.default_rng(self.noise_seed))
        log = DecisionLog(folder)
        os.close(log._descriptor)
        lines: list[Any] = [AttemptStarted(pid=1, host="here", versions={}, resumed=False)]
        count = 0
        for stratum in study.strata():
            recipe, objective = stratum.settings.get("recipe", "shared"), stratum.settings["objective.name"]
            for number in range(self.num_tuned if recipe == "tuned" else 1):
                repeats = self.num_seeds if number == 0 else 1
                settings = (
                    {}
                    if recipe == "shared"
                    else {
                        "optimizer.learning_rate": 2.1e-3 * 0.88**number,
                        "regularization.dropout": 0.1 * (number % 3),
                    }
                )
                for repeat in range(repeats):
                    count += 1
                    lines += self._trial(folder, study, stratum, settings, number, repeat, str(recipe), str(objective))
        if self.finished:
            lines.append(StudyFinished(reason="nothing is left to run"))
        log.path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
        return folder

    def _hardness(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return {split: generator.normal(0, self.document_sd, self.num_documents) for split in ("validation", "test")}

    def _trial(self, folder: Path, study: Study, stratum: Any, settings: dict[str, Any], number: int, repeat: int,
               recipe: str, objective: str) -> list[Any]:  # fmt: skip
        config = study.trial_config(stratum, settings, repeat)
        trial_id, configuration = trial_identity(config, DATA_HASH), config_hash(config, DATA_HASH)
        made = Suggested(
            trial_id=trial_id, number=number, stratum=dict(stratum.settings), stratum_label=stratum.label,
            settings=settings, repeat=repeat, config_hash=configuration, purpose="search" if repeat == 0 else "confirm",
        )  # fmt: skip
        last_made = recipe == self.recipes[-1] and objective == self.objectives[-1] and number > 0
        if not self.finished and last_made:
            return [made]
        self._write_record(
            folder / "trials" / trial_id, config, trial_id, configuration, number, repeat, recipe, objective
        )
        return [made, LegStarted(trial_id=trial_id, leg=1), LegEnded(trial_id=trial_id, leg=1, status="ended")]

    def _write_record(self, root: Path, config: Any, trial_id: str, configuration: str, number: int, repeat: int,
                      recipe: str, objective: str) -> None:  # fmt: skip
        paths = RecordPaths(root)
        paths.windows.mkdir(parents=True)
        # Not hash(): it differs between processes.
        code = int(trial_id[:8], 16)
        generator = np.random.default_rng([self.noise_seed, code])
        epochs = self._epochs(recipe, objective)
        curve = self.curves[recipe, objective](epochs) + 0.03 * number + generator.normal(0, self.seed_sd)
        diverged = self.diverged_repeat == repeat and objective == MDM
        validation = self._windows("validation", generator, curve)
        document = np.repeat(np.arange(self.num_documents), self.windows_per_document)
        bits = validation.mean(axis=0)
        if diverged:
            bits[-2:] = np.nan
            validation[:, -2:] = np.nan
        rows = self._rows(epochs, bits, flops_per_token=6.5 * {"100k": 100_000, "400k": 400_000}[config.model.size])
        best = int(np.nanargmin(bits))
        test = self._windows("test", generator, curve[[best]])[:, 0]
        for row, bits_W in zip(rows, validation.T, strict=True):
            np.save(paths.window_nats(row.step), (bits_W * BYTES * np.log(2)).astype(np.float32))
        np.savez(paths.window_facts, **{
            f"{split}_{name}": values.astype(np.int64)
            for split in ("validation", "test")
            for name, values in (("num_tokens", np.full(len(document), TOKENS)),
                                 ("num_bytes", np.full(len(document), BYTES)), ("document", document))
        })  # fmt: skip
        num_params = {"100k": 100_000, "400k": 400_000}[config.model.size]
        facts = TrialFacts(
            trial_id=trial_id, config_hash=configuration, config=config.model_dump(mode="json"), objective=objective,
            is_bound=objective == MDM, seed=config.seed, data_hash=DATA_HASH, subset_hash=f"subset{config.data.seed}",
            corpus="python-stdlib", unique_tokens=U, num_params_total=500_000, num_params_active=num_params,
            num_params_with_embeddings=500_000, flops_per_token=2.6e6, git_commit="0" * 40,
            packages={"torch": "2.13.0"}, python="3.11.0", created="2025-01-01T00:00:00+00:00",
        )  # fmt: skip
        paths.facts.write_text(facts.model_dump_json())
        self._write_commit(paths, rows, best)
        reason = "diverged" if diverged else "overfit" if self._stops(recipe, objective) else "completed"
        scored = self.test_scored and not diverged
        if scored:
            np.save(paths.test_windows, (test * BYTES * np.log(2)).astype(np.float32))
        end = TrialEnd(
            stop_reason=reason, stop_evidence=f"{reason} after {epochs[-1]:.3g} epochs", best_step=rows[best].step,
            best_epoch=rows[best].epoch, best_val_loss=rows[best].val_loss, best_bits_per_byte=float(bits[best]),
            best_bits_per_byte_se=0.01, final_bits_per_byte=float(bits[-1]),
            test_loss=float(test.mean() * BYTES * np.log(2) / TOKENS) if scored else None,
            test_bits_per_byte=float(test.mean()) if scored else None, tokens_seen=rows[-1].tokens_seen,
            train_flops=rows[-1].train_flops, eval_flops=1e9, wall_seconds=100.0,
        )  # fmt: skip
        paths.end.write_text(end.model_dump_json())

    def _stops(self, recipe: str, objective: str) -> bool:
        return recipe == "shared" and objective == AR and self.ar_stops

    def _epochs(self, recipe: str, objective: str) -> np.ndarray:
        count = int(np.floor(np.log(self.last_epoch) / np.log(self.ratio) + 1e-9))
        epochs = np.append(self.ratio ** np.arange(count + 1), self.last_epoch)
        return epochs[epochs < 45] if self._stops(recipe, objective) else epochs

    def _windows(self, split: str, generator: np.random.Generator, curve: np.ndarray) -> np.ndarray:
        """Bits per byte, [W, E]: what a trial finds hard stays so over its life, as with real models."""
        per_document = self._documents[split] + generator.normal(0, self.trial_document_sd, self.num_documents)
        per_window = np.repeat(per_document, self.windows_per_document)
        per_window = per_window + generator.normal(0, self.window_sd, len(per_window))
        bits: np.ndarray = per_window[:, None] + curve[None, :]
        return bits

    def _rows(self, epochs: np.ndarray, bits: np.ndarray, flops_per_token: float) -> list[Evaluation]:
        scale = BYTES * np.log(2) / TOKENS
        rows, best = [], np.inf
        for epoch, value in zip(epochs, bits, strict=True):
            loss, tokens = value * scale, int(epoch * U)
            best = np.fmin(best, loss)
            rows.append(Evaluation(
                step=tokens // 2048, epoch=epoch, tokens_seen=tokens, unique_tokens=U,
                train_flops=flops_per_token * tokens,
                train_flops_6nd=2.4e6 * tokens, eval_flops=1e8, wall_seconds=epoch, eval_seconds=0.1,
                train_loss=None if epoch == 1.0 else 1.6 / epoch**0.2, val_loss=loss, val_loss_se=0.01,
                val_loss_se_mc=0.0, val_bits_per_byte=value, val_bits_per_byte_se=0.014,
                rise_over_best=loss - best, rise_over_best_se=0.002,
                best_val_loss=best, raw_val_loss=loss + 0.02, learning_rate=1e-3, grad_norm=1.0,
                tokens_per_second=15_000.0, mfu=None, peak_memory_bytes=10**9, precision="float32",
                device="a processor", task_gap=0.5 - 0.2 * value + 0.3 * np.log(epoch) if self.tasks else None,
            ))  # fmt: skip
        return rows

    def _write_commit(self, paths: RecordPaths, rows: list[Evaluation], best: int) -> None:
        folder = paths.commit(0)
        folder.mkdir(parents=True)
        (folder / "evaluations.arrow").write_bytes(evaluations_to_bytes(rows))
        files = {"evaluations.arrow": digest_of(folder / "evaluations.arrow")}
        commit = Commit(number=0, files=files, needs={}, best_step=rows[best].step, has_checkpoint=False)
        (folder / "COMMIT.json").write_bytes(commit.to_bytes())
