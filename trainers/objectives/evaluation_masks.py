"""Which tokens the masks of an evaluation hide, and what each counts: importance, stratification and balance.

With k tokens hidden of n, the bound of a window is the sum over k of E_{|S| = k} (1/k) sum over S. Here

- k is drawn as ceil(n u^2), u uniform, and what is hidden weighs 1 / (k p(k)) instead of n/k: a pass with few hidden
  tokens says least, and was of most weight;
- u lies in a stratum of its own for each mask of a window, at an offset that runs through the windows by the golden
  ratio: any number of windows in a row spreads evenly (discrepancy O(log W / W)). Strata take the offset and one less
  it in turn, so that the weights of a window's masks, 2 u, have the mean 1;
- the masks of a window, the heaviest first, each hide the tokens that those before have weighed least, ties by a
  random order: each token comes to weigh nearly the same. No token is told from another, so every set of k is as
  likely as any other, and the estimate of each mask is unbiased by itself. It is done in groups of 8 masks, each with
  an order of its own, for tokens that were hidden together would be again and again, and many masks would not converge.

All depends on the seed and the number of a window alone: masks are common to all models, batch sizes and world sizes,
and a window keeps its own whatever follows it.

Shape suffixes: W windows, M masks, L sequence, R rows (window, mask) in window-major order, U some windows, G groups of
masks, J masks of a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MASK_STREAM", "EvaluationMasks", "count_weights", "mask_strata", "masked_counts", "mean_masked_share"]

_BALANCED = 8  # masks a group
_GOLDEN = (5**0.5 - 1) / 2
MASK_STREAM = 0x6D61736B  # keeps the masks' random numbers apart from others drawn with the same seed


class EvaluationMasks:
    """The masks of some windows.

    Args:
        hideable_WL: Which places are scored; at least one of each window.
        num_masks: M.
        seed: Of all of them.
    """

    def __init__(self, hideable_WL: Tensor, num_masks: int, seed: int) -> None:
        random = np.random.default_rng([seed, MASK_STREAM])
        n_W1 = hideable_WL.sum(1).numpy()[:, None]
        u_WM = mask_strata(len(hideable_WL), num_masks, random.random(), antithetic=True)
        self.k_WM = np.minimum((u_WM**2 * n_W1).astype(np.int64) + 1, n_W1)
        token_weight_WM = count_weights(self.k_WM, n_W1)
        self.weight_WM: NDArray[np.float64] = token_weight_WM * self.k_WM / n_W1
        self.token_weight_R = torch.from_numpy(token_weight_WM.reshape(-1))
        self._hideable_WL = hideable_WL
        self._seed = seed

    @property
    def num_rows(self) -> int:
        """Pairs of a window and a mask."""
        return int(self.k_WM.size)

    def rows(self, rows_R: Tensor) -> tuple[Tensor, Tensor]:
        """Window of each of these rows, and what its mask hides [R, L]."""
        num_masks = self.k_WM.shape[1]
        window_R = rows_R // num_masks
        windows_U, place_R = np.unique(window_R.numpy(), return_inverse=True)
        return window_R, self._masks(torch.from_numpy(windows_U))[torch.from_numpy(place_R), rows_R % num_masks]

    def _masks(self, windows_U: Tensor) -> Tensor:
        """What is hidden of these windows [U, M, L]; mask m is number m // G of group m % G."""
        num_masks, length = self.k_WM.shape[1], self._hideable_WL.shape[1]
        num_groups = -(-num_masks // _BALANCED)
        k_UM1 = torch.from_numpy(self.k_WM)[windows_U, :, None]
        weight_UM1 = self.token_weight_R.view(self.k_WM.shape)[windows_U, :, None]
        hideable_UGL = self._hideable_WL[windows_U, None].expand(-1, num_groups, -1)
        order_UGL = self._keys(windows_U, num_groups).masked_fill(~hideable_UGL, 2.0).argsort(dim=2)
        weighed_UGL = torch.where(hideable_UGL.gather(2, order_UGL), 0.0, torch.inf).double()  # in the random order
        masks_UML = torch.zeros(len(windows_U), num_masks, length, dtype=torch.bool)
        for start in range(0, num_masks, num_groups):
            masks = slice(start, min(start + num_groups, num_masks))
            groups = slice(masks.stop - masks.start)
            lightest_UJL = weighed_UGL[:, groups].argsort(dim=2, stable=True)
            first_UJL = torch.arange(length) < k_UM1[:, masks]
            hidden_UJL = torch.zeros_like(first_UJL).scatter_(2, lightest_UJL, first_UJL)
            weighed_UGL[:, groups] += hidden_UJL * weight_UM1[:, masks]
            masks_UML[:, masks] = torch.zeros_like(hidden_UJL).scatter_(2, order_UGL[:, groups], hidden_UJL)
        return masks_UML

    def _keys(self, windows_U: Tensor, num_groups: int) -> Tensor:
        """Random numbers [U, G, L]."""
        shape = (num_groups, self._hideable_WL.shape[1])
        drawn = [
            np.random.default_rng([self._seed, MASK_STREAM, window]).random(shape) for window in windows_U.tolist()
        ]
        return torch.from_numpy(np.stack(drawn))


def mask_strata(num_windows: int, num_masks: int, shift: float, *, antithetic: bool = False) -> NDArray[np.float64]:
    """u_WM, each uniform on its stratum [m/M, (m+1)/M] over the shift.

    Args:
        num_windows: W.
        num_masks: M.
        shift: Uniform on [0, 1).
        antithetic: Whether every second stratum takes one less the offset; else all of a window take the same.
    """
    offset_W1 = ((shift + _GOLDEN * np.arange(num_windows)) % 1)[:, None]
    mask_M = np.arange(num_masks)
    turned_WM = np.where((mask_M % 2 == 1) & antithetic, 1 - offset_W1, offset_W1)
    return np.asarray((mask_M + turned_WM) / num_masks)


def masked_counts(num_tokens_W: NDArray[np.int64], num_masks: int, shift: float) -> NDArray[np.int64]:
    """How many tokens each mask hides where all numbers are as likely: k_WM, each uniform on 1..n over the shift.

    Args:
        num_tokens_W: Tokens n of each window, at least 1.
        num_masks: M.
        shift: Uniform on [0, 1).
    """
    n_W1 = num_tokens_W[:, None]
    k_WM = (mask_strata(len(num_tokens_W), num_masks, shift) * n_W1).astype(np.int64) + 1
    return np.minimum(k_WM, n_W1)  # the minimum: against rounding up to 1


def count_weights(k: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 / (k p(k)) where k = ceil(n u^2): p(k) = sqrt(k/n) - sqrt((k-1)/n)."""
    root_n = np.sqrt(n)
    return np.asarray((np.sqrt(k) + np.sqrt(k - 1)) * root_n / k)  # 1 / (sqrt(k) - sqrt(k-1)) is their sum


def mean_masked_share(num_tokens: int) -> float:
    """E[k] / n, a little above 1/3."""
    return 1.0 - float(np.sqrt(np.arange(num_tokens) / num_tokens).sum()) / num_tokens
