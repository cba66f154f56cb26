# SPDX-License-Identifier: Apache-2.0
"""What `make methods` compares: a way to learn is a line of data, what `tinytrain compile` is given for it.

Schemes that fill a budget have the RAM that training the last layer takes, and the part ABOVE_HEAD of what training all takes more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tinytrain.compiler import Options
from tinytrain.data.dataset import Dataset
from tinytrain.data.given import Given
from tinytrain.gradient.update import Optimiser
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import Scheme, load, preset
from tinytrain.search.cost import Costs
from tinytrain.search.fill import drawn, fill, within
from tinytrain.search.sweep import Request
from tinytrain.search.sweep import run as search

BOARD = "mps2-an386"
ABOVE_HEAD = 0.25
RATES = {"digits": 0.06, "har": 0.01, "keyword": 0.003, "mnist": 0.005}  # of plain SGD


@dataclass(frozen=True)
class Place:
    """Where a scheme is made: a model, samples of the new world, a learning rate for them, a folder to keep it in, the seed of a run."""

    model: Path
    samples: Dataset
    rate: float
    folder: Path
    seed: int

    @cached_property
    def options(self) -> Options:
        return Options(board=BOARD, optimiser=Optimiser(self.rate))

    @cached_property
    def budget_bytes(self) -> int:
        head, full = (self.costs.cost(preset(name, self.costs.forward)).ram_bytes for name in ("head", "full"))
        return int(head + ABOVE_HEAD * (full - head))

    @cached_property
    def costs(self) -> Costs:
        return Costs(self.model, self.options)


def head_and_biases(place: Place) -> Scheme:
    forward = place.costs.forward
    return Scheme({**preset("bias", forward).layers, **preset("head", forward).layers}, "head and biases")


def filled(name: str) -> Callable[[Place], Scheme]:
    return lambda place: fill(name, place.costs, within(place.costs, place.budget_bytes))


def by_chance(place: Place) -> Scheme:
    return drawn(place.costs, within(place.costs, place.budget_bytes), place.seed)


def found(place: Place) -> Scheme:
    """What `tinytrain search` finds by the samples to learn from; once a model."""
    path = place.folder / "found.toml"
    if not path.is_file():
        data = Given(place.samples.x, place.samples.y)
        request = Request(
            data=data, sram=place.budget_bytes, epochs=2, seeds=1, seconds=30.0, output=path, processes=1, cache=place.folder / "search",
        )
        search(place.model, place.options, request, Quiet())
    return load(path)


@dataclass(frozen=True, eq=False)
class Way:
    """`choices` are those of `tinytrain compile`, `scheme` makes one that has no name there, `by_seed` another a seed; candidates for
    learning rates lie around the rate of the task times `times`. The model is that with int8 weights, or that which was pretrained with its
    batch norms (`norms`), or else the fp32 one without."""

    name: str
    title: str
    choices: dict[str, Any] = field(default_factory=dict)
    scheme: Callable[[Place], Scheme] | None = None
    by_seed: bool = False
    times: float = 1.0
    int8: bool = False
    norms: bool = False

    def rate(self, task: str) -> float:
        return self.times * RATES[task]


WAYS = (
    Way("full", "back-propagation through all layers"),
    Way("last:2", "the last two layers", {"scheme": "last:2"}),
    Way("head", "the last layer", {"scheme": "head"}, times=3),
    Way("bias", "biases alone", {"scheme": "bias"}, times=3),
    Way("head + biases", "the last layer and all biases", scheme=head_and_biases, times=3),
    Way("smallest:25", "a quarter of each weight: channels with the smallest norms", {"scheme": "smallest:25"}),
    Way("batchnorm", "batch norms alone", {"scheme": "batchnorm", "keep_batchnorm": True}, times=3, norms=True),
    Way("last:auto", "the last layers, as many as fill the budget", scheme=filled("last:auto")),
    Way("spread:auto", "slices of all layers that fill the budget", scheme=filled("spread:auto")),
    Way("random", "a scheme by chance that fills the budget, another for each seed", scheme=by_chance, by_seed=True),
    Way("found", "what `tinytrain search` finds under the budget", scheme=found),
    Way("local", "a loss of its own for each block", {"method": "local"}),
    Way("local-momentum", "the same; slow copies of the next layer teach", {"method": "local-momentum"}),
    Way("mono", "a loss of its own for each layer", {"method": "mono"}),
    Way("forward-forward", "goodness of right and wrong labels, layer by layer", {"method": "forward-forward"}),
    Way("counter-current", "a second network carries classes backwards", {"method": "counter-current"}),
    Way("noprop", "blocks learn from noised labels; for networks of that family", {"method": "noprop"}),
    Way("cascaded", "a predictor for each block of the frozen model", {"method": "cascaded"}),
    Way("ladder", "a side network beside the frozen model", {"method": "ladder:4"}),
    Way("lowrank", "low-rank adapters on frozen weights", {"method": "lowrank"}),
    Way("zeroth", "two forward passes, no backward one", {"method": "zeroth"}, times=30),
    Way("green", "of three schemes the device's own choice", {"scheme": ["last:1", "last:2", "full"], "method": "green"}),
    Way("int8", "int8 weights, fp32 gradients (QAS)", int8=True),
    Way("int8 ladder", "a side network beside the frozen int8 model", {"method": "ladder:4"}, int8=True),
    Way("int8 lowrank", "low-rank adapters on frozen int8 weights", {"method": "lowrank"}, int8=True),
    Way("int8 integer", "int8 weights and gradients", {"grad": "int8"}, int8=True),
)
