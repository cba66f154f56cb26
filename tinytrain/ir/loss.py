# SPDX-License-Identifier: Apache-2.0
"""What a loss is: the op at which the walk back begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tinytrain.ir.op import Op
from tinytrain.ir.types import TensorType

if TYPE_CHECKING:
    from tinytrain.ir.builder import Builder
    from tinytrain.ir.types import Value


@dataclass(frozen=True)
class Loss(Op):
    """(output of the model, target) -> (loss of one element, ...). Its vjp starts the walk: d loss / d loss is 1, `grads` is ignored.

    `key` is its name on the command line, `options` are those of its attributes that can be chosen there; `absorbs` are final activations
    that the loss already contains. `labelled`: it reads its target.
    """

    key: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[type[Op], ...]] = ()
    labelled: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def target_type(self, output: TensorType) -> TensorType:
        """Type of the target that goes with an output; raises ValueError where the loss does not fit the output."""
        raise NotImplementedError(self.name)

    def bounds(self, output: TensorType) -> tuple[float, float]:
        """Losses between which a sample is learned from, unless others are set: below them it is known, above them not to be trusted."""
        return 0.0, math.inf

    @classmethod
    def of(cls, **chosen: Any) -> Loss:
        """The loss with what was chosen of its options."""
        return cls(**chosen)

    def emit(self, g: Builder, output: Value, target: Value) -> Value:
        """Emit the loss, and before it what its operands are made by; returns its first output."""
        return g.emit(self, output, target, name="loss")
