"""A plan in the terminal."""

from __future__ import annotations

from rich.console import Console

from crossover.platform.analysis.recommendation.results import Choice, NextTrial, Plan

__all__ = ["print_plan"]


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print what to train, why, what would change it and what to run next."""
    out = console or Console(highlight=False, soft_wrap=True)
    for line in _lines(plan):
        out.print(line, markup=False)


def _lines(plan: Plan) -> list[str]:
    lines = [
        f"{plan.unique_tokens:.4g} unique tokens, {plan.flops:.4g} FLOPs",
        "",
        f"train: {_choice(plan.best)}",
        f"  because {plan.decided_by}",
    ]
    if plan.runner_up is not None:
        lines.append(f"runner-up: {_choice(plan.runner_up)}")
    lines += ["", "what would change this:", *(f"  {change}" for change in plan.changes)]
    if plan.next_trials:
        lines += [
            "",
            "trials that would narrow it most for their FLOPs:",
            *(f"  {_trial(t)}" for t in plan.next_trials),
        ]
    if plan.warnings:
        lines += ["", *(f"! {warning}" for warning in plan.warnings)]
    return lines


def _choice(choice: Choice) -> str:
    setting = f" ({choice.setting})" if choice.setting else ""
    if choice.sparsity is None:
        shape = ""
    else:
        shape = ", dense" if choice.sparsity < 1.001 else f", sparsity {choice.sparsity:.3g} (total / active)"
    unspent = "" if choice.flops <= 0 else f", {choice.flops:.3g} FLOPs"
    config = f"; configuration {choice.config_hash[:12]}" if choice.config_hash else ""
    kind = "predicted" if choice.basis == "law" else "measured"
    return (
        f"{choice.objective}{setting}, N = {choice.params:.3g}{shape}, {choice.epochs:.3g} epochs "
        f"({choice.tokens:.3g} tokens{unspent}): {kind} loss {choice.loss:.4f} [{choice.low:.4f}, {choice.high:.4f}] "
        f"({100 * choice.level:.0f} %) by {choice.source}{config}"
    )


def _trial(trial: NextTrial) -> str:
    return (
        f"{trial.objective}, N = {trial.params:.3g}, {trial.epochs:.3g} epochs of {trial.unique_tokens:.3g} tokens, "
        f"{trial.flops:.3g} FLOPs: {100 * trial.narrows:.0f} % narrower ({trial.question})"
    )
