# SPDX-License-Identifier: Apache-2.0
"""node → kernel and its factors for a board, with the reason why each other kernel was refused.

An op's list decides, the last that suits; where a table has counts of this very call, they decide (tuned.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, TypeVar

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Declined, Fusable, Kernel, no
from tinytrain.ir.text import op_text
from tinytrain.ir.types import F16
from tinytrain.ops.simd import FLUSHING

NEAR = 1.05                                               # times the least estimate
Params = tuple[tuple[str, int], ...]
Named = TypeVar("Named")


@dataclass(frozen=True)
class Choice:
    """A kernel with its tile and unroll factors."""

    kernel: Kernel
    params: Params = ()

    @property
    def text(self) -> str:
        """`conv2d_grad_x_direct of correlate vfp`: the kernel."""
        k = self.kernel
        parts = (f"{k.macro} of" if k.macro not in (None, k.template) else None, k.template, k.isa, "packed" if k.spare else None)
        return " ".join(part for part in parts if part)

    def __str__(self) -> str:
        """`correlate vfp packed: N=4 P=5`: what tells it from all others that the same call could have."""
        return f"{self.text}:{''.join(f' {name}={int(value)}' for name, value in self.params)}"


@dataclass(frozen=True)
class Count:
    """What one call of a choice took: instructions, estimated cycles (None for a core without a timing table), bytes of its own code."""

    instructions: int
    cycles: int | None
    code_bytes: int

    @property
    def time(self) -> int:
        return self.instructions if self.cycles is None else self.cycles


def decided(counted: Sequence[tuple[Named, Count]], listed: Named) -> tuple[Named, Count]:
    """The quickest, or what is listed where that is so near to it that estimates cannot tell the two apart."""
    least = min(counted, key=lambda found: found[1].time)
    return next((found for found in counted if found[0] == listed and found[1].time <= NEAR * least[1].time), least)


Counts = Mapping[str, Mapping[str, "Count | None"]]       # text of a call → text of a choice → what it took, None: it is wrong


@dataclass(frozen=True)
class Selection:
    """The choice taken, what was counted of it, and (kernel, reason) for each kernel that was not."""

    choice: Choice
    refused: tuple[tuple[Kernel, str], ...]
    count: Count | None = None

    @property
    def kernel(self) -> Kernel:
        return self.choice.kernel


@dataclass(frozen=True, eq=False)
class Kernels:
    """How a kernel is found for each node on a board with these extensions.

    `cores` of it share the work of a kernel. `counts` are those that decide; `most_bytes` bounds the code of a call's choice, and
    `smallest` takes the smallest code of all.
    """

    isa: Collection[str]
    counts: Counts = field(default_factory=dict)
    most_bytes: Mapping[str, int] = field(default_factory=dict)
    smallest: bool = False
    cores: int = 1

    def select(self, node: Node, *, spare: int | Literal[True] = True) -> Selection:
        """Raises ModelError where no kernel suits. `spare` bytes are there for scratch that costs no RAM; True: as many as it takes."""
        listed = select(node, self.isa, spare=spare, cores=self.cores)
        if not self.counts:
            return listed
        call = call_text(node)
        known = self.counts.get(call, {})
        if str(listed.choice) not in known:
            return listed                                 # no counts, or those of other kernels than today's
        counted = [(choice, count) for choice in self.choices(node, spare=spare) if (count := known.get(str(choice)))]
        if not counted:
            return listed
        most = 0 if self.smallest else self.most_bytes.get(call, max(count.code_bytes for _, count in counted))
        most = max(most, min(count.code_bytes for _, count in counted))
        choice, count = decided([found for found in counted if found[1].code_bytes <= most], listed.choice)
        return Selection(choice, listed.refused, count)

    def choices(self, node: Node, *, spare: int | Literal[True] = True) -> list[Choice]:
        """All that could be taken, the listed one first: none of them asks more of the arena than that does."""
        listed, frugal = (select(node, self.isa, spare=wanted, cores=self.cores).choice for wanted in (spare, 0))
        found = {listed: None}
        for kernel in reversed(node.op.kernels):
            fits = _has_room(node, kernel, spare, self.cores) and _asks_no_more(node, kernel, frugal.kernel, self.cores)
            if fits and _suits(node, kernel, self.isa) and _rounding(kernel) == _rounding(listed.kernel):
                found.update(dict.fromkeys(_choices(node, kernel)))
        return list(found)


def call_text(node: Node) -> str:
    """`conv2d(stride=(2, 2)): f32[8x8x1], f32[8x3x3x1] -> f32[4x4x8]`: all that a kernel is made from, whatever model it is in."""
    ins, outs = (", ".join(str(v.type) for v in values) for values in (node.inputs, node.outputs))
    return f"{op_text(node.op)}: {ins} -> {outs}"


def select(node: Node, isa: Collection[str], *, spare: int | Literal[True] = True, cores: int = 1) -> Selection:
    """The last kernel of the op's list that the board's ISA and the node's types allow. Raises ModelError where none is.

    `spare` bytes are there for scratch that costs no RAM; True: as many as a kernel takes.
    """
    kernels = node.op.kernels
    no_room = no("there is no memory to spare for its scratch")
    verdicts = [(kernel, _suits(node, kernel, isa) and (_has_room(node, kernel, spare, cores) or no_room)) for kernel in kernels]
    taken = next((kernel for kernel, verdict in reversed(verdicts) if verdict), None)
    refused = tuple(
        (kernel, verdict.why if isinstance(verdict, Declined) else "a faster one was taken")
        for kernel, verdict in verdicts
        if kernel is not taken
    )
    if taken is None:
        whys = "; ".join(why for _, why in refused) or "the op has no kernel"
        message = f"{node.origin} ({node.op.name}): no kernel for {', '.join(str(v.type) for v in node.inputs)}: {whys}."
        raise ModelError(message, hint="Choose another --grad or --board, or change the layer.")
    return Selection(next(_choices(node, taken)), refused)


def _choices(node: Node, kernel: Kernel) -> Iterator[Choice]:
    """Its own factors, then all others that a tuner may try."""
    own = kernel.params(node.op, *(v.type for v in node.inputs[: _arity(node)]))  # as they are stored
    yield Choice(kernel, tuple(own.items()))
    for values in product(*kernel.tries.values()):
        yield Choice(kernel, tuple({**own, **dict(zip(kernel.tries, values, strict=True))}.items()))


def _arity(node: Node) -> int:
    """Number of inputs without operands of the epilogue."""
    return node.op.arity if isinstance(node.op, Fusable) else len(node.inputs)


def _has_room(node: Node, kernel: Kernel, spare: int | Literal[True], cores: int) -> bool:
    """Whether what is to spare is enough for its scratch, if it takes no other."""
    return not kernel.spare or spare is True or 0 < kernel.scratch_bytes(node.op, [v.type for v in node.inputs], cores) <= spare


def _asks_no_more(node: Node, kernel: Kernel, frugal: Kernel, cores: int) -> bool:
    """Whether it needs no more of the arena than this one, which the planner counts with; what is spare costs nothing."""
    inputs, outputs = tuple(v.type for v in node.inputs), tuple(v.type for v in node.outputs)
    scratch, most = (k.scratch_bytes(node.op, inputs, cores) for k in (kernel, frugal))
    lead, given = (k.lead(node.op, inputs, outputs) for k in (kernel, frugal))
    return (kernel.spare or scratch <= most) and (given is None or (lead is not None and lead <= given))


def _rounding(kernel: Kernel) -> tuple[bool, bool]:
    """Whether it takes subnormal numbers for zeros, and whether it rounds products: a choice must not change what the twin computes."""
    return kernel.isa in FLUSHING and any(dtype.is_float for dtype in kernel.dtypes), kernel.exact


def _suits(node: Node, kernel: Kernel, isa: Collection[str]) -> bool | Declined:
    if kernel.isa is not None and kernel.isa not in isa:
        return no(f"the board has no {kernel.isa}")
    arity = _arity(node)
    for position, v in enumerate(node.inputs[:arity]):
        if not kernel.reads(node.op, position, v.type.dtype):
            expected = kernel.dtypes[min(position, len(kernel.dtypes) - 1)]
            return no(f"input {position} is {v.type.dtype.tag}, the kernel takes {expected.tag}")
    if not kernel.writes_half(node.op) and any(v.type.dtype is F16 for v in node.outputs):
        return no("the kernel writes no fp16")
    return kernel.accepts(node.op, *node.kinds[:arity])
