# SPDX-License-Identifier: Apache-2.0
"""What a training will take, as far as that is known before it begins."""

from __future__ import annotations

from tinytrain.device.project import Project

WORTH_SAYING_SECONDS = 5.0
_DEFAULT_WORK = 3.0                                       # of a training step, in inferences: forward, and twice as much backward


def forecast_seconds(
    project: Project, sample_seconds: float, link_seconds: float, epochs: int, steps: int, held: int, rates: int = 0
) -> float:
    """Of epochs of so many training steps and held-back samples, by how long a sample took that was measured and not learned.

    What the link takes of it, a step takes once, and each of the learning `rates` that are set in an epoch; the rest as many times as it
    has multiply-accumulates.
    """
    link_seconds = min(link_seconds, sample_seconds)
    step_seconds = link_seconds + (sample_seconds - link_seconds) * (project.manifest.work or _DEFAULT_WORK)
    return epochs * (steps * step_seconds + rates * link_seconds + held * sample_seconds)


def time_text(project: Project, seconds: float | None, epochs: int, steps: int) -> str | None:
    """One line; None where it is not known, or not worth saying."""
    if seconds is None or seconds < WORTH_SAYING_SECONDS:
        return None
    times, board = f"{epochs} epochs of {steps:,} steps" if epochs > 1 else f"{steps:,} steps", project.board
    where, sooner = f"on {board.title}", ""
    if not board.is_host:
        where = f"on port {project.port}" if project.port else f"on the emulator of {board.name}"
        sooner = f"; compiled with --board {board.twin} they give the same bits in a fraction of that"
    return f"time       about {duration(seconds)}: {times} {where}{sooner}"


def duration(seconds: float) -> str:
    """`8 s`, `3 min` or `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def step_text(project: Project) -> str | None:
    """What a step takes on the board, by the estimate of its compiler; None where nothing was counted."""
    step, board = project.manifest.step, project.board
    if step is None:
        return None
    time = "" if step.milliseconds is None else f", {step.milliseconds:.3g} ms at {board.clock_hz / 1e6:,.4g} MHz"
    which = ", of the dearest scheme" if (project.folder / "scheme_1.toml").is_file() else ""
    return f"step       {step.instructions:,} instructions{time} (estimate){which}"
