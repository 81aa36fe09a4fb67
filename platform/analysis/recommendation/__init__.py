"""What to train: from a study, a table, a law file or published laws to a plan, and from a plan to a run."""

from __future__ import annotations

from crossover.platform.analysis.recommendation.planner import flops_of, make_plan, parse_amount, plan_of_study
from crossover.platform.analysis.recommendation.printing import print_plan
from crossover.platform.analysis.recommendation.results import Choice, NextTrial, Plan, PlanError

__all__ = [
    "Choice",
    "NextTrial",
    "Plan",
    "PlanError",
    "flops_of",
    "make_plan",
    "parse_amount",
    "plan_of_study",
    "print_plan",
]
