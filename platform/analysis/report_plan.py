"""The report's recommendation: what a plan says, as the template prints it."""

from __future__ import annotations

from typing import Any

from crossover.platform.analysis.recommendation import Choice, NextTrial, Plan
from crossover.platform.analysis.wording import SHORT, amount

__all__ = ["plan_section"]

_SHAPES = 1.001  # total over active parameters, from which on a model is sparse


def plan_section(plan: Plan | str) -> dict[str, Any]:
    """What the template shows: choices, what would change them, trials to run next; or why there is none."""
    if isinstance(plan, str):
        return {"reason": plan, "choices": []}
    chosen = [("train this", plan.best)] + ([("runner-up", plan.runner_up)] if plan.runner_up else [])
    return {
        "reason": "",
        "budget": f"{amount(plan.unique_tokens)} unique tokens and {amount(plan.flops)} FLOPs",
        "sentence": _sentence(plan),
        "choices": [_choice(role, choice) for role, choice in chosen],
        "level": f"{100 * plan.best.level:.0f} %",
        "changes": plan.changes,
        "next_trials": [_trial(trial) for trial in plan.next_trials],
        "warnings": plan.warnings,
    }


def _sentence(plan: Plan) -> str:
    best = plan.best
    setting = f" ({best.setting})" if best.setting else ""
    return (
        f"{_name(best.objective)}{setting}, {amount(best.params)} parameters, {best.epochs:.3g} epochs: "
        f"{plan.decided_by}."
    )


def _name(objective: str) -> str:
    return {"AR": "Autoregressive", "MDM": "Masked diffusion"}.get(SHORT.get(objective, ""), objective)


def _choice(role: str, choice: Choice) -> dict[str, str]:
    sparsity = choice.sparsity
    shape = "" if sparsity is None else "dense" if sparsity < _SHAPES else f"sparsity {sparsity:.3g}"
    return {
        "role": role,
        "objective": SHORT.get(choice.objective, choice.objective),
        "setting": choice.setting,
        "params": amount(choice.params),
        "shape": shape,
        "epochs": f"{choice.epochs:.3g}",
        "tokens": amount(choice.tokens),
        "flops": amount(choice.flops),
        "loss": f"{choice.loss:.4f} [{choice.low:.4f}, {choice.high:.4f}]",
        "basis": "predicted by the law" if choice.basis == "law" else "measured",
    }


def _trial(trial: NextTrial) -> dict[str, str]:
    return {
        "objective": trial.objective,
        "params": amount(trial.params),
        "epochs": f"{trial.epochs:.3g}",
        "unique": amount(trial.unique_tokens),
        "flops": amount(trial.flops),
        "narrows": f"{trial.narrows:.0%}",
        "question": trial.question,
    }
