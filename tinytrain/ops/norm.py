# SPDX-License-Identifier: Apache-2.0
"""batch_norm with frozen statistics: y = (x − μ)·σ⁻¹·γ + β, each of γ, β, μ, σ⁻¹ one per channel

dx = dy·γ·σ⁻¹        dγ[c] = Σ dy·(x − μ[c])·σ⁻¹[c]        dβ[c] = Σ dy
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Cost, Elementwise, Example, Fusable, Kernel, Wanted, f32
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.elementwise import SumTo
from tinytrain.ops.optimiser import Sgd


def _per_channel(flowing: TensorType, *operands: TensorType) -> None:
    for kind in operands:
        if kind.shape != flowing.shape[-1:]:
            raise ValueError(f"{kind} for {flowing}: one number per channel is expected")


@dataclass(frozen=True)
class BatchNorm(Elementwise):
    """x (..., C); gamma, beta, mean, inv_std (C,) -> y like x. ONNX BatchNormalization; inv_std = 1/√(variance + ε)."""

    name = "batch_norm"
    args = ("x", "gamma", "beta", "mean", "inv_std")
    wide = frozenset((3, 4))
    parameters = {1: "gamma", 2: "beta"}
    differentiable = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _per_channel(*types)
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, gamma, beta, mean, inv_std = arrays
        return ((x - mean) * (gamma * inv_std) + beta,)

    def expr(self, *operands: str) -> tuple[str, ...]:
        x, gamma, beta, mean, inv_std = operands
        return (f"({x} - {mean}) * ({gamma} * {inv_std}) + {beta}",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, gamma, beta, mean, inv_std), dy = inputs, grads[0]
        assert dy is not None
        return (
            g.emit(BatchNormGradX(), dy, gamma, inv_std, name=f"d_{x.name}") if wanted[0] else None,
            g.emit(BatchNormGradGamma(), dy, x, mean, inv_std, name=f"d_{gamma.name}") if wanted[1] else None,
            g.emit(SumTo(beta.shape), dy, name=f"d_{beta.name}") if wanted[2] else None,
            None,                                         # the statistics are frozen
            None,
        )


@dataclass(frozen=True)
class BatchNormGradX(Elementwise):
    """dy (..., C); gamma, inv_std (C,) -> dx like dy."""

    name = "batch_norm_grad_x"
    args = ("dy", "gamma", "inv_std")
    wide = frozenset((2,))
    results = ("dx",)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _per_channel(*types)
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, gamma, inv_std = arrays
        return (dy * (gamma * inv_std),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, gamma, inv_std = operands
        return (f"{dy} * ({gamma} * {inv_std})",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class BatchNormGradGamma(Fusable):
    """dy, x (..., C); mean, inv_std (C,) -> dgamma (C,). One pass: no normalised copy of x exists."""

    name = "batch_norm_grad_gamma"
    args = ("dy", "x", "mean", "inv_std")
    wide = frozenset((2, 3))
    results = ("dgamma",)
    kernels = (Kernel("norm", half=(True, True, False)),)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, x, mean, inv_std = types
        if dy.shape != x.shape:
            raise ValueError(f"dy {dy.shape} against x {x.shape}")
        _per_channel(x, mean, inv_std)
        return (mean,)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x, mean, inv_std = arrays
        return ((dy * (x - mean)).reshape(-1, mean.size).sum(axis=0) * inv_std,)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=types[0].numel)


_SHAPES = ((1,), (7,), (3, 5, 1), (5, 3, 6), (2, 2, 8), (4, 1, 13))

BatchNorm.examples = tuple(Example(BatchNorm(), f32(x, *[x[-1:]] * 4)) for x in _SHAPES)
BatchNormGradX.examples = tuple(Example(BatchNormGradX(), f32(x, *[x[-1:]] * 2)) for x in _SHAPES)
BatchNormGradGamma.examples = (
    *(Example(BatchNormGradGamma(), f32(x, x, *[x[-1:]] * 2)) for x in _SHAPES),
    Example(BatchNormGradGamma(then=(Sgd(0.9),)), f32((3, 3, 6), (3, 3, 6), (6,), (6,), (6,), (1,), (6,))),
)
