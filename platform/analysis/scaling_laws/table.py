"""The rows that a law is fitted to, and what must hold of them before any number is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossover.platform.analysis.scaling_laws.sizes import Points
from crossover.trainers.errors import CrossoverError

__all__ = ["ONE_FAMILY", "LossTable", "LossTableError", "NotIdentifiedError"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
ONE_FAMILY = "all"

_SAME = 0.01  # epochs and D/U may differ by so much: counts are rounded in tables
_RISE = 0.01  # of ln loss: a curve that ends so much above its best has risen


class LossTableError(CrossoverError):
    """A table that no law can be fitted to."""


class NotIdentifiedError(LossTableError):
    """A table that cannot tell a law's parameters apart."""


@dataclass(frozen=True)
class LossTable:
    """Losses by model size, tokens and unique tokens; every array has one value a row, all positive and finite.

    Args:
        params: N.
        tokens: D, tokens seen.
        unique: U, unique tokens; D itself where the table does not say.
        loss: validation loss, nats a token.
        family: name of each row's family, such as ar.
        run: name of the training run that a row is an evaluation of; None: every row is a run.
        source: where it comes from, for messages.
        has_unique: the table says U.
        notes: what was done to the rows.
    """

    params: Floats
    tokens: Floats
    unique: Floats
    loss: Floats
    family: NDArray[np.str_]
    run: NDArray[np.str_] | None
    source: str
    has_unique: bool
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls,
        columns: Mapping[str, NDArray[Any]],
        source: str,
        *,
        tokens_needed: bool = True,
    ) -> LossTable:
        """From columns N, D, loss and, as far as there are, U, epochs, family and run.

        Raises:
            LossTableError: a column is missing, or values that cannot be.
        """
        mistakes = _missing(columns, tokens_needed) or _impossible(columns)
        if mistakes:
            raise LossTableError(f"{source}: {'; '.join(mistakes)}")
        num_rows = len(columns["N"])
        unique = columns.get("U")
        tokens = _tokens(columns, num_rows)
        family = columns.get("family", np.full(num_rows, ONE_FAMILY))
        run = columns.get("run")
        table = cls(
            params=columns["N"].astype(np.float64),
            tokens=tokens,
            unique=tokens if unique is None else unique.astype(np.float64),
            loss=columns["loss"].astype(np.float64),
            family=family.astype(np.str_),
            run=None if run is None else run.astype(np.str_),
            source=source,
            has_unique=unique is not None,
        )
        table._refuse_other_units(columns)
        return table

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(self.loss)

    @property
    def flops(self) -> Floats:
        """6 N D."""
        return 6 * self.params * self.tokens

    @property
    def epochs(self) -> Floats:
        """D / U."""
        return self.tokens / self.unique

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Names of the families, sorted."""
        return tuple(str(name) for name in np.unique(self.family))

    @cached_property
    def points(self) -> Points:
        """Where the law is evaluated."""
        return Points.of(self.params, self.tokens, self.unique)

    @cached_property
    def clusters(self) -> Places:
        """A number for each run: rows of one run are not independent."""
        if self.run is None:
            return np.arange(self.num_rows)
        keys = np.char.add(np.char.add(self.family, "\x1f"), self.run)
        return np.unique(keys, return_inverse=True)[1].astype(np.intp)

    def take(self, rows: NDArray[np.bool_] | Places) -> LossTable:
        """Some of the rows."""
        return replace(
            self,
            params=self.params[rows],
            tokens=self.tokens[rows],
            unique=self.unique[rows],
            loss=self.loss[rows],
            family=self.family[rows],
            run=None if self.run is None else self.run[rows],
        )

    def curves(self) -> list[Places]:
        """Rows of each curve, by tokens: rows of one run, or of one family, N and U where the table names no run."""
        return self._by_tokens(self.sizes if self.run is None else self.clusters)

    def rising_curves(self) -> list[Places]:
        """Curves whose last two rows both lie more than 1 % above their best before: one alone may be noise."""
        return [rows for rows in self.curves() if self._rises(rows)]

    def rising_across_runs(self) -> int:
        """Sets of separate runs of one family, N and U whose loss rises with their tokens in the same way."""
        return 0 if self.run is None else sum(self._rises(rows) for rows in self._by_tokens(self.sizes))

    @cached_property
    def sizes(self) -> Places:
        """A number for each family, N and U."""
        together = np.stack([self.params, self.unique, np.unique(self.family, return_inverse=True)[1]])
        return np.unique(together, axis=1, return_inverse=True)[1].reshape(-1).astype(np.intp)

    def best_of_each_size(self) -> LossTable:
        """The lowest loss of each family, N and U."""
        order = np.lexsort((self.loss, self.sizes))
        first = np.append(True, np.diff(self.sizes[order]) > 0)
        return self if first.all() else self.take(np.sort(order[first]))

    def _by_tokens(self, keys: Places) -> list[Places]:
        order = np.lexsort((self.tokens, keys))
        starts = np.flatnonzero(np.diff(keys[order])) + 1
        return [np.asarray(rows, np.intp) for rows in np.split(order, starts) if len(rows) > 1]

    def _rises(self, rows: Places) -> bool:
        log = np.log(self.loss[rows])
        return len(rows) > 2 and bool(min(log[-2:]) > log[:-2].min() + _RISE)

    def best_so_far(self) -> LossTable:
        """Curves that rise give their best loss so far: what a law that only falls can follow."""
        rising = self.rising_curves()
        if not rising:
            return self
        loss = self.loss.copy()
        for rows in rising:
            loss[rows] = np.minimum.accumulate(loss[rows])
        return replace(self, loss=loss)

    def _refuse_other_units(self, columns: Mapping[str, NDArray[Any]]) -> None:
        epochs = columns.get("epochs")
        if epochs is None or not self.has_unique or "D" not in columns:
            return
        wrong = np.flatnonzero(np.abs(epochs / self.epochs - 1) > _SAME)
        if len(wrong):
            row = int(wrong[0])
            raise LossTableError(
                f"{self.source}: units disagree in {len(wrong)} of {self.num_rows} rows: row {row + 1} has epochs = "
                f"{epochs[row]:.6g}, but D / U = {self.tokens[row]:.6g} / {self.unique[row]:.6g} = "
                f"{self.epochs[row]:.6g}. Give D and U in tokens, or leave epochs out"
            )


def _missing(columns: Mapping[str, object], tokens_needed: bool) -> list[str]:
    needed = ["N", "loss"]
    if tokens_needed and not ({"epochs", "U"} <= columns.keys()):
        needed.insert(1, "D")
    lacking = [name for name in needed if name not in columns]
    if not lacking:
        return []
    return [
        f"column {', '.join(lacking)} is missing: name the table's own columns with --columns, as "
        f"--columns {','.join(f'{name}=its_name' for name in lacking)}"
    ]


def _impossible(columns: Mapping[str, NDArray[Any]]) -> list[str]:
    if len(columns["N"]) == 0:
        return ["the table has no rows"]
    mistakes = []
    for name in ("N", "D", "U", "epochs", "loss"):
        values = columns.get(name)
        if values is None:
            continue
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            mistakes.append(
                f"{name} is {values[wrong[0]]} in row {wrong[0] + 1}{more}, but must be a finite number above 0: "
                "leave such rows out (a run that diverged has no loss)"
            )
    return mistakes


def _tokens(columns: Mapping[str, NDArray[Any]], num_rows: int) -> Floats:
    if "D" in columns:
        return columns["D"].astype(np.float64)
    if "epochs" in columns and "U" in columns:
        return columns["epochs"].astype(np.float64) * columns["U"].astype(np.float64)
    return np.ones(num_rows)
