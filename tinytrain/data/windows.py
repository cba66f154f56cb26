# SPDX-License-Identifier: Apache-2.0
"""Series cut into windows: rows (time, channels) → samples (n, window, channels)."""

from __future__ import annotations

import numpy as np

from tinytrain.data.arrays import MOST_BYTES
from tinytrain.data.file import DataFile
from tinytrain.errors import DataError
from tinytrain.ir.types import Array


def cut(file: DataFile, x: Array, y: Array | None, before: int, *, labels: bool) -> tuple[Array, Array | None, int]:
    """(windows, their targets, how many are left out) of a series with one row of `x`, and one of `y`, for each step of time.

    A window has the label that all its rows have; one with several is left out. Of other targets it has that of its last row.
    Raises DataError where the rows do not make one window, or where windows, with the bytes of those `before`, are beyond MOST_BYTES.
    """
    window = file.window
    if x.ndim not in (1, 2):
        message = f"{file} holds samples of shape {x.shape[1:]}; expected rows of numbers to cut windows from."
        raise DataError(message, hint="Leave --window out: they are windows already.")
    if y is not None and (y.ndim == 0 or len(y) != len(x)):
        count = len(y) if y.ndim else 1
        raise DataError(f"{file} holds {len(x):,} rows but {count:,} targets; expected as many.", hint="Store one target a row.")
    if len(x) < window:
        message = f"{file} holds {len(x):,} rows; expected at least the {window:,} of one window."
        raise DataError(message, hint="Give a longer series, or a smaller --window that the model takes.")
    starts = every = np.arange(0, len(x) - window + 1, file.stride)
    if y is not None and labels:
        rows = y.reshape(len(y), -1)
        changes = np.concatenate([[0], np.cumsum((rows[1:] != rows[:-1]).any(axis=1))])
        starts = every[changes[every] == changes[every + window - 1]]
        if not len(starts):
            message = f"{file}: none of its {len(every):,} windows of {window:,} rows has one label for all of them."
            raise DataError(message, hint="Give a smaller --window or --step, or labels that last longer.")
    if before + 4 * len(starts) * window * (x.size // len(x)) > MOST_BYTES:           # said before they are made: a row is in many of them
        message = f"{file} gives more than {MOST_BYTES:,} bytes of windows as fp32{', with those before it' if before else ''}."
        raise DataError(message, hint="Give a larger --step, or fewer rows.")
    windows = np.lib.stride_tricks.sliding_window_view(x.reshape(len(x), -1), window, axis=0)[starts].transpose(0, 2, 1)
    return windows, None if y is None else y[starts + window - 1], len(every) - len(starts)
