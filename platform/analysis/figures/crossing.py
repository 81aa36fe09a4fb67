"""Validation of the configurations that stand for their objectives, against epochs and against FLOPs.

Against epochs with both crossings; against FLOPs, since a masked-diffusion model pays for its epochs as AR does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from crossover.platform.analysis.answers import BASELINE, CHALLENGER
from crossover.platform.analysis.curves import DrawnObjective, DrawnPair, Over
from crossover.platform.analysis.figures.documents import Document, band, layout, line, log_ticks, marks, words
from crossover.platform.analysis.figures.findings import Findings
from crossover.platform.analysis.figures.labels import about
from crossover.platform.analysis.figures.registry import Drawing, Panel, register_figure
from crossover.platform.analysis.palette import STOP_WORDS
from crossover.platform.analysis.wording import SHORT, ahead_label, crossing_label, established

__all__ = ["crossing", "loss_flops"]

_MAX_SEEDS = 12  # thin curves: of more seeds the band says enough
_KIND = {BASELINE: "exact", CHALLENGER: "upper bound"}
_CURVES = (
    "Validation loss in bits per byte, averaged weights, of the configuration that was chosen. Thick: mean over seeds; "
    "band: from the lowest to the highest seed; thin: each seed; dots: best checkpoints; crosses: where training was "
    "stopped. Dashed: AR's best so far."
)


@register_figure(
    "crossing",
    title="Where the curves cross",
    caption=f"{_CURVES} Vertical shades and the bars at the foot: 95 % interval of each crossing.",
)
def crossing(findings: Findings) -> Drawing:
    """Validation against epochs with both crossings, a panel a setting."""
    return Drawing.of(
        [Panel(pair.answer.title, _epochs(pair), ahead_label(pair.answer.test), 440) for pair in findings.pairs]
    )


@register_figure(
    "loss-flops", title="Loss against compute", caption=f"{_CURVES} FLOPs of training as counted, evaluation left out."
)
def loss_flops(findings: Findings) -> Drawing:
    """Validation against training FLOPs, a panel a setting."""
    return Drawing.of([Panel(pair.answer.title, _flops(pair)) for pair in findings.pairs])


def _epochs(pair: DrawnPair) -> Document:
    low, high = pair.bits_range()
    low -= 0.17 * (high - low)  # room for the crossings' bars
    first, last = pair.epochs_range
    document = layout(
        log_ticks(first, last) | {"title": {"text": "epochs over the unique tokens"}},
        {"title": {"text": "validation, bits per byte"}, "range": [low, high]},
    )
    document["shapes"], document["annotations"] = _crossing_marks(pair)
    return {"data": list(_traces(pair, "epochs")), "layout": document}


def _flops(pair: DrawnPair) -> Document:
    first, last = pair.range_along("flops")
    return {
        "data": list(_traces(pair, "flops")),
        "layout": layout(
            log_ticks(first, last, si=True) | {"title": {"text": "training FLOPs"}},
            {"title": {"text": "validation, bits per byte"}, "range": list(pair.bits_range())},
        ),
    }


def _traces(pair: DrawnPair, over: Over) -> Iterator[Document]:
    last = pair.range_along(over)[1]
    for objective in pair.objectives:
        yield from _curves(objective, over)
        if objective.name == BASELINE:
            envelope = objective.mean(best_so_far=True, until=last, over=over)
            yield line(*envelope, f"--{BASELINE}", "AR, best so far", dash="dash")
        yield from _points(objective, over)


def _curves(objective: DrawnObjective, over: Over) -> Iterator[Document]:
    colour, name, seeds = f"--{objective.name}", SHORT[objective.name], objective.seeds
    many = len(seeds) > 1
    if many:
        x, low, high = (part.tolist() for part in objective.spread(over))
        yield band(x, low, high, colour, f"{name}, range of seeds")
    for seed in seeds[:_MAX_SEEDS] if many else ():
        yield line(seed.along(over), seed.bits_E, colour, f"{name}, seeds", legend=seed is seeds[0], width=1,
                   hover=about(seed), opacity=0.4)  # fmt: skip
    label = f"{name} ({_KIND[objective.name]}), " + (f"mean of {len(seeds)} seeds" if many else "one seed")
    yield line(*objective.mean(over=over), colour, label, width=3, hover=label)


def _points(objective: DrawnObjective, over: Over) -> Iterator[Document]:
    colour, name, seeds = f"--{objective.name}", SHORT[objective.name], objective.seeds
    bests = [(seed.along(over)[seed.best], seed.bits_E[seed.best]) for seed in seeds]
    yield marks(bests, colour, f"{name}, best", "circle", [about(seed) for seed in seeds])
    stopped = [seed for seed in seeds if seed.stop_reason not in (None, "completed")]
    for reason in dict.fromkeys(str(seed.stop_reason) for seed in stopped):
        ended = [seed for seed in stopped if seed.stop_reason == reason]
        points = [(seed.along(over)[-1], seed.bits_E[-1]) for seed in ended]
        yield marks(points, colour, f"{name}, {STOP_WORDS[reason]}", "x", [about(seed) for seed in ended])


def _crossing_marks(pair: DrawnPair) -> tuple[list[Document], list[Document]]:
    last = pair.epochs_range[1]
    shapes: list[Document] = []
    annotations: list[Document] = []
    for place, found in enumerate((pair.answer.equal_epochs, pair.answer.envelope)):
        if found is None:
            continue
        height, colour, label = 0.115 - 0.08 * place, f"--{found.against}", crossing_label(found)
        if not established(found):
            annotations.append(words(label, 0.01, height, colour, xref="x domain", size=11, xanchor="left"))
            continue
        start, end = found.epochs.low or last, found.epochs.high or last
        span = {"type": "rect", "x0": start, "x1": end, "xref": "x", "yref": "y domain", "fillcolor": colour,
                "line": {"width": 0}}  # fmt: skip
        shapes.append(span | {"y0": 0, "y1": 1, "opacity": 0.12, "layer": "below"})
        shapes.append(span | {"y0": height - 0.006, "y1": height + 0.006, "opacity": 1, "layer": "above"})
        annotations.append(words("◆", math.log10(found.epochs.estimate or last), height, colour, size=15))
        annotations.append(_beside(label, pair, (start, end), height, colour))
    return shapes, annotations


def _beside(label: str, pair: DrawnPair, span: tuple[float, float], height: float, colour: str) -> Document:
    """A crossing's words beside its bar, on the side with more room; above it at the edge where they would not fit."""
    first, last = pair.epochs_range
    left, right = (math.log(at / first) / math.log(last / first) for at in span)
    at_right, length = 1 - right > left, 0.013 * len(label)
    if length > max(1 - right, left):
        edge, anchor = (0.99, "right") if at_right else (0.01, "left")
        return words(label, edge, height + 0.034, colour, xref="x domain", size=11, xanchor=anchor)
    anchor, shift = ("left", 6) if at_right else ("right", -6)
    return words(label, math.log10(span[1] if at_right else span[0]), height, colour, xanchor=anchor, xshift=shift)
