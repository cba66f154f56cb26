# SPDX-License-Identifier: Apache-2.0
"""A memory of N samples: which of them a new one takes the place of, storing it, drawing one, and having it back. u is uniform.

reservoir  place = t where t < N, else j = ⌊u·(t + 1)⌋ where j < N; t' = t + 1        (Vitter, ACM TOMS 11:1, 1985)
balanced   where all places are taken: of a class that has lost none yet, that of any sample of the class with most of them; of another
           class c that of any of its own, with probability held[c] / seen[c]         (Chrysakis and Moens, ICML 2020)
remember   kept'[place] = x                    remember_short  kept'[place] = round(x / scale) + zero, scale and zero those of this x
draw       place = ⌊u·min(t, N)⌋
recall     x = kept[place]                     recall_short    x = (kept[place] − zero) · scale
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.op import ALL_HALVES, Example, Kernel, Op, f32
from tinytrain.ir.types import F32, S8, S32, U8, Array, DType, TensorType
from tinytrain.random import random_u32

_ONE = TensorType((1,), S32)
_MOST = 2**31 - 1                                         # samples are counted as far as this


def below(seed: int, counter: int, count: int) -> int:
    """Uniform from 0 to `count` - 1. A negative count, which only a damaged memory has, is read as the device does: mod 2³²."""
    return int(random_u32(seed, counter)) * (count & 0xFFFFFFFF) >> 32


def counted(seen: int) -> int:
    return min(seen + 1, _MOST)


@dataclass(frozen=True)
class Reservoir(Op):
    """seen s32[1] -> place s32[1], -1 for none; seen + 1."""

    samples: int
    seed: int = 0

    name = "reservoir"
    args = ("seen",)
    results = ("place", "next")
    concludes = True
    kernels = (Kernel("replay", (S32,)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types != (_ONE,):
            raise ValueError(f"samples seen {types}: s32[1] is expected")
        return (_ONE, _ONE)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        t = int(arrays[0][0])
        at = t if t < self.samples else below(self.seed, t, t + 1)
        return np.array([at if at < self.samples else -1], np.int32), np.array([counted(t)], np.int32)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),)


@dataclass(frozen=True)
class Balanced(Op):
    """seen s32[1 + 2C]: of all samples; of each class, seen and held; label s32[1], labels s32[N, 1] of what is kept -> place, seen'."""

    samples: int
    seed: int = 0

    name = "balanced"
    args = ("seen", "label", "labels")
    results = ("place", "next")
    concludes = True
    kernels = (Kernel("replay", (S32,)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        seen, label, labels = types
        if any(kind.dtype is not S32 for kind in types) or len(seen.shape) != 1 or seen.numel < 3 or seen.numel % 2 == 0:
            raise ValueError(f"samples seen {seen}: s32[1 + 2C] of C classes is expected")
        if label.numel != 1 or labels.numel != self.samples:
            raise ValueError(f"label {label}, labels {labels}: one, and one for each of {self.samples} are expected")
        return (_ONE, seen)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        seen, label, labels = arrays[0].astype(np.int64), int(arrays[1].reshape(-1)[0]), arrays[2].reshape(-1)
        classes, t = len(seen) // 2, int(seen[0])
        of, held = seen[1 : 1 + classes], seen[1 + classes :]
        place, lost = t, -1
        if t >= self.samples:
            most = int(held.argmax())
            whole = of[label] == held[label] and held[label] < held[most]
            lost = most if whole else label
            turn = below(self.seed, t, int(held[most]) if whole else counted(int(of[label])))
            places = np.flatnonzero(labels == lost)
            place = int(places[turn]) if turn < min(held[lost], len(places)) else -1
        seen[0], of[label] = counted(t), counted(int(of[label]))
        if place >= 0:
            held[label] = counted(int(held[label]))
            if lost >= 0:
                held[lost] -= 1
        return np.array([place], np.int32), np.asarray(seen.astype(np.int32))

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),)


