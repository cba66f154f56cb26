# SPDX-License-Identifier: Apache-2.0
"""What trainings at several learning rates came to, as text and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinytrain.report.plot import figure, png

if TYPE_CHECKING:
    from tinytrain.learn.find_rate import RateCurve


def curve_text(curve: RateCurve) -> str:
    """A table, the suggestion, and what is doubtful about it."""
    lines = [f"before     loss {curve.before:.4f} of {curve.held} samples", "", f"{'rate':<10} {'loss':>9} {'accuracy':>9}"]
    for trial in curve.trials:
        loss = "ran away" if trial.loss is None else f"{trial.loss:.4f}"
        accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.1%}"
        lines.append(f"{trial.rate:<10g} {loss:>9} {accuracy:>9}{'   <' if trial.rate == curve.suggestion else ''}".rstrip())
    lines += ["", f"suggested  --lr {curve.suggestion:g}"]
    if curve.doubt:
        lines.append(f"warning    {curve.doubt}")
    return "\n".join(lines)


def curve_png(curve: RateCurve) -> bytes:
    """Loss over rates; the suggestion is marked. Raises ToolError without matplotlib."""
    drawn = figure()
    axes = drawn.add_subplot()
    points = [(trial.rate, trial.loss) for trial in curve.trials if trial.loss is not None]
    axes.plot([rate for rate, _ in points], [loss for _, loss in points], "o-")
    axes.axvline(curve.suggestion, linestyle="--", color="tab:gray", label=f"suggested: {curve.suggestion:g}")
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=f"loss after {curve.steps:,} steps")
    axes.legend()
    return png(drawn)
