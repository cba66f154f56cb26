# SPDX-License-Identifier: Apache-2.0
"""What training each part of a model alone is worth: the accuracy that a candidate gains on the user's data (arXiv 2206.15472, 3.2).

A candidate is a layer's weight in part (`ratio` of its input channels, the most important ones), or the biases of the last `depth` layers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinytrain.atomic import write_text
from tinytrain.errors import DataError

FORMAT = 1


@dataclass(frozen=True)
class Candidate:
    """`kind` is that of a parameter of `layer` (`weight`, `gamma`), of which `ratio` of the input channels are trained; or `bias-last`:
    the biases (`bias`, `beta`) of the last `depth` layers, of which `layer` is the first.
    """

    layer: str
    kind: str
    ratio: float = 1.0
    depth: int = 0


@dataclass(frozen=True)
class Contribution:
    """What a candidate is worth: `gain` is the accuracy after training it alone minus that before (0.02 = 2 points), the mean of `gains`
    over the seeds; or a cheap score, larger for what matters more, comparable only within one file.
    """

    candidate: Candidate
    gain: float
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class Contributions:
    """An analysis: of which model (SHA-256 of the prepared file), by which `score`, with which accuracy before, under which settings."""

    model: str
    model_sha256: str
    score: str
    before: float | None
    settings: dict[str, Any]
    found: tuple[Contribution, ...]

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
            found = tuple(
                Contribution(Candidate(**one["candidate"]), float(one["gain"]), tuple(map(float, one["gains"]))) for one in data.pop("found")
            )
            return cls(**data, found=found)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.", hint=hint) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no contribution analysis: {error}.", hint=hint) from None
