"""Colours that eyes of every kind tell apart (Okabe and Ito, 2008), by what they mean, for light and dark grounds."""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "STOP_WORDS"]

LIGHT = {
    "autoregressive": "#0072B2",
    "masked_diffusion": "#D55E00",
    "equal_epochs": "#7A4E8A",
    "envelope": "#00785A",
    "text": "#1c2430",
    "muted": "#5b6675",
    "grid": "#e3e7ec",
    "soft": "#b3bcc8",
    "other_objective": "#8a6a00",
    "failed": "#b3362b",
}
DARK = {
    "autoregressive": "#56B4E9",
    "masked_diffusion": "#F58A4B",
    "equal_epochs": "#CDA2DC",
    "envelope": "#3CC9A0",
    "text": "#e6eaf0",
    "muted": "#9aa6b5",
    "grid": "#2b3440",
    "soft": "#4d5968",
    "other_objective": "#dcc063",
    "failed": "#ff8a7a",
}

STOP_WORDS = {
    "completed": "all epochs done",
    "overfit": "stopped: overfitting",
    "plateau": "stopped: plateau",
    "diverged": "stopped: diverged",
    "pruned": "stopped: pruned",
    "budget": "stopped: budget spent",
    "failed": "failed",
    "interrupted": "interrupted",
}
