# SPDX-License-Identifier: Apache-2.0
"""Resize: one table an axis (`resample.py`), the axis that shrinks most first."""

from __future__ import annotations

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, plain
from tinytrain.frontend.resample import NEAREST, REACH, TRANSFORMS, Resampling
from tinytrain.frontend.taking import taken
from tinytrain.ir.types import Array
from tinytrain.ops.elementwise import Add

POLICIES = ("stretch", "not_larger", "not_smaller")


@handles("Resize")
def resize(call: Call) -> Tensor:
    x = call.tensor()
    if 0 in call.shape:
        raise call.fail(f"it makes {call.shape} of {x.shape}, expected one element or more of each axis", "Correct its scales.")
    axes = tuple(a % len(x.shape) for a in call.integers("axes", plain(x.shape)))
    scales = _scales(call, x.shape, axes)
    transform = _one_of(call, "coordinate_transformation_mode", "half_pixel", TRANSFORMS)
    mode = _one_of(call, "mode", "nearest", ("nearest", *REACH))
    nearest = _one_of(call, "nearest_mode", "round_prefer_floor", tuple(NEAREST))
    roi = call.array(1, "roi").reshape(2, -1) if transform == "tf_crop_and_resize" else np.repeat([[0.0], [1.0]], len(axes), 1)
    antialias, exclude = (bool(call.integer(name)) for name in ("antialias", "exclude_outside"))
    beyond: list[tuple[int, Array]] = []                  # axis, which of its elements lie outside of a crop
    for at in sorted(range(len(axes)), key=lambda at: scales[at]):
        axis, ends = axes[at], (float(roi[0, at]), float(roi[1, at]))
        how = Resampling(mode, transform, nearest, call.number("cubic_coeff_a", -0.75), antialias, exclude, ends)
        index, weight = how.rows(x.shape[axis], call.shape[axis], scales[at])
        beyond.append((axis, (index < 0).reshape(len(index), -1)[:, 0]))
        x = taken(call, x, axis, index, weight)
    value = call.number("extrapolation_value", 0.0)
    return _filled(call, x, beyond, value) if value and any(outside.any() for _, outside in beyond) else x


def _one_of(call: Call, name: str, default: str, known: tuple[str, ...]) -> str:
    found = call.text(name, default)
    if found not in known:
        raise call.fail(f"its {name} is {found}, expected one of {', '.join(known)}", "Export it with one of these.")
    return found


def _scales(call: Call, shape: Dims, axes: Dims) -> list[float]:
    if call.has(2) and call.array(2, "scales").size:
        return [float(s) for s in call.array(2, "scales").reshape(-1)]
    sizes = [int(n) for n in call.array(3, "sizes").reshape(-1)]
    each = [size / shape[a] for size, a in zip(sizes, axes, strict=True)]
    policy = _one_of(call, "keep_aspect_ratio_policy", "stretch", POLICIES)
    return each if policy == "stretch" else [min(each) if policy == "not_larger" else max(each)] * len(axes)


def _filled(call: Call, x: Tensor, beyond: list[tuple[int, Array]], value: float) -> Tensor:
    """x, which is 0 outside of the crop, with a value there."""
    outside = np.zeros(x.shape, bool)
    for axis, which in beyond:
        outside |= which.reshape([-1 if a == axis else 1 for a in plain(x.shape)])
    more = np.where(outside, np.float32(value), np.float32(0)).transpose(x.order).reshape(ir_shape(x.shape, x.order))
    return Tensor(call.emit(Add(), x.value, call.model.graph.const(f"{call.result}_outside", more)), x.shape, x.order)
