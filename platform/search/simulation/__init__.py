"""Studies in virtual time: real searcher, planner, scheduler, budget and stop rule over curves instead of training."""

from crossover.platform.search.simulation import laws, other_laws
from crossover.platform.search.simulation.compare import Comparison, Reference, compare, reference_of
from crossover.platform.search.simulation.curves import Curve, Curves, Traits, get_law, law_names, register_law
from crossover.platform.search.simulation.recorded import read_recorded
from crossover.platform.search.simulation.simulate import SimulatedStudy, simulate
from crossover.platform.search.simulation.summary import Summary, curves_named, simulate_seeds, summarize
from crossover.platform.search.simulation.world import World

__all__ = [
    "Comparison",
    "Curve",
    "Curves",
    "Reference",
    "SimulatedStudy",
    "Summary",
    "Traits",
    "World",
    "compare",
    "curves_named",
    "get_law",
    "law_names",
    "laws",
    "other_laws",
    "read_recorded",
    "reference_of",
    "register_law",
    "simulate",
    "simulate_seeds",
    "summarize",
]
