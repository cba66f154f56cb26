# SPDX-License-Identifier: Apache-2.0
"""What is likely to be wrong with samples that nothing forbids to learn from."""

from __future__ import annotations

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.data.labels import class_names, listed


def concerns(samples: Dataset, classes: int) -> tuple[str, ...]:
    """Sentences without a full stop, about samples to train with; `classes` of the model, 0 where its targets are no labels."""
    found = []
    if len(samples) == 1:
        found.append("there is one sample only: whatever is learned is about that one")
    elif (samples.x == samples.x[0]).all():
        found.append(f"all {len(samples):,} samples are the same")
    if samples.y is not None and samples.y.dtype.kind == "i" and samples.y.ndim == 1 and classes:
        counts = np.bincount(samples.y, minlength=classes)
        names = class_names(samples.classes, classes)
        if np.count_nonzero(counts) == 1 and len(samples) > 1:
            found.append(f"all samples are of one class, {names[int(counts.argmax())]}: a model learns to say nothing else")
        elif not counts.all():
            missing = [name for name, count in zip(names, counts, strict=True) if not count]
            found.append(f"{len(missing):,} of {classes:,} classes have no sample: {listed(missing)}")
    if samples.odd is not None and samples.odd.any():
        found.append(f"{int(samples.odd.sum()):,} of {len(samples):,} samples are not normal: the model learns to give these back, too")
    return tuple(found)
