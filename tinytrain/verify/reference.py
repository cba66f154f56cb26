# SPDX-License-Identifier: Apache-2.0
"""The NumPy interpreter of graphs: it defines what is right. Everything that runs elsewhere is compared with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from tinytrain.ir.choosing import end_turn, in_turn, is_trial
from tinytrain.ir.graph import CHOICE, FALLS, LOSS_SCALE, SEEN, Graph, Node, Program, apply_of, replay_of
from tinytrain.ir.pack import packed
from tinytrain.ir.types import F32, Array, Role, Value
from tinytrain.ops.loss_scale import IN_A_ROW, PATIENCE


@dataclass(frozen=True)
class Result:
    """What one run of a graph gave: outputs in order, the new value of each updated one, and the intermediate values asked for.

    `lent` are PARAMs that were changed where they stand, as they were given back: they stay so even where no update is made.
    """

    outputs: tuple[Array, ...]
    updates: dict[Value, Array]
    values: dict[Value, Array]
    lent: dict[Value, Array]


def cast(value: Value, array: Array, dtype: DTypeLike = np.float32) -> Array:
    """An array in the element type of a value, where fp32 is replaced by `dtype`; the shape must be that of the value.

    What fp16 has no room for is stored as infinite (runtime_c/tt_half.h).
    """
    with np.errstate(over="ignore"):
        made = np.asarray(array).astype(np.dtype(dtype) if value.type.dtype is F32 else value.type.dtype.np, copy=False)
    assert made.shape == value.shape, f"{value!r} is given an array of shape {made.shape}"
    return made


def run(
    graph: Graph,
    inputs: Mapping[Value, Array] | Sequence[Array],
    state: Mapping[Value, Array] | None = None,
    dtype: DTypeLike = np.float32,
    keep: Iterable[Value] = (),
) -> Result:
    """Run a graph once. fp32 tensors are computed in `dtype`: float32, or float64 where a derivative is checked.

    `inputs` are in the order of the graph's, or by value. `state` stands in for the data of stored values. Intermediates are
    dropped after their last reader, except those in `keep`. Nothing given is changed.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(graph.inputs, inputs, strict=True))
    assert set(given) == set(graph.inputs), f"{graph.name} takes {graph.inputs}, given are {tuple(given)}"
    live = {v: cast(v, array, dtype) for v, array in given.items()}
    for v in graph.stored(Role.CONST, Role.PARAM, Role.STATE):
        array = state[v] if state is not None and v in state else v.data
        assert array is not None, f"{graph.name}: {v!r} is stored but has no data"
        live[v] = cast(v, array, dtype)
    wanted = graph.kept() | set(keep)
    dying = _last_reads(graph, wanted)
    for node in graph.nodes:
        for v, array in zip(node.outputs, evaluate(node, [live[v] for v in node.inputs], dtype), strict=True):
            live[v] = array
        for v in dying.get(node, ()):
            del live[v]
    return Result(
        tuple(live[v] for v in graph.outputs),
        {old: live[new] for old, new in graph.updates.items()},
        {v: live[v] for v in keep},
        {old: live[back] for old, back in graph.lent.items()},
    )


def evaluate(node: Node, arrays: list[Array], dtype: DTypeLike) -> list[Array]:
    """What a node makes of its operands, as it is stored."""
    if not node.op.view:                                  # fp16 is only stored
        arrays = [a.astype(dtype) if a.dtype == np.float16 else a for a in arrays]
    made = node.op.reference(*arrays)
    floating = [a.dtype for a in arrays if a.dtype.kind == "f"]
    for v, array in zip(node.outputs, made, strict=True):
        # an op that computes in another type than that of its inputs would hide errors of order 1e-8
        assert array.dtype.kind != "f" or not floating or array.dtype in floating, f"{node.op.name}: {floating} in, {array.dtype} out"
        assert v.type.dtype.is_float == (array.dtype.kind == "f"), f"{node.op.name}: {v!r} is given {array.dtype}"
    return [cast(v, array, dtype) for v, array in zip(node.outputs, made, strict=True)]


def _last_reads(graph: Graph, wanted: set[Value]) -> dict[Node, list[Value]]:
    """Node → values that nobody needs once it has run."""
    last: dict[Value, Node] = {}
    for node in graph.nodes:
        last.update(dict.fromkeys([*node.inputs, *node.outputs], node))
    dying: dict[Node, list[Value]] = {}
    for v, node in last.items():
        if v not in wanted and v.role in (Role.TEMP, Role.INPUT):
            dying.setdefault(node, []).append(v)
    return dying


