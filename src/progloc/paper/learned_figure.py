"""What a learned schedule looks like: λ(ℓ) of every seed over quintic's, and the course of each layer's λ."""

from __future__ import annotations

__all__ = ["learned_schedules"]

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from progloc.paper.comparisons import depth
from progloc.paper.results import Run, Suite
from progloc.schedules import parse_schedule


def _draw(name: str, runs: list[Run], final: Axes, course: Axes) -> None:
    layers = len(runs[0].lambdas)
    depths = [depth(index, layers) for index in range(layers)]
    final.plot(depths, parse_schedule("quintic")(layers), color="#7f7f7f", linestyle="--", label="quintic")
    for run in runs:
        label = f"{name}, a seed" if run is runs[0] else None
        final.plot(depths, run.lambdas, color="#aa3377", marker="o", markersize=4, linewidth=1.1, label=label)
    for index, position in enumerate(depths):
        shade = mpl.colormaps["viridis_r"](0.1 + 0.9 * position)
        for run in runs:
            label = f"layer {index}" if run is runs[0] and index in (0, layers - 1) else None
            steps, values = zip(
                *((point["step"], point["lambdas"][index]) for point in run.lambdas_course), strict=True
            )
            course.plot(steps, values, color=shade, linewidth=1.1, label=label)
    final.set(xlabel="relative depth ℓ/(L−1)", ylabel="λ(ℓ)", ylim=(0, 1), title=name)
    course.set(xlabel="step", ylabel="λ(ℓ)", ylim=(0, 1))
    for axes in (final, course):
        axes.legend(fontsize="small")


def learned_schedules(suite: Suite) -> Figure | None:
    """Draw every architecture whose λ was learned, a row each; None where none was."""
    runs = {name: list(suite.by_name[name].values()) for name in suite.architectures}
    learned = {name: each for name, each in runs.items() if all(run.lambdas_course for run in each)}
    if not learned:
        return None
    drawn = Figure(figsize=(9.2, 3.5 * len(learned)), layout="constrained")
    panels = drawn.subplots(len(learned), 2, squeeze=False)
    for (name, each), (final, course) in zip(learned.items(), panels, strict=True):
        _draw(name, each, final, course)
    return drawn
