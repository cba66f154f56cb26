# SPDX-License-Identifier: Apache-2.0
"""What an op is. Engines (autodiff, passes, planner, emitter) know this interface and the registry, never one op by name."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tinytrain.ir.types import F16, F32, Array, DType, TensorType
from tinytrain.ir.words import PLAIN, Words

if TYPE_CHECKING:
    from tinytrain.ir.builder import Builder
    from tinytrain.ir.integer import IntegerForms, Operand
    from tinytrain.ir.types import Value


@dataclass(frozen=True)
class Declined:
    """Why a rule, a kernel or a pass does not apply. False in a condition."""

    why: str
    fix: str | None = None

    def __bool__(self) -> Literal[False]:
        return False


def no(why: str, fix: str | None = None) -> Declined:
    return Declined(why, fix)


@dataclass(frozen=True)
class Want:
    """An input gradient that somebody asked for; `channels` is the slice of a weight along `axis` that is updated, None for all.

    Axis -1 are the input channels (of a depthwise convolution its channels), axis 0 the output channels.
    """

    channels: tuple[int, int] | None = None
    axis: int = -1


Wanted = tuple["Want | None", ...]
Tie = tuple[tuple[int, int], ...]                         # (operand, axis) of each; operand ~i is output i


@dataclass(frozen=True)
class Cost:
    """Work of one call, independent of the board: multiply-accumulates and elements touched."""

    macs: int = 0
    elements: int = 0


def _takes_all(op: Op, *types: TensorType) -> bool:
    return True


def _no_params(op: Op, *types: TensorType) -> dict[str, int]:
    return {}


def _plain_work(params: Mapping[str, int], op: Op, *types: TensorType) -> dict[str, float]:
    outs, macs = op.infer(*types), op.cost(*types).macs
    return {
        "mac": macs, "patch": macs / (outs[0].shape or (1,))[-1], "out": sum(t.numel for t in outs), "in": sum(t.numel for t in types),
    }


def _apart(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int | None:
    return None


ALL_HALVES, FIRST_HALF = (True,), (True, False)           # which operands of a kernel may be stored as fp16


@dataclass(frozen=True)
class Kernel:
    """A way to compute an op in C: macro `macro` (by default the op's name) of `codegen/kernels/<template>.c.j2`.

    An op lists its kernels from the portable one to the fastest; the last that a board and a node allow is taken.

    `dtypes` are those of inputs then outputs (a shorter tuple's last entry stands for the rest; epilogue operands are not counted);
    `isa` None is portable C; `accepts(op, *input_types)` is true or `no(why)`; `params` gives tile and unroll factors, and `tries` other
    values of some of them, which a tuner may take: they change neither results nor scratch;
    `scratch(op, *input_types)` is the bytes of arena the kernel needs while it runs (passed as the last argument `scratch`);
    `lead(op, inputs, outputs)` (types) is how many bytes, at least, output 0 must begin before input 0 so that it may lie over what of
    input 0 is read already; None where the two must be apart;
    `spare`: it is taken only where its scratch costs no RAM: an op has another kernel that needs none; on boards that have none of the
    tags `pays_without`, a little scratch is worth its RAM where none is to spare;
    `work(params, op, *input_types)`, of the op without its epilogue, is how often it does what takes time, by names of its own: an
    estimate is a sum of these (by default products, what all results of a channel share, and elements out and in);
    `half` says of each input, as `dtypes` does, whether it may lie in memory as fp16 where that says fp32 (`k.load`): if any may, then
    operands of the epilogue and outputs too (`k.store`). Where `dtypes` says F16, it must;
    `shared`: its template splits what it computes over the cores of a board (`k.own`), each result as one core alone would compute it, and
    packs its scratch together; `more(cores, op, *input_types)` are bytes of scratch that several cores take besides;
    `exact` False: products are rounded to halves on the way, so that its results differ from those of other kernels in more than the order
    of a sum.
    """

    template: str
    dtypes: tuple[DType, ...] = (F32,)
    isa: str | None = None
    macro: str | None = None
    accepts: Callable[..., bool | Declined] = _takes_all
    params: Callable[..., dict[str, int]] = _no_params
    scratch: Callable[..., int] | None = None
    lead: Callable[..., int | None] = _apart
    half: tuple[bool, ...] = ()
    spare: bool = False
    work: Callable[..., dict[str, float]] = _plain_work
    tries: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    exact: bool = True
    shared: bool = False
    more: Callable[..., int] | None = None
    pays_without: tuple[str, ...] = ()

    def scratch_bytes(self, op: Op, types: Sequence[TensorType], cores: int = 1) -> int:
        """Scratch for a call with these inputs."""
        besides = self.more(cores, op, *types) if self.more and cores > 1 else 0
        return (self.scratch(op, *types) if self.scratch else 0) + besides

    def reads(self, op: Op, position: int, stored: DType) -> bool:
        """Whether an input of the op itself may be stored so; an elementwise op reads all as fp16 too (`k.element`)."""
        expected = self.dtypes[min(position, len(self.dtypes) - 1)]
        return stored is expected or (stored is F16 and expected is F32 and self.takes_half(op, position))

    def takes_half(self, op: Op, position: int) -> bool:
        """Whether an input of the op itself may be stored as fp16."""
        if isinstance(op, Elementwise):
            return position not in op.tables
        if self.dtypes[min(position, len(self.dtypes) - 1)] is F16:
            return True
        return bool(self.half) and self.half[min(position, len(self.half) - 1)]

    def writes_half(self, op: Op) -> bool:
        """Whether outputs may be stored as fp16."""
        return isinstance(op, Elementwise) or any(self.half) or F16 in self.dtypes


@dataclass(frozen=True)
class Example:
    """A test case of an op: its attributes and its input types; `integers` bounds integer inputs [low, high), all or each.

    `reals` (scale, shift): float inputs are shift ± scale or less.
    """

    op: Op
    inputs: tuple[TensorType, ...]
    integers: tuple[int, int] | tuple[tuple[int, int], ...] = (0, 2)
    reals: tuple[float, float] = (1.0, 0.0)

    def bounds(self, position: int) -> tuple[int, int]:
        """[low, high) of an integer input; of the last one given where there are too few."""
        each = [bounds for bounds in self.integers if isinstance(bounds, tuple)]
        return each[min(position, len(each) - 1)] if each else (self.integers[0], self.integers[1])  # type: ignore[return-value]


def f32(*shapes: tuple[int, ...]) -> tuple[TensorType, ...]:
    """Float input types of an example, one per shape."""
    return tuple(TensorType(shape) for shape in shapes)


@dataclass(frozen=True)
class Op:
    """Base of all ops. The fields of a subclass are its attributes; what stands below is its behaviour.

    `args` and `results` name the C parameters in order. `view` ops own no memory: their output is input 0, or what `starts` somewhere in
    it, under another type.
    `inplace` lists (input, output) pairs that may share storage: element i of the input is last read when element i of the
    output is written. `differentiable` is False for ops that end every walk (optimisers, gradients, losses' by-products).
    """

    name: ClassVar[str] = ""
    args: ClassVar[tuple[str, ...]] = ("x",)
    results: ClassVar[tuple[str, ...]] = ("y",)
    kernels: ClassVar[tuple[Kernel, ...]] = ()
    view: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    parameters: ClassVar[dict[int, str]] = {}             # input index -> what a scheme calls it, where it is a constant
    extends_layer: ClassVar[bool] = False                 # its parameters belong to the layer right before it (a bias)
    squares: ClassVar[bool] = False                       # what it reads is squared, as a rule for gradients or for their norm does
    training_only: ClassVar[bool] = False                 # the identity when the model only infers (Dropout)
    wide: ClassVar[frozenset[int]] = frozenset()          # operands (~i: output i) never stored as fp16: statistics, sums in memory
    lends: ClassVar[bool] = False                         # output 0 stands where input 0 does, a PARAM to be given back (`Graph.lent`)
    concludes: ClassVar[bool] = False                     # runs when all that does not follow from it has; it may be left out
    per_update: ClassVar[bool] = False                    # runs once an update, on sums over its samples: has `scale` and `clear`, as SGD
    examples: ClassVar[tuple[Example, ...]] = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Output types; raises ValueError with the reason where the inputs do not fit."""
        raise NotImplementedError(self.name)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        """What is right: NumPy, in the floating type of the inputs (float32 or float64)."""
        raise NotImplementedError(self.name)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        """What vjp is the derivative of: the reference, in float64 and without its rounding, stored integers taken as reals."""
        return self.reference(*arrays)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        """Emit the gradients of the wanted inputs, of which there is one at least, given those of the outputs; None where not wanted."""
        raise NotImplementedError(self.name)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        """Emit what computes the fp32 outputs without floats; fp32 inputs come as integers (`ir/integer.py`)."""
        return no(f"{self.name} has no integer form")

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        """Axes that count the same channels: the same permutation of all axes of a tie leaves every sum the same but for its order.

        An axis longer than the others of its tie counts the channels again and again. Axes in no tie keep their order.
        """
        return ()

    def reads_pieces(self, operand: int, pieces: Op) -> Op | Declined:
        """The same op with the inputs of `pieces` (a Concat) in place of the operand that it joins them to."""
        return no(f"{self.name} reads operand {operand} as one array")

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=sum(t.numel for t in self.infer(*types)))

    def starts(self, *types: TensorType) -> int:
        """Of a view: bytes from the beginning of input 0 to that of the output."""
        return 0

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()

    @property
    def byproducts(self) -> frozenset[int]:
        """Outputs that its own gradient alone reads: none flows back from them."""
        return frozenset()

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        """The same op without the outputs that nobody reads."""
        return no(f"{self.name} makes its outputs together")

    def attributes(self) -> dict[str, Any]:
        """Fields that differ from their defaults, for text and symbols."""
        return {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self)
            if f.default is dataclasses.MISSING or getattr(self, f.name) != f.default
        }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("name"):
            known = _REGISTRY.setdefault(cls.name, cls)
            assert known is cls or known.__qualname__ == cls.__qualname__, f"two ops are called {cls.name}: {known} and {cls}"
            _REGISTRY[cls.name] = cls


_REGISTRY: dict[str, type[Op]] = {}


def is_row_operand(kind: TensorType, whole: TensorType) -> bool:
    """Whether an operand has one element per index of the first axis: (K, 1, 1, 1) against (K, R, S, C); one of the same shape is not."""
    return whole.shape != kind.shape == (*whole.shape[:1], *(1 for _ in whole.shape[1:]))


@dataclass(frozen=True)
class Elementwise(Op):
    """Output i is a function of element i of each input: such an op can also run inside the store of another op.

    It writes `lanes`, or `expr` where its formula needs more than there are words for. Input 0 flows; the others are same-shaped, one per
    channel (C: last axis), one per row (K, 1, …: first axis), or a single element.
    """

    kernels: ClassVar[tuple[Kernel, ...]] = (Kernel("elementwise", macro="elementwise", shared=True),)
    commutative: ClassVar[bool] = False                   # operands 0 and 1 may change places
    still: ClassVar[bool] = False                         # of an update: a gradient of 0 changes nothing, and gives a direction of 0
    tables: ClassVar[frozenset[int]] = frozenset()        # operands that `load` gives as arrays
    whole: ClassVar[frozenset[str]] = frozenset()         # results that are integers in `lanes`
    adds: ClassVar[bool] = False                          # output = operand 0 + operand 1: a sum of integers may start from operand 1

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        """C expressions of the outputs from C names of the operands, of one element or of many side by side; None: of one only."""
        return None

    def expr(self, *operands: str) -> tuple[str, ...]:
        """C expressions of the outputs from C names of the operands at one index. Names are simple: no side effects."""
        made = self.lanes(PLAIN, *operands)
        assert made is not None, f"{self.name} has no formula"
        return made

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        """C type and expression of an operand at flat index `i`, channel `c` (i modulo the last axis)."""
        kind, whole = types[operand], types[0]
        if kind.numel == whole.numel:
            return kind.dtype.c, f"{pointer}[{i}]"
        if kind.numel == 1:
            return kind.dtype.c, f"{pointer}[0]"
        if is_row_operand(kind, whole):
            return kind.dtype.c, f"{pointer}[({i}) / {whole.numel // whole.shape[0]}]"
        assert kind.numel == whole.shape[-1], f"{self.name}: operand {operand} of {kind} against {whole}"
        return kind.dtype.c, f"{pointer}[{c}]"

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        """Of an operand that is no array of elements: C type and, in words, what stands for it at flat index `i` of `whole`."""
        return None

    def once(self, operand: int, element: str) -> tuple[str, ...]:
        """C of floats that `expr` takes in place of an operand of a single element: they are computed once for all elements."""
        return ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return tuple(types[0] for _ in self.results)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        channels = types[0].shape[-1:]
        operands = [i for i, kind in enumerate(types) if kind.shape in (types[0].shape, channels)]
        return (tuple((i, -1) for i in (*operands, *(~o for o in range(len(self.results))))),) if channels else ()

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return tuple((i, o) for o in range(len(self.results)) for i in range(len(self.args)))


@dataclass(frozen=True)
class Fusable(Op):
    """An op whose kernels store each output element once, through an epilogue of elementwise ops.

    `then` are applied in order to each element of output 0; their further operands are appended to the inputs. Outputs of the node are
    those of the last one, then all but the first of those before it. `base_*` describe the op without its epilogue.
    """

    then: tuple[Elementwise, ...] = field(default=(), kw_only=True)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        raise NotImplementedError(self.name)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        raise NotImplementedError(self.name)

    @property
    def arity(self) -> int:
        """Number of inputs of the op itself, without epilogue operands."""
        return len(self.args)

    def epilogue(self) -> list[tuple[Elementwise, tuple[int, ...]]]:
        """Each epilogue op with the indices of its further operands among the node's inputs."""
        at = self.arity
        steps = []
        for op in self.then:
            more = len(op.args) - 1
            steps.append((op, tuple(range(at, at + more))))
            at += more
        return steps

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        first, *others = self.base_infer(*types[: self.arity])
        for op, more in self.epilogue():
            first, *made = op.infer(first, *(types[i] for i in more))
            others = [*made, *others]
        return (first, *others)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        first, *others = self.base_reference(*arrays[: self.arity])
        for op, more in self.epilogue():
            first, *made = op.reference(first, *(arrays[i] for i in more))
            others = [*made, *others]
        return (first, *others)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        # an epilogue operand is read at the very index that is then written
        outputs = range(1 + sum(len(op.results) - 1 for op in self.then)) if self.then else ()
        return tuple((i, o) for _, more in self.epilogue() for i in more for o in outputs)


@cache
def load_ops() -> None:
    """Import every module of `tinytrain.ops`; each registers its ops."""
    package = importlib.import_module("tinytrain.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"tinytrain.ops.{module.name}")


def registry() -> dict[str, type[Op]]:
    """All ops by name, module after module, whoever imported which first."""
    load_ops()
    return dict(sorted(_REGISTRY.items(), key=lambda item: item[1].__module__))