@dataclass(frozen=True)
class Draw(Op):
    """seen s32[...], count s32[1] of draws before -> place s32[1] of any sample that is kept."""

    samples: int
    seed: int = 0

    name = "draw"
    args = ("seen", "count")
    results = ("place",)
    kernels = (Kernel("replay", (S32,)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].dtype is not S32 or types[1] != _ONE:
            raise ValueError(f"samples seen {types[0]}, draws {types[1]}: s32 and s32[1] are expected")
        return (_ONE,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        seen, count = arrays
        return (np.array([below(self.seed, int(count[0]), min(int(seen[0]) & 0xFFFFFFFF, self.samples))], np.int32),)


def _work(params: Mapping[str, int], op: Op, *types: TensorType) -> dict[str, float]:
    """Of what is kept, one sample is moved."""
    sample = next(kind.numel // kind.shape[0] for kind, name in zip(types, op.args, strict=True) if name == "kept")
    return {"mac": 0.0, "patch": 0.0, "out": float(sample), "in": float(sample)}


def _moves(*dtypes: DType) -> Kernel:
    return Kernel("replay", dtypes, half=ALL_HALVES if F32 in dtypes else (), work=_work)


@dataclass(frozen=True)
class Remember(Op):
    """x (...), kept (N, ...), place s32[1] -> kept with x there; as it was where the place is below 0."""

    name = "remember"
    args = ("x", "kept", "place")
    results = ("next",)
    wide = frozenset((1, ~0))
    kernels = tuple(_moves(dtype, dtype, S32, dtype) for dtype in (F32, S8, S32))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, kept, place = types
        if kept.shape[1:] != x.shape or kept.dtype is not x.dtype or place != _ONE:
            raise ValueError(f"{x} for {kept} at {place}: samples of one kind and s32[1] are expected")
        return (kept,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, kept, place = arrays
        kept = kept.copy()
        if place[0] >= 0:
            kept[place[0]] = x
        return (kept,)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((1, 0),)


@dataclass(frozen=True)
class Recall(Op):
    """kept (N, ...), place s32[1] -> x (...)."""

    name = "recall"
    args = ("kept", "place")
    results = ("x",)
    wide = frozenset((0,))
    kernels = tuple(_moves(dtype, S32, dtype) for dtype in (F32, S8, S32))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        kept, place = types
        if place != _ONE:
            raise ValueError(f"place {place}: s32[1] is expected")
        return (TensorType(kept.shape[1:], kept.dtype, kept.quant),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        kept, place = arrays
        return (kept[int(place[0])].copy(),)


def _check_short(kept: TensorType, ranges: TensorType, place: TensorType) -> None:
    """uint8 has a zero point beside its scale, int8 has none. Raises ValueError."""
    if kept.dtype not in (S8, U8) or place != _ONE or ranges != TensorType((kept.shape[0], 2 if kept.dtype is U8 else 1)):
        raise ValueError(f"{kept} by {ranges} at {place}: int8 with a scale each, or uint8 with a scale and a zero point, are expected")


@dataclass(frozen=True)
class RememberShort(Op):
    """x f32 (...), kept s8 or u8 (N, ...), ranges f32 (N, 1 or 2), place s32[1] -> kept and ranges with x there."""

    name = "remember_short"
    least: ClassVar[float] = 1e-30                        # a smaller scale stands for a sample of zeros
    args = ("x", "kept", "ranges", "place")
    results = ("next", "next_ranges")
    wide = frozenset((2, ~1))
    kernels = tuple(_moves(F32, dtype, F32, S32, dtype, F32) for dtype in (S8, U8))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, kept, ranges, place = types
        _check_short(kept, ranges, place)
        if x.dtype is not F32 or kept.shape[1:] != x.shape:
            raise ValueError(f"{x} for {kept}: samples of one shape are expected")
        return (kept, ranges)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, kept, ranges, place = arrays[0], arrays[1].copy(), arrays[2].copy(), int(arrays[3][0])
        if place < 0:
            return kept, ranges
        real = x.dtype.type
        low, high = min(x.min(), real(0)), max(x.max(), real(0))
        signed = kept.dtype == np.int8
        scale = max(high, -low) * real(1 / 127) if signed else (high - low) * real(1 / 255)
        scale = scale if scale > real(self.least) else real(1)
        zero = real(0) if signed else np.rint(-low / scale)
        kept[place] = np.clip(np.rint(x / scale) + zero, -127 if signed else 0, 127 if signed else 255)
        ranges[place] = [scale] if signed else [scale, zero]
        return kept, ranges

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((1, 0), (2, 1))


@dataclass(frozen=True)
class RecallShort(Op):
    """kept s8 or u8 (N, ...), ranges f32 (N, 1 or 2), place s32[1] -> x f32 (...)."""

    name = "recall_short"
    args = ("kept", "ranges", "place")
    results = ("x",)
    wide = frozenset((1,))
    kernels = tuple(_moves(dtype, F32, S32, F32) for dtype in (S8, U8))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        kept, ranges, place = types
        _check_short(kept, ranges, place)
        return (TensorType(kept.shape[1:]),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        kept, ranges, place = arrays[0], arrays[1], int(arrays[2][0])
        zero = ranges[place, 1] if ranges.shape[1] == 2 else ranges.dtype.type(0)
        return ((kept[place].astype(ranges.dtype) - zero) * ranges[place, 0],)


def _s32(*shape: int) -> TensorType:
    return TensorType(shape, S32)


Reservoir.examples = tuple(Example(Reservoir(8, 3), (_ONE,), (t, t + 1)) for t in (-5, 0, 7, 8, 11, 12, 5000, _MOST - 1))
Balanced.examples = tuple(
    Example(Balanced(samples, seed), (_s32(7), _ONE, _s32(samples, 1)), (seen, (0, 3), (0, 3)))
    for samples, seen, seeds in ((6, (1, 4), 1), (6, (9, 10), 2), (2, (2, 5), 9), (6, (-9, 0), 2)) for seed in range(seeds)
)
Draw.examples = tuple(Example(Draw(9, 5), (_s32(k), _ONE), ((t, t + 1), (0, 99))) for k, t in ((1, 1), (1, 4), (5, 700), (1, -5)))
Remember.examples = tuple(
    Example(Remember(), (TensorType(shape, dtype), TensorType((3, *shape), dtype), _ONE), ((-9, 9), (-9, 9), place))
    for dtype in (F32, S8, S32) for shape, place in (((5,), (1, 2)), ((2, 3, 4), (-1, 0)))
)
Recall.examples = tuple(
    Example(Recall(), (TensorType((3, *shape), dtype), _ONE), ((-9, 9), (place, place + 1)))
    for dtype in (F32, S8, S32) for shape, place in (((5,), 2), ((2, 3, 4), 0))
)
RememberShort.examples = tuple(
    Example(RememberShort(), (*f32(shape), TensorType((3, *shape), dtype), *f32((3, more)), _ONE), ((0, 99), (place, place + 1)), reals)
    for dtype, more in ((S8, 1), (U8, 2)) for shape, place in (((5,), 2), ((2, 3, 4), 0), ((3,), -1))
    for reals in ((1.0, 0.0), (2.0, 2.0), (0.0, 0.0))
)
RecallShort.examples = tuple(
    Example(RecallShort(), (TensorType((3, *shape), dtype), *f32((3, more)), _ONE), ((0, 99), (place, place + 1)))
    for dtype, more in ((S8, 1), (U8, 2)) for shape, place in (((5,), 2), ((2, 3, 4), 0))
)
