"""What is known of where two families cross, as plain frozen values: for the page, notebooks and `--json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crossover.platform.analysis.crossings import Quantiles

__all__ = ["SCHEMA_VERSION", "CrossingEntry", "CrossingReport", "DataEfficiency", "Kind", "PowerLaw"]

SCHEMA_VERSION = 1
Kind = Literal["fitted_envelope", "fitted_equal_epochs", "measured_envelope", "measured_equal_epochs"]


@dataclass(frozen=True)
class CrossingEntry:
    """Where the challenger goes below the baseline with U unique tokens; None in a quantity: not in the range.

    Args:
        kind: from a fitted law or from what was measured; against the baseline's best for as many FLOPs (envelope) or
            at equal epochs and size.
        setting: other scientific settings that both have in common.
        flops: 6 N D of the challenger there; of a study's own curves, counted exactly.
        epochs: D / U there.
        tokens: D there.
        params: N of the challenger there.
        probability_none: share of the draws that have no crossing in the range.
        range_flops: smallest and largest FLOPs that were looked at.
        extrapolated: the crossing lies beyond the FLOPs, or beyond twice the sizes or epochs, that were measured with
            these unique tokens.
        ahead_from_start: the challenger is ahead at the range's start already, so it crosses there or before.
    """

    unique_tokens: float
    kind: Kind
    baseline: str
    challenger: str
    setting: str
    flops: Quantiles
    epochs: Quantiles
    tokens: Quantiles
    params: Quantiles
    probability_none: float
    range_flops: tuple[float, float]
    extrapolated: bool
    ahead_from_start: bool

    def to_dict(self) -> dict[str, Any]:
        """The documented schema of one entry."""
        content: dict[str, Any] = {
            "unique_tokens": self.unique_tokens,
            "kind": self.kind,
            "baseline": self.baseline,
            "challenger": self.challenger,
            "setting": self.setting,
        }
        for name in ("flops", "epochs", "tokens", "params"):
            value: Quantiles = getattr(self, name)
            content[name] = value.estimate
            content[f"{name}_interval"] = [value.low, value.high]
        return {
            **content,
            "probability_none": self.probability_none,
            "range_flops": list(self.range_flops),
            "extrapolated": self.extrapolated,
            "ahead_from_start": self.ahead_from_start,
        }


@dataclass(frozen=True)
class PowerLaw:
    """C_crit(U) = c U^p over three unique-token budgets or more.

    Args:
        c: in FLOPs.
        p: exponent.
        budgets: unique tokens that it rests on.
        probability_none: share of the draws in which one of them has no crossing.
    """

    c: Quantiles
    p: Quantiles
    budgets: tuple[float, ...]
    probability_none: float


@dataclass(frozen=True)
class DataEfficiency:
    """How many unique tokens the baseline would need for the challenger's loss, with as many FLOPs.

    Args:
        flops: of both.
        loss: of the challenger's best within them.
        needed: unique tokens of the baseline; None: no number of them is enough with these FLOPs.
        ratio: needed over unique_tokens.
    """

    unique_tokens: float
    flops: float
    loss: float
    needed: Quantiles
    ratio: Quantiles


@dataclass(frozen=True)
class CrossingReport:
    """All crossings of a table or a study.

    Args:
        law: fitted law; None where nothing could be fitted.
        notes: what limits the answer.
    """

    source: str
    law: str | None
    crossings: tuple[CrossingEntry, ...]
    power_law: PowerLaw | None
    data_efficiency: tuple[DataEfficiency, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The documented schema of `crossover crossings --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "source": self.source,
            "law": self.law,
            "crossings": [entry.to_dict() for entry in self.crossings],
            "power_law": None if self.power_law is None else asdict(self.power_law),
            "data_efficiency": [asdict(entry) for entry in self.data_efficiency],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)
