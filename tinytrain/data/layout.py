# SPDX-License-Identifier: Apache-2.0
"""The axes of samples: as the ONNX model has them, as the device has them, and as a file may have them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinytrain.data.file import FIRST, LAST
from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import plain


@dataclass(frozen=True)
class Layout:
    """How samples look: ONNX shape without the batch, and the order of these axes on the device (`frontend.ports.Port.perm`)."""

    shape: tuple[int, ...]
    perm: tuple[int, ...]

    @property
    def device_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[a] for a in self.perm)

    def __str__(self) -> str:
        onnx = f"({', '.join(map(str, self.shape))}) as in the model"
        return onnx if self.device_shape == self.shape else f"{onnx}, or channels-last ({', '.join(map(str, self.device_shape))})"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def back(self) -> tuple[int, ...]:
        """The order of the device's axes in the model."""
        return tuple(int(axis) for axis in np.argsort(self.perm))

    @property
    def to_last(self) -> tuple[int, ...]:
        """The order of the model's axes that puts channels last; () where no axis is known to be that of channels."""
        if self.perm != tuple(range(len(self.perm))):
            return self.perm
        return (1, 2, 0) if len(self.shape) == 3 and self.shape[0] in (1, 3) else ()

    @property
    def last(self) -> tuple[int, ...]:
        """The shape with channels last; that of the model where they are not known."""
        return tuple(self.shape[a] for a in self.to_last) or self.shape

    @property
    def channel(self) -> int:
        """The axis of the model that counts channels: the last where it is not known."""
        return (self.to_last or (*self.perm, len(self.shape) - 1))[-1]

    @property
    def mixes(self) -> bool:
        """Whether it makes a difference where the channels are: there are several, and something else beside them."""
        return bool(self.to_last) and 1 < self.shape[self.channel] < self.size

    def from_last(self, x: Array) -> Array:
        """(n, …) with channels last, in the axes of the model."""
        return x.reshape(-1, *self.last).transpose(0, *(1 + int(axis) for axis in np.argsort(self.to_last)))


def axes_as_in_model(x: Array, layout: Layout, where: str, what: str, order: str | None) -> tuple[Array, tuple[str, ...]]:
    """((n, *layout.shape), doubts about it). Without an `order` the accepted shapes are tried from the most to the least explicit.

    Raises DataError for other shapes, for what is no number, and where there is nothing.
    """
    if x.dtype.kind not in "fiub":
        raise DataError(f"{where}: its {what} are of type {plain(str(x.dtype))}; expected numbers.", hint="Store them as float32 or uint8.")
    shape = tuple(x.shape[1:])
    if x.ndim == 0 or not len(x):
        raise DataError(f"{where} holds no {what}; expected at least one.", hint="Check how the file was written.")
    if order is not None and not layout.to_last:
        message = f"--layout {order}: no axis of the model's samples, {_text(layout.shape)}, is known to be that of channels."
        raise DataError(message, hint="Leave --layout out, and store samples as the model takes them.")
    flat = shape == (layout.size,) or (shape == () and layout.size == 1)
    doubts: tuple[str, ...] = ()
    if order != LAST and (shape == layout.shape or flat):
        if order is None and layout.mixes and flat:
            doubts = (f"rows of {layout.size:,} numbers are taken as {_text(layout.shape)}, channels first, as the model has them: "
                      f"give --layout {LAST} if they are not",)
        elif order is None and layout.mixes and layout.last == layout.shape:
            doubts = (f"axes of the same sizes, {_text(shape)}, are taken channels first, as the model has them: "
                      f"give --layout {LAST} if they are not",)
        return x.reshape(-1, *layout.shape), doubts
    if layout.to_last and order != FIRST and (shape == layout.last or (flat and order == LAST)):
        return layout.from_last(x), ()
    if order != LAST and _bare(shape) == _bare(layout.shape):
        return x.reshape(-1, *layout.shape), ()
    if layout.to_last and order != FIRST and _bare(shape) == _bare(layout.last):
        return layout.from_last(x), ()
    expected = {None: f"{layout}", FIRST: _text(layout.shape), LAST: _text(layout.last)}[order]
    message = f"{where}: its {what} have the shape {_text(shape)}; expected {expected}."
    raise DataError(message, hint="Crop, pad or resize them to that shape.")


def across(windows: Array, layout: Layout, order: str | None) -> tuple[Array, str | None, tuple[str, ...]]:
    """(windows (n, time, channels) of a series, the order to read them in, notes) for a model that has time last, first, or neither."""
    time, channels = windows.shape[1:]
    said = ("each channel in one piece" if order == FIRST else "step by step, all channels of each",) if channels > 1 else ()
    if layout.shape == (channels, time) and layout.to_last:
        return windows.transpose(0, 2, 1), order, ()
    if layout.shape == (layout.size,) and windows[0].size == layout.size:
        turned = windows.transpose(0, 2, 1) if order == FIRST else windows
        return turned.reshape(len(windows), -1), None, said
    if _bare(layout.shape) == _bare((channels, time)) != _bare((time, channels)):
        return windows.transpose(0, 2, 1), order, ()
    return windows, order, ()


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of a single element."""
    return tuple(size for size in shape if size != 1)


def _text(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
