"""A study of any number of finished trials in the real format on the disk, written in seconds.

Every file is what the record's own writer would have written; losses of windows and tensors, which neither tables nor a
resume read, are left out.
"""

from __future__ import annotations

import datetime
import json
import math
import random
from pathlib import Path
from typing import Any

from crossover.platform.execution.decisions import AttemptStarted, LegEnded, LegStarted, Suggested
from crossover.platform.study import Study, study_of
from crossover.search_spaces import Stratum
from crossover.trainers.durable import Digest
from crossover.trainers.identity import config_hash, trial_identity
from crossover.trainers.record import Commit, RecordPaths, evaluations_to_bytes
from crossover.trainers.rows import Evaluation, TrialEnd, TrialFacts

__all__ = ["DATA_HASH", "make_study"]

DATA_HASH = "0" * 64
_CURVES = 64  # distinct ones; trials share them
_UNIQUE_TOKENS = 8192


def make_study(storage: Path, num_trials: int, num_rows: int, corpus: str, data_hash: str, **search: Any) -> Study:
    """Writes it, finished but for the line that says so; half of the trials in each of two strata.

    Args:
        storage: where studies are.
        num_trials: all of them ended.
        num_rows: evaluations of each.
        corpus: its name.
        data_hash: of the corpus.
        search: settings of `search` beside `trials`.
    """
    study = study_of(_document(corpus, num_trials // 2, search), "a benchmark's study")
    folder = storage / study.name
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(study.freeze(data_hash))
    curves = [_rows(number, num_rows) for number in range(min(_CURVES, num_trials))]
    contents = [evaluations_to_bytes(rows) for rows in curves]
    lines = [AttemptStarted(pid=1, host="h", versions={}, resumed=False).model_dump_json()]
    draw = random.Random(0)
    for number in range(num_trials // 2):
        for stratum in study.strata():
            settings = {"optimizer.learning_rate": 10 ** draw.uniform(-4, -2)}
            suggested = _suggested(study, stratum, settings, number, data_hash)
            at = draw.randrange(len(curves))
            _write_record(folder / "trials" / suggested.trial_id, study, suggested, curves[at], contents[at], data_hash)
            started = LegStarted(trial_id=suggested.trial_id, leg=1)
            ended = LegEnded(trial_id=suggested.trial_id, leg=1, status="ended")
            lines += [line.model_dump_json() for line in (suggested, started, ended)]
    (folder / "decisions").mkdir()
    (folder / "decisions" / "0001.jsonl").write_text("\n".join(lines) + "\n")
    return study


def _document(corpus: str, trials: int, search: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "made",
        "data": {"corpus": corpus, "unique_tokens": _UNIQUE_TOKENS, "sequence_length": 128},
        "fixed": {"model.size": "400k", "schedule.epochs": 200},
        "axes": {
            "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
            "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
        },
        "search": {"trials": trials, "scheduler": "none", **search},
    }


def _suggested(study: Study, stratum: Stratum, settings: dict[str, Any], number: int, data_hash: str) -> Suggested:
    config = study.trial_config(stratum, settings)
    return Suggested(
        trial_id=trial_identity(config, data_hash),
        number=number,
        stratum=dict(stratum.settings),
        stratum_label=stratum.label,
        settings=settings,
        repeat=0,
        config_hash=config_hash(config, data_hash),
        purpose="search",
    )


def _rows(seed: int, count: int) -> list[Evaluation]:
    """A curve that falls, and rises again at its end."""
    draw, best, rows = random.Random(seed), math.inf, []
    for number in range(1, count + 1):
        loss = 2.0 + 3.0 / number + 0.001 * max(0, number - 30) ** 2 + draw.gauss(0, 0.001)
        best = min(best, loss)
        tokens = _UNIQUE_TOKENS * number * 4
        rows.append(
            Evaluation(
                step=16 * number,
                epoch=4.0 * number,
                tokens_seen=tokens,
                unique_tokens=_UNIQUE_TOKENS,
                train_flops=3e6 * tokens,
                train_flops_6nd=3e6 * tokens,
                eval_flops=1e9 * number,
                wall_seconds=1.0 * number,
                eval_seconds=0.2 * number,
                train_loss=loss,
                val_loss=loss,
                val_loss_se=0.01,
                val_loss_se_mc=0.0,
                val_bits_per_byte=loss / math.log(2),
                val_bits_per_byte_se=0.01,
                rise_over_best=loss - best,
                rise_over_best_se=0.002,
                best_val_loss=best,
                raw_val_loss=None,
                learning_rate=1e-3,
                grad_norm=0.5,
                tokens_per_second=1e5,
                mfu=None,
                peak_memory_bytes=10**9,
                precision="float32",
                device="a processor",
            )
        )
    return rows


def _write_record(
    folder: Path, study: Study, line: Suggested, rows: list[Evaluation], content: bytes, data_hash: str
) -> None:
    paths, number = RecordPaths(folder), len(rows) - 1
    commit_folder = paths.commit(number)
    commit_folder.mkdir(parents=True)
    stratum = Stratum(line.stratum, line.stratum_label)
    facts = TrialFacts(
        trial_id=line.trial_id,
        config_hash=line.config_hash,
        config=study.trial_config(stratum, line.settings).model_dump(mode="json"),
        objective=str(line.stratum["objective.name"]),
        is_bound=line.stratum["objective.name"] == "masked_diffusion",
        seed=0,
        data_hash=data_hash,
        subset_hash="1" * 64,
        corpus=study.data.corpus,
        unique_tokens=_UNIQUE_TOKENS,
        num_params_total=467_000,
        num_params_active=442_000,
        num_params_with_embeddings=467_000,
        flops_per_token=3e6,
        git_commit="2" * 40,
        packages=dict.fromkeys(("torch", "numpy", "ray", "optuna", "pyarrow", "pydantic", "scipy"), "1.2.3"),
        python="3.11.0",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    paths.facts.write_text(facts.model_dump_json(indent=2))
    (commit_folder / "evaluations.arrow").write_bytes(content)
    digest = Digest(size=len(content), sha256=_sha256(content))
    other = Digest(size=1, sha256="3" * 64)
    needs = {f"windows/{row.step}.npy": other for row in rows} | {"best/16/weights.safetensors": other}
    files = {"evaluations.arrow": digest, "checkpoint/state.json": other, "checkpoint/model.safetensors": other}
    commit = Commit(number=number, files=files, needs=needs, best_step=16, has_checkpoint=True)
    (commit_folder / "COMMIT.json").write_bytes(commit.to_bytes())
    best = min(rows, key=lambda row: row.val_loss)
    end = TrialEnd(
        stop_reason="overfit",
        stop_evidence="+0.412 ± 0.010 nats over the best (epoch 120)",
        best_step=best.step,
        best_epoch=best.epoch,
        best_val_loss=best.val_loss,
        best_bits_per_byte=best.val_bits_per_byte,
        best_bits_per_byte_se=0.01,
        final_bits_per_byte=rows[-1].val_bits_per_byte,
        test_loss=best.val_loss,
        test_bits_per_byte=best.val_bits_per_byte,
        test_bits_per_byte_se=0.01,
        tokens_seen=rows[-1].tokens_seen,
        train_flops=rows[-1].train_flops,
        eval_flops=rows[-1].eval_flops,
        wall_seconds=rows[-1].wall_seconds,
    )
    paths.end.write_text(json.dumps(end.model_dump(), indent=2))


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()
