# SPDX-License-Identifier: Apache-2.0
"""Contribution analysis: each candidate trained alone, compiled and run as on a device, or scored by gradients."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinytrain import __version__
from tinytrain.atomic import write_bytes
from tinytrain.compiler import Compiled, Options, compile_model, load_forward, write
from tinytrain.data.dataset import Dataset
from tinytrain.data.given import Source
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.errors import DataError, ModelError, SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.jobs import Jobs
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.samples import load, split
from tinytrain.learn.training import train_decaying
from tinytrain.learn.unwritten import unwritten
from tinytrain.learn.yardstick import Diverged
from tinytrain.report.live import Progress, Quiet
from tinytrain.schemes.choose import choose
from tinytrain.schemes.scheme import Scheme, is_shift, layers, resolve
from tinytrain.search.contribution import BIAS_LAST, Candidate, Contribution, Contributions

TRAINED = "trained"
FEW = 200                                                 # samples are enough for a cheap score


@dataclass(frozen=True)
class Settings:
    """How to analyse: `ratios` of the input channels of each weight; epochs of each training, and how many seeds from the first on;
    `holdout`, the part of the data to measure accuracy on where no validation file is given, another one for each seed. Only `samples` of
    the data are used, a seeded choice; without a number all of them to train, and FEW for a cheap score.
    """

    score: str = TRAINED
    ratios: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    epochs: int = 5
    seeds: int = 3
    holdout: float = 0.2
    samples: int | None = None
    first_seed: int = 0


@dataclass(frozen=True, eq=False)
class Workload:
    """What all candidates share, complete: a worker needs no file. `model` is the ONNX file with all weights inside."""

    name: str
    model: bytes
    options: Options
    settings: Settings
    samples: Dataset
    held: Dataset | None

    def digest(self) -> str:
        """Of everything that a result depends on, but the candidate."""
        options = {**asdict(dataclasses.replace(self.options, scheme="")), "settings": asdict(self.settings)}
        for key in ("ratios", "samples"):                 # a candidate does not know of the others; the samples themselves are below
            del options["settings"][key]
        found = hashlib.sha256(json.dumps([__version__, self.name, options], sort_keys=True).encode())
        found.update(hashlib.sha256(self.model).digest())
        for data in (self.samples, self.held):
            for array in (data.x, data.y) if data else ():
                assert array is not None
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def analyse(
    model: Path, data: Source, validation: Source | None, options: Options, settings: Settings, jobs: Jobs, progress: Progress
) -> Contributions:
    """The contribution of every candidate of a model. `options.scheme` is not used.

    Raises DataError for data that does not fit the model or has one class only, ModelError where nothing of the model can be trained,
    and what `Jobs.run` raises.
    """
    if options.loss is None:
        raise DataError("Contributions need a loss to train with; found --loss none.", hint="Use --loss ce, mse or bce.")
    work = workload(model, data, validation, options, settings, progress)
    prepared, _, graph = load_forward(model, dataclasses.replace(work.options, int8_input=False))      # samples are real numbers
    possible, refused = _possible(graph, settings.ratios)
    result = Contributions(model.name, prepared.hash.hex(), settings.score, None, asdict(settings), (), refused=refused)
    return _trained(result, work, possible, jobs, progress) if settings.score == TRAINED else _scored(result, graph, work, possible)


def workload(
    model: Path, data: Source, validation: Source | None, options: Options, settings: Settings, progress: Progress | None = None
) -> Workload:
    """What `measure` needs to train a model. Raises DataError as `analyse` does."""
    options = dataclasses.replace(options, scheme="none", board="host", exact_seconds=0.0)
    samples, held = _data(compile_model(model, options), model, data, validation, settings, progress)
    return Workload(model.name, _embedded(model), options, settings, samples, held)


def _data(
    compiled: Compiled, model: Path, data: Source, validation: Source | None, settings: Settings, progress: Progress | None
) -> tuple[Dataset, Dataset | None]:
    """(samples to learn from and, without a validation file, to measure on; samples of the validation file)."""
    project = unwritten(compiled, model)
    samples = _some(load(project, data, "train", progress=progress), settings.samples or (None if settings.score == TRAINED else FEW))
    held = load(project, validation, "test", progress=progress, classes=samples.classes) if validation else None
    for path, found in ((data, samples), (validation, held)):
        if found is not None and found.y is not None and found.y.dtype.kind == "i" and len(np.unique(found.y)) == 1:
            message = f"{path} has samples of one class only ({int(found.y[0])}); expected two or more: any model learns to say one thing."
            raise DataError(message, hint="Give samples of several classes.")
    if held is None and settings.score == TRAINED and not int(len(samples) * settings.holdout):
        message = f"{data} holds {len(samples)} samples; a part of {settings.holdout:g} of them is none to measure accuracy on."
        raise DataError(message, hint="Give more samples, a larger --holdout, or --validation.")
    accumulate = compiled.options.optimiser.accumulate
    if settings.score == TRAINED and len(samples) - (0 if held else int(len(samples) * settings.holdout)) < accumulate:
        message = f"{data} leaves fewer samples to train with than the {accumulate:,} that make one update."
        raise DataError(message, hint="Give more samples, or a smaller --accumulate.")
    return samples, held


def _some(samples: Dataset, count: int | None) -> Dataset:
    """A seeded choice, as files are often sorted by class; the order stays."""
    if count is None or count >= len(samples):
        return samples
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[:count])
    return samples.some(chosen)


def _embedded(model: Path) -> bytes:
    """The ONNX file with its external data inside."""
    import onnx

    from tinytrain.frontend.external import load_external_data

    loaded = onnx.load(model, load_external_data=False)
    load_external_data(loaded, model)
    return bytes(loaded.SerializeToString())


def candidates(graph: Graph, ratios: Sequence[float]) -> list[Candidate]:
    """For each layer its weight at each ratio and whatever else it has but shifts; then shifts by depth."""
    known = layers(graph)
    found = []
    for layer in known:
        for kind in layer.parameters:
            if not is_shift(kind):
                found += [Candidate(layer.name, kind, ratio) for ratio in sorted(set(ratios) if kind == "weight" else {1.0})]
    deep = [(depth, layer) for depth, layer in enumerate(reversed(known), start=1) if any(map(is_shift, layer.parameters))]
    return found + [Candidate(layer.name, BIAS_LAST, depth=depth) for depth, layer in deep]


Slices = tuple[tuple[str, tuple[int, ...]], ...]          # name of a stored value, and its channels that are trained; () for all


def _possible(graph: Graph, ratios: Sequence[float]) -> tuple[dict[Candidate, Slices], dict[str, str]]:
    """(candidate → what it trains, refused candidate → why). Ratios that come to the same channels train the same."""
    possible, refused = {}, {}
    for candidate in candidates(graph, ratios):
        try:
            possible[candidate] = _slices(graph, candidate)
        except SchemeError as error:
            refused[str(candidate)] = error.sentences[0]
    return possible, refused


def _slices(graph: Graph, candidate: Candidate) -> Slices:
    """The channels that the compiler chooses, by their numbers in the model."""
    _, trained = choose(resolve(candidate.scheme, graph), graph)
    found = []
    for value, how in trained.items():
        chosen: tuple[int, ...] = ()
        if how.want.channels is not None:
            axis = how.want.axis % len(value.shape)
            order = dict(value.source.take).get(axis) if value.source else None
            chosen = tuple(sorted((order or range(value.shape[axis]))[slice(*how.want.channels)]))
        found.append((value.name, chosen))
    return tuple(found)


# --- trained ------------------------------------------------------------------------------------------------------


def _trained(
    result: Contributions, work: Workload, possible: dict[Candidate, Slices], jobs: Jobs, progress: Progress
) -> Contributions:
    first: dict[Slices, Candidate] = {}
    for candidate, slices in possible.items():
        first.setdefault(slices, candidate)
    digest = work.digest()

    def key(candidate: Candidate) -> str:
        return hashlib.sha256(f"{digest} {possible[candidate]}".encode()).hexdigest()

    measured: dict[Slices, dict[str, Any]] = {}
    refused = dict(result.refused)
    progress.start("contribution", len(first))
    for candidate, found in jobs.run(partial(measure, work), list(first.values()), key):
        if "refused" in found:
            refused[str(candidate)] = found["refused"]
            line = f"{candidate}: left out: {found['refused']}"
        else:
            measured[possible[candidate]] = found
            line = f"{candidate}: {_signed(found)}"
        progress.advance(line)
        progress.say(line)
    done = {candidate: measured[slices] for candidate, slices in possible.items() if slices in measured}
    if not done:
        raise ModelError(f"Nothing of {work.name} can be trained: {next(iter(refused.values()), 'it has no parameters')}")
    before = [found["before"] for found in done.values() if found["before"] is not None]
    return dataclasses.replace(
        result, refused=refused, before=statistics.mean(before) if before else None,
        found=tuple(
            Contribution(candidate, statistics.mean(found["gains"]), statistics.mean(found["drops"]), tuple(found["gains"]))
            for candidate, found in done.items()
        ),
    )


def _signed(found: dict[str, Any]) -> str:
    gain = statistics.mean(found["gains"])
    return f"{gain:+.4f} of loss" if found["before"] is None else f"{100 * gain:+.2f} points"


class Trainable(Protocol):
    """A candidate, or whatever else has a scheme of its own."""

    @property
    def scheme(self) -> str | Scheme: ...

    @property
    def rates(self) -> tuple[float, ...]: ...


def measure(work: Workload, candidate: Trainable) -> dict[str, Any]:
    """Train one candidate alone, once a seed at each of its rates, by the host twin in a folder of its own.

    {"before": mean accuracy before or None, "gains": accuracy won with each seed, "drops": loss lost with each seed}, or {"refused": why}.
    """
    with tempfile.TemporaryDirectory(prefix="tinytrain-") as temporary:
        model = Path(temporary) / work.name
        write_bytes(model, work.model)
        try:
            compiled = compile_model(model, dataclasses.replace(work.options, scheme=candidate.scheme))
        except (ModelError, SchemeError) as error:
            return {"refused": error.sentences[0]}
        write(compiled, Path(temporary) / "project")
        with Project.open(Path(temporary) / "project").session() as session:
            first = work.settings.first_seed
            seeds = range(first, first + work.settings.seeds)
            rates = [work.options.optimiser.learning_rate * factor for factor in candidate.rates]
            trials = [_trial(session, work, rate, seed) for rate in rates for seed in seeds]
    accuracies = [before for before, _, _ in trials if before is not None]
    return {
        "before": statistics.mean(accuracies) if accuracies else None,
        "gains": [gain for _, gain, _ in trials], "drops": [drop for _, _, drop in trials],
    }


def _trial(session: Session, work: Workload, rate: float, seed: int) -> tuple[float | None, float, float]:
    """(accuracy before, gain, drop of the loss) of one training; the learning rate falls in equal steps towards zero.

    Without labels the gain is the drop. Training that diverges loses all accuracy, and as much again of the loss as there was.
    """
    settings, optimiser = work.settings, work.options.optimiser
    samples, held = (work.samples, work.held) if work.held else split(work.samples, settings.holdout, seed)
    assert held is not None, "checked where the data is read"
    session.reset()
    before = evaluate(session, held, Quiet())
    try:
        train_decaying(session, samples, rate, settings.epochs, seed, optimiser.accumulate)
        after = evaluate(session, held, Quiet())
        loss, accuracy = after.loss, after.accuracy
    except Diverged:
        loss, accuracy = 2 * before.loss, 0.0
    drop = before.loss - loss if np.isfinite(loss) else -before.loss
    return before.accuracy, drop if before.accuracy is None or accuracy is None else accuracy - before.accuracy, drop


# --- scored -------------------------------------------------------------------------------------------------------


def _scored(result: Contributions, graph: Graph, work: Workload, possible: dict[Candidate, Slices]) -> Contributions:
    from tinytrain.search.scores import sensitivities

    options, samples, settings = work.options, work.samples, work.settings
    assert options.objective is not None
    names = {value.name: (layer.name, kind) for layer in layers(graph) for kind, value in layer.parameters.items()}
    found = sensitivities(graph, options.objective, samples, settings.score, options.optimiser)
    contributions = []
    for candidate, slices in possible.items():
        if all(names[value] in found for value, _ in slices):
            parts = [found[names[value]].of(chosen) for value, chosen in slices]
            contributions.append(Contribution(candidate, sum(parts)))
    channels: dict[str, dict[str, list[float]]] = {}
    for (layer, kind), sensitivity in found.items():
        channels.setdefault(layer, {})[kind] = [float(share) for share in sensitivity.shares]
    return dataclasses.replace(result, found=tuple(contributions), channels=channels)
