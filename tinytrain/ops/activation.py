# SPDX-License-Identifier: Apache-2.0
"""relu: y = max(x, 0);  dx = dy where y > 0                       clip: y = min(max(x, low), high);  dx = dy where low < y < high
leaky_relu: y = x where x > 0, else α·x;  dx = dy where y > 0, else α·dy
sigmoid: y = 1/(1 + e⁻ˣ);  dx = dy·y·(1 − y)                      tanh: y = tanh x;  dx = dy·(1 − y²)

Each gradient is a function of the output y, so that x need not be kept. Where it only asks on which side of a bound y lies, one bit
an element is enough: `pass_bits` makes the bits, `mask_grad` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.growth import SHRINKS, Bounded, Growth
from tinytrain.ir.op import ALL_HALVES, Declined, Elementwise, Example, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import F16, F32, S8, S32, U8, Array, TensorType, Value
from tinytrain.ir.words import PLAIN, Words, literal
from tinytrain.ops.simd import elementwise


def sigmoid(x: Array) -> Array:
    """1/(1 + e⁻ˣ) without overflow, in the type of x."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def _inside(name: str, low: float, high: float) -> str:
    """C condition low < name < high; an infinite bound is left out; a NaN is never inside."""
    bounds = [f"{name} > {literal(low)}"] if low > -math.inf else []
    bounds += [f"{name} < {literal(high)}"] if high < math.inf else []
    return " && ".join(bounds) or f"{name} == {name}"


@dataclass(frozen=True)
class OutputGrad(Elementwise):
    """Base of gradients over (dy, y) with y the output of the forward op."""

    args = ("dy", "y")
    results = ("dx",)
    kernels = elementwise()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, y = types
        if dy.shape != y.shape:
            raise ValueError(f"dy {dy.shape} against y {y.shape}")
        return (dy,)

    def as_mask(self) -> tuple[Op, Elementwise] | Declined:
        """The same gradient over one bit an element: (op from y to bits, op over (dy, bits))."""
        return no(f"{self.name} needs the value of each output, not only its side of a bound")


@dataclass(frozen=True)
class Activation(Elementwise):
    """Base of activations whose gradient is an `OutputGrad`."""

    differentiable = True
    kernels = elementwise()

    def gradient(self) -> OutputGrad:
        raise NotImplementedError(self.name)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(self.gradient(), dy, outputs[0], name=f"d_{inputs[0].name}"),)


@dataclass(frozen=True)
class Relu(Activation, Bounded):
    """x -> max(x, 0). ONNX Relu."""

    name = "relu"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.maximum(arrays[0], 0),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        # a NaN flows on: it must not look like a dead unit
        (x,), zero = operands, w.number(0.0)
        return (w.where(zero, x, zero, x),)

    def gradient(self) -> OutputGrad:
        return ReluGrad()


@dataclass(frozen=True)
class ReluGrad(OutputGrad, Bounded):
    """dy where y > 0, else 0."""

    name = "relu_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (np.where(y > 0, dy, np.zeros_like(dy)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (dy, y), zero = operands, w.number(0.0)
        return (w.where(y, zero, dy, zero),)

    def as_mask(self) -> tuple[Op, Elementwise] | Declined:
        return PassBits(), MaskGrad()


@dataclass(frozen=True)
class Clip(Activation, Bounded):
    """x -> min(max(x, low), high); an infinite bound is none. ONNX Clip, Relu6."""

    low: float = -math.inf
    high: float = math.inf

    name = "clip"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not self.low <= self.high:
            raise ValueError(f"the lower bound {self.low} is above the upper bound {self.high}")
        return (types[0],)

    def growth(self, *types: TensorType) -> Growth | None:
        return SHRINKS if self.low <= 0 <= self.high else None

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.clip(arrays[0], self.low, self.high),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,), low, high = operands, w.number(self.low), w.number(self.high)
        y = w.where(x, high, high, x) if self.high < math.inf else x
        return (w.where(low, x, low, y) if self.low > -math.inf else y,)

    def gradient(self) -> OutputGrad:
        return ClipGrad(self.low, self.high)


