# SPDX-License-Identifier: Apache-2.0
"""How a training went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinytrain.api import html
from tinytrain.learn.state import Epoch, Record, epoch_text


@dataclass(frozen=True, repr=False)
class History:
    """The epochs of one training, in order; of a resumed one those before it too."""

    record: Record

    def __repr__(self) -> str:
        last = epoch_text(self[-1], self[-1].epoch) if len(self) else "no epoch"
        return f"<History: {' '.join(last.split())}>"

    def __len__(self) -> int:
        return len(self.record.epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.record.epochs)

    def __getitem__(self, epoch: int) -> Epoch:
        return self.record.epochs[epoch]

    @property
    def before(self) -> float:
        """Mean loss of some of the samples before the first step."""
        return self.record.before

    @property
    def untrained(self) -> Epoch | None:
        """What the validation samples said before the first step, as epoch 0; None in a training that was kept by an older version."""
        return self.record.untrained

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights are kept: the last one without validation samples; None where there is none."""
        return self.record.epochs[self.record.best - 1] if self.record.best else None

    @property
    def loss(self) -> list[float]:
        """Mean loss of each epoch, of each sample before its update."""
        return [epoch.loss for epoch in self]

    @property
    def accuracy(self) -> list[float | None]:
        """On the validation samples; None without them, or where targets are no labels."""
        return [epoch.accuracy for epoch in self]

    @property
    def validation_loss(self) -> list[float | None]:
        return [epoch.validation_loss for epoch in self]

    def _repr_html_(self) -> str:
        rows: list[list[object]] = [["epoch", "loss", "validation loss", "accuracy", "samples", "seconds"]]
        rows += [[e.epoch, e.loss, e.validation_loss, None if e.accuracy is None else f"{e.accuracy:.2%}", e.steps, round(e.seconds, 1)]
                 for e in self]
        return html.table(rows, heading=True) + (html.curve("loss", self.loss) if len(self) > 1 else "")
