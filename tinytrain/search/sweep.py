# SPDX-License-Identifier: Apache-2.0
"""`tinytrain search` as a whole: contributions, search under one budget or several, measurement, table, plot, scheme file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinytrain.atomic import write_bytes, write_text
from tinytrain.compiler import Options
from tinytrain.data.given import Source
from tinytrain.errors import DataError, SchemeError, TinytrainError
from tinytrain.jobs import Jobs
from tinytrain.paths import cache_dir
from tinytrain.report.live import Progress
from tinytrain.report.page import SWEEP_FORMAT, board_json
from tinytrain.report.plot import figure, png
from tinytrain.schemes.scheme import LEAST_RATE, MOST_RATE
from tinytrain.search.contribution import Contributions
from tinytrain.search.cost import Costs
from tinytrain.search.search import CONTRIBUTIONS, Chosen, Effort, Method, search, search_trained, sweep_text
from tinytrain.search.space import Budget, space
from tinytrain.search.trainings import Trainings

HALVING = "halving"


@dataclass(frozen=True)
class Request:
    """What is asked for; sizes in bytes, the rest as `tinytrain search --help` says."""

    data: Source | None = None
    contribution: Path | None = None
    sram: int | None = None
    flash: int | None = None
    step_instructions: int | None = None
    sweep: tuple[int, ...] | None = None
    method: Method = "exact"
    trials: int = 16
    lr_factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    evaluations: int = 300
    seconds: float = 120.0
    seed: int = 0
    measure: bool = False
    epochs: int = 5
    seeds: int = 3
    plot: Path | None = None
    report: Path | None = None
    output: Path | None = None
    processes: int | None = None
    cluster: str | None = None
    cache: Path | None = None

    @property
    def budgets(self) -> list[Budget]:
        return [Budget(ram, self.flash, self.step_instructions) for ram in self.sweep or (self.sram,)]


@dataclass(frozen=True)
class Found:
    """For each budget the best scheme, and its accuracy where that was measured, as those of presets that fill the same budget; None where
    nothing fits, or nothing was measured.
    """

    chosen: list[Chosen | None]
    accuracies: list[float | None]
    presets: list[dict[str, float | None]]
    files: tuple[Path, ...]

    def text(self, request: Request) -> str:
        """Lines for people."""
        if request.sweep:
            lines = [sweep_text(self.chosen, request.budgets, self.accuracies, self.presets)]
        else:
            lines = [one.text() for one in self.chosen if one]
            for accuracy, others in zip(self.accuracies, self.presets, strict=True):
                beside = "".join(f"; {name} {other:.2%}" for name, other in others.items() if other is not None)
                lines += [] if accuracy is None else [f"accuracy   {accuracy:.2%} after training it{beside}"]
        kinds = {request.plot: "plot", request.report: "report"}
        lines += [f"{kinds.get(path, 'scheme'):<10} {path}" for path in self.files]
        if request.output is not None and request.output not in self.files:
            lines.append(f"scheme     {request.output} is not written: nothing that fits the last budget gains anything")
        return "\n".join(lines)


def run(model: Path, options: Options, request: Request, progress: Progress) -> Found:
    """Search as asked, and write the files. Raises TinytrainError subclasses, and writes nothing then."""
    _check(model, options, request)
    costs = Costs(model, options)
    if request.step_instructions is not None and not costs.counted:
        message = f"--step-instructions: no instructions were counted on {costs.board.name}, so that none can be estimated."
        raise TinytrainError(message, hint="Choose the board that will train (--board; see tinytrain boards).")
    jobs = Jobs(request.processes, request.cluster, request.cache or cache_dir() / "jobs")
    found = _contributions(model, options, request, jobs, progress)
    if found is not None and found.model_sha256 != costs.prepared.hash.hex():
        message = f"{request.contribution} is an analysis of {found.model}, which is not {model} as it is now."
        raise DataError(message, hint="Analyse this model: `tinytrain contribution MODEL --data train.npz -o contribution.json`.")
    effort = Effort(request.method, request.evaluations, request.seconds, request.seed, request.trials, request.seeds, request.lr_factors)
    trainings = _trainings(model, options, request, jobs, progress)
    chosen: list[Chosen | None] = []
    if found is not None:
        progress.start("search", request.evaluations * len(request.budgets))
        by_sum = replace(effort, method="exact") if trainings and request.method == HALVING else effort
        try:
            chosen = search(costs, space(costs.layers, found.found), request.budgets, by_sum, progress.advance)
        except (DataError, SchemeError) as error:
            if request.method != HALVING:
                raise
            progress.say(f"{error.args[0]} The search by training starts without sums.")
    if request.method == HALVING:
        assert trainings is not None
        known = {f"sum under {one.budget.ram_bytes:,} B": one.scheme for one in chosen if one}
        chosen = search_trained(costs, known, request.budgets, effort, trainings)
    accuracies, presets = _measured(request, chosen, trainings)
    files = []
    if request.plot is not None:
        write_bytes(request.plot, _plotted(chosen, accuracies))
        files.append(request.plot)
    if request.report is not None:
        write_text(request.report, json.dumps(sweep_json(costs, chosen, accuracies, presets)) + "\n")
        files.append(request.report)
    if request.output is not None and chosen[-1] is not None:
        write_text(request.output, chosen[-1].scheme.to_toml())
        files.append(request.output)
    return Found(chosen, accuracies, presets, tuple(files))


def _check(model: Path, options: Options, request: Request) -> None:
    if request.data is None and request.method == HALVING:
        raise TinytrainError("--method halving trains schemes, and there are no samples.", hint="Give --data train.npz.")
    if request.data is None and request.contribution is None:
        raise TinytrainError("Nothing says what training a layer is worth.", hint="Give --data train.npz, or --contribution file.json.")
    if wrong := [rate for rate in request.lr_factors if not LEAST_RATE <= rate <= MOST_RATE]:
        message = f"--lr-factors has {wrong[0]:g}; expected factors of the learning rate from {LEAST_RATE:g} to {MOST_RATE:,.0f}."
        raise TinytrainError(message, hint="Try --lr-factors 0.3,1,3.")
    if request.measure and request.data is None:
        raise TinytrainError("--measure needs samples to train on.", hint="Give --data train.npz.")
    if request.plot is not None and not request.sweep:
        raise TinytrainError("--plot is of a sweep.", hint="Give --sweep 60K,100K,150K.")
    if request.sweep and request.sram is not None:
        raise TinytrainError("--sram and --sweep are both given; expected one of them.", hint="--sweep lists the budgets of RAM.")
    if options.loss is None:
        raise TinytrainError("--loss none: a model that only infers has no scheme to search.", hint="Give --loss ce, mse or bce.")
    if not request.sweep and request.sram is None and request.flash is None and request.step_instructions is None:
        raise TinytrainError("No budget is given; expected --sram, --flash, --step-instructions or --sweep.", hint="Try --sram 150K.")


def _contributions(model: Path, options: Options, request: Request, jobs: Jobs, bar: Progress) -> Contributions | None:
    """None for a search by training that was given no analysis: it needs none."""
    if request.contribution is not None:
        return Contributions.load(request.contribution)
    if request.method == HALVING:
        return None
    from tinytrain.search.analysis import Settings, analyse

    assert request.data is not None
    return analyse(model, request.data, None, options, Settings(epochs=request.epochs, seeds=request.seeds), jobs, bar)


def _trainings(model: Path, options: Options, request: Request, jobs: Jobs, bar: Progress) -> Trainings | None:
    """Where whole schemes are to be trained, what does it."""
    if request.data is None or not (request.measure or request.method == HALVING):
        return None
    from tinytrain.search.analysis import Settings, workload

    return Trainings(workload(model, request.data, None, options, Settings(epochs=request.epochs, seeds=request.seeds)), jobs, bar)


def _measured(
    request: Request, chosen: Sequence[Chosen | None], trainings: Trainings | None
) -> tuple[list[float | None], list[dict[str, float | None]]]:
    """Accuracies on held-back samples after training each scheme, and each preset of its budget; means over the seeds.

    Seeds by which a scheme was chosen, whole or in parts, are not those that say how good it is.
    """
    if not request.measure or trainings is None:
        return [None] * len(chosen), [{} for _ in chosen]
    schemes = [scheme for one in chosen if one for scheme in (one.scheme, *(preset.scheme for preset in one.presets))]
    found = dict(zip(map(repr, schemes), trainings.accuracies(schemes, request.seeds, request.seeds), strict=True))
    return (
        [found[repr(one.scheme)] if one else None for one in chosen],
        [{preset.scheme.preset: found[repr(preset.scheme)] for preset in one.presets} if one else {} for one in chosen],
    )


def sweep_json(
    costs: Costs, chosen: Sequence[Chosen | None], accuracies: Sequence[float | None], presets: Sequence[dict[str, float | None]]
) -> dict[str, Any]:
    """What a page shows of a sweep (docs/page.md): the schemes that were found, with what they cost and gain. Accuracies are 0 to 1."""
    points = [
        {
            "budget_bytes": one.budget.ram_bytes, "ram_bytes": one.cost.ram_bytes, "flash_bytes": one.cost.flash_bytes,
            "instructions": one.cost.instructions, "milliseconds": one.cost.estimate and one.cost.estimate.milliseconds,
            "gain": one.found.gain, "gained": one.gained, "accuracy": accuracy, "presets": others,
            "weights": one.cost.weights, "biases": one.cost.biases, "layers": list(one.scheme.layers), "scheme": one.scheme.to_toml(),
        }
        for one, accuracy, others in zip(chosen, accuracies, presets, strict=True) if one
    ]
    return {
        "format": SWEEP_FORMAT, "model": costs.prepared.path.name, "model_sha256": costs.prepared.hash.hex(),
        "board": board_json(costs.board), "points": points,
    }


def _plotted(chosen: Sequence[Chosen | None], accuracies: Sequence[float | None]) -> bytes:
    """PNG: what is gained over planned RAM, with instructions where they are known."""
    points = [(one, accuracy) for one, accuracy in zip(chosen, accuracies, strict=True) if one]
    drawn = figure()
    axes = drawn.add_subplot()
    measured = all(accuracy is not None for _, accuracy in points)
    x = [one.cost.ram_bytes / 1024 for one, _ in points]
    gained = "accuracy, %" if measured else next((one.gained for one, _ in points), CONTRIBUTIONS)
    lines = axes.plot(x, [(accuracy or 0) * 100 if measured else one.found.gain for one, accuracy in points], "o-", label=gained)
    axes.set(xlabel="planned RAM, KB", ylabel=gained)
    if all(one.cost.instructions is not None for one, _ in points):
        beside = axes.twinx()
        step = "million instructions a step (estimate)"
        lines += beside.plot(x, [(one.cost.instructions or 0) / 1e6 for one, _ in points], "s--", color="tab:gray", label=step)
        beside.set(ylabel=step, ylim=(0, None))
    drawn.legend(handles=lines, loc="outside upper center", ncols=2)
    return png(drawn)
