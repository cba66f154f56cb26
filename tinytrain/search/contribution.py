# SPDX-License-Identifier: Apache-2.0
"""What training a part of a model alone is worth: by how much it raises the accuracy on the user's data (arXiv 2206.15472, 3.2).

A candidate is trained by the host twin, which learns as the device will; each is a job of its own. Where data or time is short,
the scores of `scores.py` stand in. `tinytrain.search.analysis` does the work; here is what it finds, and its file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinytrain.atomic import write_text
from tinytrain.errors import DataError
from tinytrain.report.text import table
from tinytrain.schemes.scheme import Scheme, Select

FORMAT = 1
BIAS_LAST = "bias-last"


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
        hint = "Make one: `tinytrain contribution MODEL --data train.npz -o contribution.json`."
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            found = tuple(_contribution(**one) for one in data.pop("found"))
            return cls(**data, found=found)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.", hint=hint) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no contribution analysis: {error}.", hint=hint) from None


def _number(gain: float | None, points: bool) -> str:
    return "" if gain is None else f"{100 * gain:+.2f}" if points else f"{gain:.3g}"


def _contribution(candidate: dict[str, Any], gain: float, loss_drop: float, gains: list[float]) -> Contribution:
    return Contribution(Candidate(**candidate), float(gain), float(loss_drop), tuple(map(float, gains)))
