"""The trials of one simulated study: made when they are asked for, the same for every scheduler that meets them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from crossover.platform.execution.decisions import Suggested
from crossover.platform.search.plan import Outcome
from crossover.platform.search.simulation.curves import Curves, Traits
from crossover.platform.search.simulation.trial import Costs, Life, SimulatedTrial, costs_of
from crossover.platform.study import Study
from crossover.search_spaces import Stratum
from crossover.trainers.config import TrialConfig
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.model.shapes import ModelShape, shape_of
from crossover.trainers.overfitting import build_rule
from crossover.trainers.rows import StopReason

__all__ = ["DATA_HASH", "SimulatedResults", "World"]

DATA_HASH = "simulated"
"""Stands for the corpus in the identity of a simulated trial: no text is read."""

_NOTHING = Outcome(False, None)


@dataclass
class World:
    """Makes trials, each once: two simulations in one world share what does not depend on who decides.

    Args:
        study: whose trials.
        curves: where their losses come from.
        number: of the world.
    """

    study: Study
    curves: Curves
    number: int
    _lives: dict[str, Life] = field(default_factory=dict)
    _shapes: dict[str, ModelShape] = field(default_factory=dict)
    _costs: dict[str, Costs] = field(default_factory=dict)

    def trial(self, line: Suggested) -> SimulatedTrial:
        """The trial of a suggestion, before its first step."""
        if line.trial_id not in self._lives:
            self._lives[line.trial_id] = self._life(line)
        return SimulatedTrial(self._lives[line.trial_id])

    def _life(self, line: Suggested) -> Life:
        stratum = Stratum(line.stratum, line.stratum_label)
        config = self.study.trial_config(stratum, line.settings, line.repeat)
        shape = self._shape(config)
        traits = Traits(
            config=config,
            scientific=line.stratum,
            nuisance=line.settings,
            axes=self.study.axes,
            repeat=line.repeat,
            num_params=shape.num_params_active,
            trial_id=line.trial_id,
            world=self.number,
        )
        return Life(
            trial_id=line.trial_id,
            config=config,
            curve=self.curves.curve(traits),
            costs=self._cost(config, shape),
            rule=build_rule(config.stopping),
            seed=_seed(self.number, line.trial_id),
        )

    def _shape(self, config: TrialConfig) -> ModelShape:
        """Looking a size up takes longer than the trial."""
        key = config.model.model_dump_json()
        if key not in self._shapes:
            self._shapes[key] = shape_of(config.model, BYTES.num_input_tokens, BYTES.num_output_tokens)
        return self._shapes[key]

    def _cost(self, config: TrialConfig, shape: ModelShape) -> Costs:
        parts = (config.model, config.objective, config.evaluation, config.data)
        key = " ".join(part.model_dump_json() for part in parts)
        if key not in self._costs:
            self._costs[key] = costs_of(config, shape)
        return self._costs[key]


@dataclass
class SimulatedResults:
    """The trials' records, in memory."""

    trials: dict[str, SimulatedTrial] = field(default_factory=dict)
    closed: dict[str, tuple[StopReason, str]] = field(default_factory=dict)

    def outcome(self, trial_id: str) -> Outcome:
        """What the record would say now."""
        trial = self.trials.get(trial_id)
        if trial is not None:
            return trial.outcome()
        if trial_id in self.closed:
            return Outcome(True, None, 0.0, self.closed[trial_id][0])
        return _NOTHING

    def close(self, trial_id: str, reason: StopReason, evidence: str) -> None:
        """Ends a trial that waits."""
        self.closed[trial_id] = reason, evidence
        if (trial := self.trials.get(trial_id)) is not None:
            trial.ended = reason

    def ends(self) -> Mapping[str, StopReason]:
        """Why each trial ended."""
        closed = {trial_id: reason for trial_id, (reason, _) in self.closed.items()}
        return {**closed, **{name: trial.ended for name, trial in self.trials.items() if trial.ended is not None}}


def _seed(world: int, trial_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{world} {trial_id}".encode(), digest_size=8).digest())
