# SPDX-License-Identifier: Apache-2.0
"""What training a part of a model alone is worth: by how much it raises the accuracy on the user's data (arXiv 2206.15472, 3.2).

A candidate is trained by the host twin, which learns as the device will; each is a job of its own. Where data or time is short,
the scores of `scores.py` stand in. `tinytrain.search.analysis` does the work; here is what it finds, and its file.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from tinytrain.atomic import write_text
from tinytrain.errors import DataError
from tinytrain.reading import read_limited, reading
from tinytrain.report.text import table
from tinytrain.schemes.scheme import Scheme, Select

FORMAT = 1
BIAS_LAST = "bias-last"
MOST_BYTES = 50_000_000
EXPECTED = "a contribution analysis"
MAKE_ONE = "Make one: `tinytrain contribution MODEL --data train.npz -o contribution.json`."

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Candidate:
    """`kind` is that of a parameter of `layer` (`weight`, `gamma`), of which `ratio` of the input channels are trained; or `bias-last`:
    the biases (`bias`, `beta`) of the last `depth` layers, of which `layer` is the first.
    """

    layer: str
    kind: str
    ratio: float = 1.0
    depth: int = 0

    @property
    def scheme(self) -> str | Scheme:
        """The scheme that trains this alone, or its name."""
        if self.kind == BIAS_LAST:
            return self.part
        return Scheme({self.layer: {self.kind: Select(self.ratio)}})

    @property
    def rates(self) -> tuple[float, ...]:
        """What to multiply the learning rate by, each in turn."""
        return (1.0,)

    @property
    def part(self) -> str:
        """Its name without the ratio."""
        return f"{BIAS_LAST}:{self.depth}" if self.kind == BIAS_LAST else f"{self.layer} {self.kind}"

    def __str__(self) -> str:
        return self.part + (f" {self.ratio:g}" if self.ratio < 1 else "")


@dataclass(frozen=True)
class Contribution:
    """What a candidate is worth, means over the seeds.

    `gain` is the accuracy after training it alone minus that before (0.02 = 2 points), `loss_drop` the loss before minus that after,
    which tells candidates apart where samples are few; `gains` are those of each seed. With a cheap score `gain` is that score,
    comparable only within one file. Where targets are no labels, `gain` is `loss_drop`.
    """

    candidate: Candidate
    gain: float
    loss_drop: float = 0.0
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class Contributions:
    """An analysis: of which model (SHA-256 of its file), by which `score` (`trained`, or one of the cheap ones), under which settings.

    `before` is the accuracy before any training (of `trained`, with labels). `channels` are the shares of input channels in a
    cheap score: layer → kind → one number for each. `refused`: candidates that cannot be trained, and why.
    """

    model: str
    model_sha256: str
    score: str
    before: float | None
    settings: dict[str, Any]
    found: tuple[Contribution, ...]
    channels: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """A table for people: layers and ratios, then the depths of the biases; gains in points of accuracy where they are that."""
        points = self.before is not None
        unit = "points of accuracy gained" if points else "loss taken away" if self.score == "trained" else self.score
        ratios = sorted({one.candidate.ratio for one in self.found})
        rows = [(f"contribution ({unit})", *(f"{ratio:g}" for ratio in ratios))]
        for name in dict.fromkeys(one.candidate.part for one in self.found):
            of_name = {one.candidate.ratio: one.gain for one in self.found if one.candidate.part == name}
            rows.append((name, *(_number(of_name.get(ratio), points) for ratio in ratios)))
        return table(rows)

    def save(self, path: Path) -> None:
        """Write as JSON. Raises OutputError."""
        write_text(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Contributions:
        """Raises DataError where the file is missing, or not made by `save`."""
        text = read_limited(path, MOST_BYTES, EXPECTED, DataError)
        with reading(path, EXPECTED, DataError, MAKE_ONE):
            data = json.loads(text)
            if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            found = tuple(_contribution(**_of(dict, one)) for one in _of(list, data.pop("found")))
            read = cls(**data, found=found)
            for one, kind in ((read.model, str), (read.model_sha256, str), (read.score, str), (read.settings, dict), (read.refused, dict)):
                _of(kind, one)
            channels = {
                layer: {kind: [_finite(share) for share in _of(list, shares)] for kind, shares in _of(dict, kinds).items()}
                for layer, kinds in _of(dict, read.channels).items()
            }
            return replace(read, before=None if read.before is None else _finite(read.before), channels=channels)


def _number(gain: float | None, points: bool) -> str:
    return "" if gain is None else f"{100 * gain:+.2f}" if points else f"{gain:.3g}"


def _contribution(candidate: dict[str, Any], gain: object, loss_drop: object, gains: object) -> Contribution:
    one = Candidate(**_of(dict, candidate))
    if not 0 < _finite(one.ratio) <= 1 or _of(int, one.depth) < 0 or (one.kind == BIAS_LAST) != (one.depth > 0):
        raise ValueError(f"a candidate has ratio {one.ratio} and depth {one.depth}")
    _of(str, one.layer), _of(str, one.kind)
    return Contribution(one, _finite(gain), _finite(loss_drop), tuple(map(_finite, _of(list, gains))))


def _of(kind: type[Kind], value: Any) -> Kind:
    if type(value) is not kind:
        raise ValueError(f"{value!r} stands where a {kind.__name__} is expected")
    return value


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} stands where a number is expected")
    return float(value)