@dataclass(frozen=True)
class ClipGrad(OutputGrad, Bounded):
    """dy where low < y < high, else 0."""

    low: float = -math.inf
    high: float = math.inf

    name = "clip_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (np.where((y > self.low) & (y < self.high), dy, np.zeros_like(dy)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (dy, y), zero = operands, w.number(0.0)
        dx = w.where(w.number(self.high), y, dy, zero)
        return (w.where(y, w.number(self.low), dx, zero),)

    def as_mask(self) -> tuple[Op, Elementwise] | Declined:
        return PassBits(self.low, self.high), MaskGrad()


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """x -> x where x > 0, else alpha·x, with alpha >= 0: the sign of y is then that of x. ONNX LeakyRelu."""

    alpha: float = 0.01

    name = "leaky_relu"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not self.alpha >= 0:
            raise ValueError(f"a slope of {self.alpha}: only slopes of 0 and above are supported")
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (np.where(x > 0, x, x * x.dtype.type(self.alpha)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (w.where(x, w.number(0.0), x, w.mul(w.number(self.alpha), x)),)

    def gradient(self) -> OutputGrad:
        return LeakyReluGrad(self.alpha)


@dataclass(frozen=True)
class LeakyReluGrad(OutputGrad):
    """dy where y > 0, else alpha·dy."""

    alpha: float = 0.01

    name = "leaky_relu_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (np.where(y > 0, dy, dy * dy.dtype.type(self.alpha)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, y = operands
        return (w.where(y, w.number(0.0), dy, w.mul(w.number(self.alpha), dy)),)

    def as_mask(self) -> tuple[Op, Elementwise] | Declined:
        return PassBits(), MaskGrad(self.alpha)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """x -> 1/(1 + e⁻ˣ). ONNX Sigmoid."""

    name = "sigmoid"
    kernels = Elementwise.kernels

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (sigmoid(arrays[0]),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_sigmoidf({operands[0]})",)

    def gradient(self) -> OutputGrad:
        return SigmoidGrad()


@dataclass(frozen=True)
class SigmoidGrad(OutputGrad):
    """dy·y·(1 − y)."""

    name = "sigmoid_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (dy * (y * (1 - y)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, y = operands
        return (w.mul(dy, w.mul(y, w.sub(w.number(1.0), y))),)


@dataclass(frozen=True)
class Tanh(Activation):
    """x -> tanh x. ONNX Tanh."""

    name = "tanh"
    kernels = Elementwise.kernels

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.tanh(arrays[0]),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_tanhf({operands[0]})",)

    def gradient(self) -> OutputGrad:
        return TanhGrad()


@dataclass(frozen=True)
class TanhGrad(OutputGrad):
    """dy·(1 − y²)."""

    name = "tanh_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (dy * (1 - y * y),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, y = operands
        return (w.mul(dy, w.sub(w.number(1.0), w.mul(y, y))),)


def compared(count: int, op: Op, *types: TensorType) -> dict[str, int]:
    """Parameters of a kernel that makes the bits of that many elements at once."""
    return {"V": count}


def _from_below(op: PassBits, *types: TensorType) -> bool | Declined:
    return op.low > -math.inf or no("it has no lower bound")


@dataclass(frozen=True)
class PassBits(Op):
    """y -> u8[ceil(n/8)]: bit i % 8 of byte i // 8 is set where low < y[i] < high; the spare bits are 0."""

    low: float = 0.0
    high: float = math.inf

    name = "pass_bits"
    args = ("y",)
    results = ("bits",)
    kernels = (
        Kernel("activation", dtypes=(F32, U8), half=ALL_HALVES, shared=True),
        *(
            Kernel("activation", (F32, U8), isa, "pass_floats", _from_below, partial(compared, n), half=half)
            for isa, n, half in (("mve", 8, ()), ("rvv", 16, ALL_HALVES))
        ),
        Kernel("activation", (F16, U8), "mveh", "pass_floats", _from_below, partial(compared, 8)),
    )

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(((types[0].numel + 7) // 8,), U8),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y = arrays[0].ravel()
        return (np.packbits((y > self.low) & (y < self.high), bitorder="little"),)

    def inside(self, name: str) -> str:
        """The C condition that sets a bit."""
        return _inside(name, self.low, self.high)


@dataclass(frozen=True)
class MaskGrad(Elementwise, Bounded):
    """dy (f32, or an integer gradient), bits u8[ceil(n/8)] -> dy where the bit is set, else alpha·dy."""

    alpha: float = 0.0

    name = "mask_grad"
    kernels = (*elementwise(F32, U8), *(Kernel("elementwise", (dy, U8), macro="elementwise") for dy in (S8, S32)))
    args = ("dy", "bits")
    results = ("dx",)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, bits = types
        if bits != TensorType(((dy.numel + 7) // 8,), U8):
            raise ValueError(f"{bits} is no bit mask of {dy}")
        return (dy,)

    def growth(self, *types: TensorType) -> Growth | None:
        return SHRINKS if abs(self.alpha) <= 1 else None

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, bits = arrays
        passes = np.unpackbits(bits, count=dy.size, bitorder="little").astype(bool).reshape(dy.shape)
        return (np.where(passes, dy, dy * dy.dtype.type(self.alpha) if self.alpha else np.zeros_like(dy)),)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return ("int32_t", w.bits(pointer, i, whole.shape[-1] if whole.shape else 1)) if operand == 1 else None

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, bit = operands
        return (w.pick(bit, dy, w.mul(w.number(self.alpha), dy) if self.alpha else w.number(0.0)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        # of integers too
        dy, bit = operands
        return self.lanes(PLAIN, *operands) if self.alpha else (PLAIN.pick(bit, dy, "0"),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


_SHAPES = ((1,), (7,), (8,), (17,), (3, 5, 2))


def _examples(op: Op, count: int = 1) -> tuple[Example, ...]:
    return tuple(Example(op, f32(*[shape] * count)) for shape in _SHAPES)


Relu.examples = _examples(Relu())
ReluGrad.examples = _examples(ReluGrad(), 2)
Clip.examples = (*_examples(Clip(0.0, 6.0)), *(Example(op, f32((19,))) for op in (Clip(-0.5, 0.7), Clip(low=0.1), Clip(high=0.1), Clip())))
ClipGrad.examples = (
    *_examples(ClipGrad(0.0, 6.0), 2),
    *(Example(op, f32((19,), (19,))) for op in (ClipGrad(-0.5, 0.7), ClipGrad(low=0.1), ClipGrad(high=0.1), ClipGrad())),
)
LeakyRelu.examples = (*_examples(LeakyRelu()), Example(LeakyRelu(0.3), f32((11,))), Example(LeakyRelu(0.0), f32((11,))))
LeakyReluGrad.examples = (*_examples(LeakyReluGrad(), 2), Example(LeakyReluGrad(0.3), f32((11,), (11,))))
Sigmoid.examples = _examples(Sigmoid())
SigmoidGrad.examples = _examples(SigmoidGrad(), 2)
Tanh.examples = _examples(Tanh())
TanhGrad.examples = _examples(TanhGrad(), 2)
PassBits.examples = (*_examples(PassBits()), *(Example(op, f32((31,))) for op in (PassBits(-0.5, 0.7), PassBits(-math.inf, 0.2))))
MaskGrad.examples = tuple(
    Example(MaskGrad(alpha), (*f32(shape), TensorType(((TensorType(shape).numel + 7) // 8,), U8)), (0, 256))
    for alpha in (0.0, 0.1) for shape in _SHAPES
) + tuple(Example(MaskGrad(), (TensorType((19,), dtype), TensorType((3,), U8)), (0, 256)) for dtype in (S8, S32))
