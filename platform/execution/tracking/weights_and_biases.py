"""Weights & Biases: one run a trial, grouped by study, and one for the study with its report as an artifact.

A run's id is made of the study's key and the trial's identity, so a trial that goes on, goes on in its run. Steps are
optimizer steps; curves are drawn against `tokens_seen`.
"""

from __future__ import annotations

import importlib
import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from crossover.platform.execution.tracking.base import TrackedTrial, Tracker
from crossover.trainers.errors import CrossoverError
from crossover.trainers.rows import Evaluation, TrialEnd

__all__ = ["WeightsAndBiases", "check_wandb"]

_CURVES_AGAINST = "tokens_seen"
_SITE = "https://api.wandb.ai"


def check_wandb(mode: Literal["disabled", "offline", "online"]) -> None:
    """Whether W&B can be told, before anything starts.

    Raises:
        CrossoverError: it is not installed, or there is no key for `online`.
    """
    if mode == "disabled":
        return
    _wandb()
    if mode == "online" and not _has_key():
        raise CrossoverError(
            "tracking.wandb = online needs a key for "
            f"{_host()}, and there is none: run `wandb login`, set WANDB_API_KEY, or set tracking.wandb to offline"
        )


class WeightsAndBiases(Tracker):
    """Runs of one study.

    Args:
        mode: offline writes files that `wandb sync` sends later; online sends at once.
        project: W&B project.
        entity: W&B team or user; None: the key's own.
        study: Name of the study, and the runs' group.
        key: What tells this study's runs from those of another of the same name.
        folder: Where W&B writes its files.
    """

    def __init__(
        self,
        mode: Literal["offline", "online"],
        project: str,
        entity: str | None,
        study: str,
        key: str,
        folder: Path,
    ) -> None:
        self._wandb = _wandb()
        self._study, self._key = study, key
        folder.mkdir(parents=True, exist_ok=True)
        self._init = {"mode": mode, "project": project, "entity": entity, "group": study, "dir": str(folder)}
        self._runs: dict[str, Any] = {}

    def rows(self, trial: TrackedTrial, rows: Sequence[Evaluation]) -> None:
        """One history row an evaluation; what is missing is left out."""
        run = self._run(trial)
        for row in rows:
            run.log({name: value for name, value in row.model_dump().items() if value is not None}, step=row.step)

    def end(self, trial: TrackedTrial, end: TrialEnd) -> None:
        """Why it ended and its best, as the run's summary; a failed trial is a failed run."""
        run = self._run(trial)
        run.summary.update({name: value for name, value in end.model_dump().items() if value is not None})
        run.finish(exit_code=int(end.stop_reason == "failed"))
        del self._runs[trial.trial_id]

    def leave(self, trial_id: str) -> None:
        """Closes the run; the trial's next leg opens it again."""
        if (run := self._runs.pop(trial_id, None)) is not None:
            run.finish()

    def publish(self, report: Path) -> None:
        """The report as an artifact of the study's own run."""
        run = self._open("study", name=self._study, job_type="study", tags=["study"], config={})
        artifact = self._wandb.Artifact(f"{self._study}-report", type="report", description="The study's answer.")
        artifact.add_file(str(report))
        run.log_artifact(artifact)
        run.finish()

    def close(self) -> None:
        """Closes every run that is open."""
        for trial_id in list(self._runs):
            self.leave(trial_id)

    def _run(self, trial: TrackedTrial) -> Any:
        if trial.trial_id not in self._runs:
            facts = trial.facts
            config = {**facts.config, "facts": facts.model_dump(exclude={"config"}), "stratum": trial.stratum}
            tags = [facts.objective]
            run = self._open(trial.trial_id, name=trial.name, job_type="trial", tags=tags, config=config)
            run.define_metric(_CURVES_AGAINST)
            run.define_metric("*", step_metric=_CURVES_AGAINST)
            self._runs[trial.trial_id] = run
        return self._runs[trial.trial_id]

    def _open(self, name_of_run: str, **about: Any) -> Any:
        quiet = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        run_id = f"{self._key}-{name_of_run}"
        return self._wandb.init(**self._init, id=run_id, resume="allow", reinit="create_new", settings=quiet, **about)


def _wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise CrossoverError(
            "tracking.wandb needs wandb, which is not installed: pip install wandb, or set tracking.wandb to disabled"
        ) from None


def _host() -> str:
    return urlparse(os.environ.get("WANDB_BASE_URL", _SITE)).hostname or _SITE


def _has_key() -> bool:
    """Where W&B itself looks: the environment, then the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return netrc.netrc(path).authenticators(_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False