class ReferenceModel:
    """A program with its parameters and optimiser state kept between calls, as a device keeps them."""

    def __init__(self, program: Program, dtype: DTypeLike = np.float32) -> None:
        self.program = program
        self.dtype = np.dtype(dtype)
        self.state: dict[Value, Array] = {}
        self.reset()

    def reset(self) -> None:
        """Back to the values that the program was compiled with, to its first scheme, and to the first thresholds."""
        self.count, self.scheme, self.skipped, self.not_finite = 0, 0, 0, 0
        self.skip_below, self.skip_above = self.program.bounds
        for v in self.program.stored(Role.PARAM, Role.STATE):
            assert v.data is not None, f"{v!r} is stored but has no data"
            self.state[v] = cast(v, v.data, self.dtype)

    def infer(self, x: Array) -> Array:
        """Output of the model for one sample, without the batch axis; several outputs are one record."""
        return self._record(self._run("infer", x).outputs)

    def evaluate(self, x: Array, target: Array) -> tuple[float, Array]:
        """(loss, output) of one sample; nothing is learned."""
        loss, *outputs = self._run("evaluate", x, target).outputs
        return float(loss[0]), self._record(outputs)

    def train_step(self, x: Array, target: Array) -> float:
        """Learn from one sample; returns its loss before the update. With accumulation, each N-th step applies the sum.

        A loss of magnitude below `skip_below` or above `skip_above` changes nothing but the number `skipped`; with guards a sample that is
        not finite, or whose loss or any update is not, nothing but `not_finite`: the loss is then not a number. At fp16 gradients the graph
        itself looks.
        What has trained is followed by samples of the memory, where there is one.
        """
        if self.program.guards != "none" and not _finite(x, target):
            return self._left_out()
        if self.program.every:
            self.scheme = in_turn(self._named(CHOICE))
        return self._step(x, target)

    def _step(self, x: Array, target: Array) -> float:
        train = self.program.trains[self.scheme]
        guarded = self.program.guards != "none"
        result = self._run(train, x, target)
        loss = result.outputs[0][0]
        if guarded and not self._scaled and not _finite(loss):
            return self._left_out()
        if abs(loss) < np.float32(self.skip_below) or (self.skip_above < np.inf and not abs(loss) <= np.float32(self.skip_above)):
            self.skipped += 1
            return float(loss)
        if not self._update(result, train):
            return self._left_out()
        if self.program.every:
            if is_trial(self._named(CHOICE)):
                self._named(FALLS)[self.scheme] += loss - np.float32(self.evaluate(x, target)[0])
            end_turn(self._named(CHOICE), self._named(FALLS), self.scheme, self.program.every, self.program.worth)
        if self.program.replay_every > 1 and self._named(SEEN)[0] % self.program.replay_every:
            return float(loss)
        for _ in range(self.program.replays):
            if self.overflows:
                break
            replayed = self._run(replay_of(train))
            if (guarded and not self._scaled and not _finite(replayed.outputs[0])) or not self._update(replayed, train):
                return self._left_out()
        return float(loss)

    def remember(self, x: Array, target: Array) -> None:
        """Keep a sample in the memory without training; with guards not one that is not finite."""
        result = self._run("remember", x, target)
        if self.program.guards != "none" and not _finite(x, target, *result.outputs):
            self._left_out()
        else:
            self.state.update(result.updates)

    def _update(self, result: Result, train: str) -> bool:
        """Take over what a sample changes; False where guards leave that out."""
        if self.program.guards != "none" and not self._scaled and not _finite(*result.updates.values()):
            return False
        self.state.update(result.updates)
        self.count += 1
        if apply_of(train) in self.program.entries and self.count >= self.program.accumulate:
            self.state.update(self._run(apply_of(train)).updates)
            self.count = 0
        return True

    def _left_out(self) -> float:
        self.not_finite += 1
        return float("nan")

    @property
    def _scaled(self) -> bool:
        """Whether there are fp16 gradients, which the graph itself looks at."""
        return any(v.name == LOSS_SCALE for v in self.state)

    @property
    def overflows(self) -> bool:
        """Whether loss or gradients overflowed in so many steps in a row that training fails."""
        return any(v.name == LOSS_SCALE and record[IN_A_ROW] >= PATIENCE for v, record in self.state.items())

    def set_scheme(self, scheme: int) -> None:
        """What the next steps train; sums that are not yet applied are dropped."""
        self.scheme, self.count = scheme, 0
        self.state.update({v: np.zeros_like(self.state[v]) for v in self.program.sums()})

    def set_lr(self, learning_rate: float) -> None:
        self._named("learning_rate")[...] = learning_rate

    def parameters(self) -> dict[str, Array]:
        """Name → present value of everything that is trained."""
        return {v.name: self.state[v] for v in self.program.stored(Role.PARAM)}

    def _record(self, outputs: Sequence[Array]) -> Array:
        return packed(outputs, [v.type.dtype for v in self.program.entries["infer"].outputs]) if len(outputs) > 1 else outputs[0]

    def _named(self, name: str) -> Array:
        value = next(v for v in self.state if v.name == name)
        self.state[value] = self.state[value].copy()      # the array may be that of the program
        return self.state[value]

    def _run(self, entry: str, *inputs: Array) -> Result:
        graph = self.program.entries[entry]
        shaped = [np.reshape(array, v.shape) for v, array in zip(graph.inputs, inputs, strict=True)]
        with np.errstate(all="ignore") if self._scaled else nullcontext():
            result = run(graph, shaped, self.state, self.dtype)
        self.state.update(result.lent)
        return result


def _finite(*arrays: Array) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)
