# SPDX-License-Identifier: Apache-2.0
"""Whether samples are in the range that a model was trained with: their values say that it may be another, and the loss that it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.ir.types import F32
from tinytrain.learn.unlabelled import are_stand_ins

if TYPE_CHECKING:
    from tinytrain.device.session import Session

MOST = (16, 255)                                          # of grey values as they are stored
FEW = 8                                                   # samples
BETTER = 0.5                                              # part of the loss that is left where samples were in another range


def scale_doubt(session: Session, samples: Dataset) -> str | None:
    """A sentence about whole numbers from 0 to 16 or 255 where the loss of some samples falls to half once they are from 0 to 1.

    Nothing is learned. Raises DeviceError.
    """
    assert samples.y is not None and session.manifest is not None
    port = session.manifest.input
    if port.parts or not (port.dtype is F32 or port.quant) or are_stand_ins(session.manifest, samples.y):
        return None                                       # whole numbers may be what it takes
    few = samples.some(np.unique(np.linspace(0, len(samples) - 1, FEW).astype(int)))
    high = float(few.x.max())
    most = next((most for most in MOST if most / 2 < high <= most), None)
    if most is None or few.x.min() < 0 or (few.x != np.round(few.x)).any():
        return None
    # an error of what is given back is counted in the units of the sample
    unit = float(most) if few.itself else 1.0
    assert few.y is not None
    stored = _loss(session, few.x, few.y)
    scaled = _loss(session, few.x / most, few.y / most if few.itself else few.y) * unit**2
    if not scaled < BETTER * stored:
        return None
    return (
        f"values are whole numbers up to {high:g}; the loss of {len(few)} samples is {stored:.4g}, and {scaled:.4g} with values divided by "
        f"{most}: give --scale 1/{most} if the model was made for 0 to 1"
    )


def _loss(session: Session, x: np.ndarray, y: np.ndarray) -> float:
    mean = float(np.mean([session.evaluate(sample, target)[0] for sample, target in zip(x, y, strict=True)]))
    return mean if math.isfinite(mean) else math.inf
