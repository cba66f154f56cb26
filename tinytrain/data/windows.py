# SPDX-License-Identifier: Apache-2.0
"""Series cut into windows: rows (time, channels) → samples (n, window, channels)."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.data.arrays import MOST_BYTES
from tinytrain.data.file import DataFile
from tinytrain.errors import DataError
from tinytrain.ir.types import Array


def cut(file: DataFile, x: Array, y: Array | None, *, labels: bool) -> tuple[Array, Array | None, tuple[str, ...]]:
    """(windows, their targets, notes) of a series with one row of `x`, and one of `y`, for each step of time.

    A window has the label that all its rows have; one with several is left out. Of other targets it has that of its last row.
    Raises DataError where the rows do not make one window, or the windows are too large.
    """
    window, step = file.window, file.stride
    if x.ndim not in (1, 2):
        message = f"{file} holds samples of shape {x.shape[1:]}; expected rows of numbers to cut windows from."
        raise DataError(message, hint="Leave --window out: they are windows already.")
    if y is not None and len(y) != len(x):
        raise DataError(f"{file} holds {len(x):,} rows but {len(y):,} targets; expected as many.", hint="Store one target a row.")
    if len(x) < window:
        message = f"{file} holds {len(x):,} rows; expected at least the {window:,} of one window."
        raise DataError(message, hint="Give a longer series, or a smaller --window that the model takes.")
    starts = np.arange(0, len(x) - window + 1, step)
    notes: tuple[str, ...] = ()
    if y is not None and labels:
        rows = y.reshape(len(y), -1)
        changes = np.concatenate([[0], np.cumsum((rows[1:] != rows[:-1]).any(axis=1))])
        whole = changes[starts] == changes[starts + window - 1]
        if not whole.any():
            message = f"{file}: none of its {len(starts):,} windows of {window:,} rows has one label for all of them."
            raise DataError(message, hint="Give a smaller --window or --step, or labels that last longer.")
        if not whole.all():
            notes = (f"{int((~whole).sum()):,} of {len(starts):,} windows with more than one label are left out",)
        starts = starts[whole]
    if 4 * len(starts) * window * math.prod(x.shape[1:]) > MOST_BYTES:
        message = f"{file} gives {len(starts):,} windows of {window:,} rows; expected at most {MOST_BYTES:,} bytes of them as fp32."
        raise DataError(message, hint="Give a larger --step, or fewer rows.")
    series = x.reshape(len(x), -1)
    windows = np.lib.stride_tricks.sliding_window_view(series, window, axis=0)[starts].transpose(0, 2, 1)
    ends = starts + window - 1
    return windows, None if y is None else y[ends], (f"{len(starts):,} windows of {window:,} rows, one each {step:,}", *notes)
