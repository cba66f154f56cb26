# SPDX-License-Identifier: Apache-2.0
"""`tinytrain search` as a whole: contributions, search under one budget or several, measurement, table, plot, scheme file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any

from tinytrain.atomic import write_bytes, write_text
from tinytrain.compiler import Options
from tinytrain.data.given import Source
from tinytrain.errors import DataError, TinytrainError
from tinytrain.jobs import Jobs
from tinytrain.paths import cache_dir
from tinytrain.report.live import Progress
from tinytrain.report.page import SWEEP_FORMAT, board_json
from tinytrain.report.plot import figure, png
from tinytrain.search.contribution import Contributions
from tinytrain.search.cost import Costs
from tinytrain.search.search import Chosen, Effort, Method, Whole, search, sweep_text
from tinytrain.search.space import Budget, space


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
    """For each budget the best scheme, and its accuracy where that was measured; None where nothing fits, or nothing was measured."""

    chosen: list[Chosen | None]
    accuracies: list[float | None]
    files: tuple[Path, ...]

    def text(self, request: Request) -> str:
        """Lines for people."""
        if request.sweep:
            lines = [sweep_text(self.chosen, request.budgets, self.accuracies)]
        else:
            lines = [one.text() for one in self.chosen if one]
            lines += [f"accuracy   {accuracy:.2%} after training it" for accuracy in self.accuracies if accuracy is not None]
        kinds = {request.plot: "plot", request.report: "report"}
        lines += [f"{kinds.get(path, 'scheme'):<10} {path}" for path in self.files]
        if request.output is not None and request.output not in self.files:
            lines.append(f"scheme     {request.output} is not written: nothing fits the last budget")
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
    if found.model_sha256 != costs.prepared.hash.hex():
        message = f"{request.contribution} is an analysis of {found.model}, which is not {model} as it is now."
        raise DataError(message, hint="Analyse this model: `tinytrain contribution MODEL --data train.npz -o contribution.json`.")
    effort = Effort(request.method, request.evaluations, request.seconds, request.seed)
    progress.start("search", request.evaluations * len(request.budgets))
    chosen = search(costs, space(costs.layers, found.found), request.budgets, effort, progress.advance)
    accuracies = _measured(model, options, request, chosen, jobs, progress)
    files = []
    if request.plot is not None:
        write_bytes(request.plot, _plotted(chosen, accuracies))
        files.append(request.plot)
    if request.report is not None:
        write_text(request.report, json.dumps(sweep_json(costs, chosen, accuracies)) + "\n")
        files.append(request.report)
    if request.output is not None and chosen[-1] is not None:
        write_text(request.output, chosen[-1].scheme.to_toml())
        files.append(request.output)
    return Found(chosen, accuracies, tuple(files))


def _check(model: Path, options: Options, request: Request) -> None:
    if request.data is None and request.contribution is None:
        raise TinytrainError("Nothing says what training a layer is worth.", hint="Give --data train.npz, or --contribution file.json.")
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


def _contributions(model: Path, options: Options, request: Request, jobs: Jobs, bar: Progress) -> Contributions:
    if request.contribution is not None:
        return Contributions.load(request.contribution)
    from tinytrain.search.analysis import Settings, analyse

    assert request.data is not None
    return analyse(model, request.data, None, options, Settings(epochs=request.epochs, seeds=request.seeds), jobs, bar)


def _measured(
    model: Path, options: Options, request: Request, chosen: Sequence[Chosen | None], jobs: Jobs, bar: Progress
) -> list[float | None]:
    """Accuracy on held-back samples after training each scheme, the mean over the seeds."""
    if not request.measure or request.data is None:
        return [None] * len(chosen)
    from tinytrain.search.analysis import Settings, measure, workload

    work = workload(model, request.data, None, options, Settings(epochs=request.epochs, seeds=request.seeds))
    digest = work.digest()
    wholes = [Whole(one.scheme.to_toml(), one.scheme) if one else None for one in chosen]
    unique = list(dict.fromkeys(whole for whole in wholes if whole))
    bar.start("measure", len(unique))
    found: dict[Whole, float | None] = {}
    for whole, result in jobs.run(partial(measure, work), unique, lambda whole: sha256(f"{digest} {whole.toml}".encode()).hexdigest()):
        found[whole] = None if result.get("before") is None else result["before"] + mean(result["gains"])
        bar.advance("")
    return [None if whole is None else found[whole] for whole in wholes]


def sweep_json(costs: Costs, chosen: Sequence[Chosen | None], accuracies: Sequence[float | None]) -> dict[str, Any]:
    """What a page shows of a sweep (docs/page.md): the schemes that were found, with what they cost and gain. Accuracies are 0 to 1."""
    points = [
        {
            "budget_bytes": one.budget.ram_bytes, "ram_bytes": one.cost.ram_bytes, "flash_bytes": one.cost.flash_bytes,
            "instructions": one.cost.instructions, "milliseconds": one.cost.estimate and one.cost.estimate.milliseconds,
            "gain": one.found.gain, "accuracy": accuracy,
            "weights": one.cost.weights, "biases": one.cost.biases, "layers": list(one.scheme.layers), "scheme": one.scheme.to_toml(),
        }
        for one, accuracy in zip(chosen, accuracies, strict=True) if one
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
    gained = "accuracy, %" if measured else "sum of contributions"
    lines = axes.plot(x, [(accuracy or 0) * 100 if measured else one.found.gain for one, accuracy in points], "o-", label=gained)
    axes.set(xlabel="planned RAM, KB", ylabel=gained)
    if all(one.cost.instructions is not None for one, _ in points):
        beside = axes.twinx()
        step = "million instructions a step (estimate)"
        lines += beside.plot(x, [(one.cost.instructions or 0) / 1e6 for one, _ in points], "s--", color="tab:gray", label=step)
        beside.set(ylabel=step, ylim=(0, None))
    drawn.legend(handles=lines, loc="outside upper center", ncols=2)
    return png(drawn)
