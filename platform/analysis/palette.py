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
}
DARK = {
    "autoregressive": "#56B4E9",
    "masked_diffusion": "#F58A4B",
    "equal_epochs": "#CDA2DC",
    "envelope": "#3CC9A0",
    "text": "#e6eaf0",
    "muted": "#9aa6b5",
    "grid": "#2b3440",
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
