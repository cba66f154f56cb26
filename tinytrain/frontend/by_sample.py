# SPDX-License-Identifier: Apache-2.0
"""Layers that take one map, in the middle of a model that has several: one by one, with the same weights, and joined again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from tinytrain.frontend.call import Call
from tinytrain.frontend.layout import Tensor
from tinytrain.frontend.taking import taken
from tinytrain.ops.shape import Concat

MOST = 32                                                 # maps; each is a call of its own


def by_sample(handler: Callable[[Call], Tensor]) -> Callable[[Call], Tensor]:
    """The handler of such a layer, for any number of maps along the first axis of operand 0."""
    @wraps(handler)
    def each(call: Call) -> Tensor:
        count = call.operand_shape(0)[0] if call.operand_shape(0) else 1
        if count == 1:
            return handler(call)
        if count > MOST:
            raise call.fail(f"its input has {count} maps along its first axis, expected at most {MOST}", "Export it with a batch of 1.")
        x = call.tensor()
        made = [handler(call.of_sample(n, taken(call, x, 0, np.array([n])))) for n in range(count)]
        order = (0, *(a for a in made[0].order if a != 0))
        parts = [call.view(one, order, tuple(one.shape[a] for a in order)) for one in made]
        return Tensor(call.emit(Concat(0, count), *parts), call.shape, order)

    return each
