# SPDX-License-Identifier: Apache-2.0
"""What stands for an fp32 value where nothing may compute with floats, and what an op's integer form is made with.

real = mantissa·2^exponent·factor: the mantissa is a tensor s8 or s32, the exponent is found when the program runs, the factor is
known to the compiler (one, or one per channel) and is multiplied in where that costs nothing.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Declined
from tinytrain.ir.types import Array, Value


@dataclass(frozen=True, eq=False)
class Scaled:
    """An fp32 value as integers. `factor` is a float64 array of shape () or (C,)."""

    mantissa: Value
    exponent: Value
    factor: Array

    def times(self, factor: Array | float) -> Scaled:
        """Multiplied by constants, one or one per channel; equal ones count as one."""
        product = self.factor * np.asarray(factor, np.float64)
        same = product.ndim and bool((product == product.flat[0]).all())
        return dataclasses.replace(self, factor=np.asarray(product.flat[0]) if same else product)


Operand = Value | Scaled


class IntegerForms(Builder, ABC):
    """A builder that `Op.as_integer` emits with; `gradient/integer.py` is the one there is."""

    @abstractmethod
    def shared(self, name: str, data: Array) -> Value:
        """A constant; the same one wherever name and data are the same."""

    @abstractmethod
    def exponent(self, number: int) -> Value:
        """A constant exponent."""

    @abstractmethod
    def whole(self, x: Operand) -> Value:
        """The fp32 tensor itself, for the caller of an entry point: an int8 value by the table of its 256 meanings."""

    @abstractmethod
    def short(self, x: Scaled, unit: bool = False) -> Scaled:
        """The same in eight bits with at most one factor; with `unit`, none."""

    @abstractmethod
    def added(self, a: Scaled, b: Scaled, name: str) -> Scaled:
        """a + b; both in eight bits first, so that one shift brings them to a common exponent."""

    @abstractmethod
    def logits(self, x: Operand) -> tuple[Value, float, int, Value] | Declined:
        """int8 values that a softmax along the last axis takes, their scale, the bits of their table and the table."""

    @abstractmethod
    def moved(self, w: Value, grad: Operand, factor: Array, lr: Value, seed: int, counter: Value | None) -> Value | Declined:
        """w − lr·factor·grad in the integers of w (s8, or s32 of a bias); rounded at random with a counter, else to nearest.

        `factor` is one number, one per row (K, 1, …), or one per channel.
        """
