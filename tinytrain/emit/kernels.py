# SPDX-License-Identifier: Apache-2.0
"""From (op, types, kernel) to the text of one C function: what a kernel template sees, and its rendering."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tinytrain.emit.cores import forked, own, worth_forking
from tinytrain.emit.select import Choice, Params
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Elementwise, Fusable, Kernel, Op, is_row_operand
from tinytrain.ir.text import op_text
from tinytrain.ir.types import F16, F32, S8, S16, S32, U8, DType, TensorType
from tinytrain.ir.words import PLAIN, Lanes, Words, literal
from tinytrain.ops.correlate import Banded, Correlation, Rectangle
from tinytrain.ops.shares import shares, tile_size
from tinytrain.ops.simd import VOCABULARIES
from tinytrain.paths import data_dir

if TYPE_CHECKING:
    import jinja2

# sums of floats are fp32, sums of integers 32 bits wide, whatever the elements are
_ACCUMULATOR = {dtype: "float" if dtype.is_float else "int32_t" for dtype in DType}


Step = tuple[Elementwise, list[str], list[TensorType]]    # an epilogue op, and names and types of its further operands


@dataclass(frozen=True)
class KernelCall:
    """One configuration of a kernel: equal configurations share one function. `params` None are those that the kernel itself gives.

    `shared` are pairs (input, output) at one address: such an input is not passed, so that compilers know it for the output's pointer.
    `cores` share its work.
    """

    op: Op
    ins: tuple[TensorType, ...]
    outs: tuple[TensorType, ...]
    kernel: Kernel
    params: Params | None = None
    shared: tuple[tuple[int, int], ...] = ()
    cores: int = 1

    @classmethod
    def of(cls, node: Node, choice: Choice, cores: int = 1) -> KernelCall:
        """`cores` of a board; what is soon done takes one."""
        inputs, outputs = tuple(v.type for v in node.inputs), tuple(v.type for v in node.outputs)
        if not worth_forking(choice.kernel, node.op, inputs, outputs):
            cores = 1
        return cls(node.op, inputs, outputs, choice.kernel, choice.params, cores=cores)

    def sharing(self, pairs: Iterable[tuple[int, int]]) -> KernelCall:
        """The same where these inputs lie just where these outputs do."""
        return replace(self, shared=tuple(pair for pair in pairs if pair != (0, 0) or not self.overlays))

    @property
    def overlays(self) -> bool:
        """Whether the kernel may write output 0 over what it has read of input 0: these two are always passed both."""
        return self.kernel.lead(self.op, self.ins, self.outs) is not None

    @property
    def passed(self) -> list[int]:
        """The inputs that are arguments of the C function, before its outputs."""
        inside = {i for i, _ in self.shared}
        return [i for i in range(len(self.ins)) if i not in inside]

    @property
    def arity(self) -> int:
        """Number of inputs of the op itself, without epilogue operands."""
        return self.op.arity if isinstance(self.op, Fusable) else len(self.ins)

    @property
    def scratch_bytes(self) -> int:
        return self.kernel.scratch_bytes(self.op, self.ins, self.cores)

    @property
    def stem(self) -> str:
        """`tt_<op>[_<epilogue>…]_<dtypes>[_<isa>]`."""
        op = self.op
        then = op.then if isinstance(op, Fusable) else ()
        stored = [F16] if any(t.dtype is F16 for t in (*self.ins, *self.outs)) else []
        dtypes = dict.fromkeys(dtype.tag for dtype in (*stored, *self.kernel.dtypes))
        return "_".join(["tt", op.name, *(e.name for e in then), *dtypes, *([self.kernel.isa] if self.kernel.isa else [])])


class KernelContext:
    """What a template sees as `k`: symbol, head, types, tile parameters, and the epilogue's `store`."""

    def __init__(self, call: KernelCall, symbol: str) -> None:
        self.call = call
        self.symbol = symbol
        self.op = call.op
        self.ins = call.ins
        self.outs = call.outs
        self.arity = call.arity
        self.C = call.ins[0].computed.dtype.c             # what an element is once it is read
        self.A = _ACCUMULATOR[call.ins[0].dtype]
        own = call.kernel.params(call.op, *call.ins[: self.arity]) if call.params is None else call.params
        self.p: dict[str, int] = dict(own)
        self.widened = "bands" in self.p                  # halves are made floats before anything is summed
        self.T = F32.c if self.widened else call.ins[0].dtype.c
        self.extra = [f"e{i}" for i in range(len(call.ins) - self.arity)]
        self.in_names = [*call.op.args[: self.arity], *self.extra]
        self.out_names = [*call.op.results[:1], *(f"o{i}" for i in range(1, len(call.outs)))]
        if len(call.outs) == len(call.op.results):
            self.out_names = list(call.op.results)

    @property
    def simd(self) -> str:
        """Suffix of the vocabulary that the kernel is written with."""
        isa = self.call.kernel.isa
        return "one" if self.p.get("V") == 1 else VOCABULARIES.get(isa, isa) if isa else "scalar"

    @property
    def correlation(self) -> Correlation:
        """Of a convolution or its gradient for x."""
        whole: Correlation = self.op.correlation(*self.ins)  # type: ignore[attr-defined]
        return Banded.of(whole, self.p["bands"]) if self.widened else whole

    @property
    def strip(self) -> DType:
        """How a packed strip of the weight is stored."""
        return F16 if self.call.kernel.dtypes == (F16, F16) and not self.widened else F32

    @property
    def b(self) -> DType:
        """How tiles read the weight: packed, or as it stands."""
        return self.strip if self.call.kernel.scratch and not self.p.get("stands") else self.ins[1].dtype

    @property
    def parameters(self) -> list[tuple[str, str, str]]:
        """(type, `restrict ` where nothing else points there, name) of each pointer that the C function takes."""
        alone = ["" if self.call.overlays else "restrict ", *["restrict "] * max(len(self.ins), len(self.outs))]
        found = [(f"const {self.ins[i].dtype.c} *", alone[i], self.in_names[i]) for i in self.call.passed]
        found += [(f"{t.dtype.c} *", alone[o], self.out_names[o]) for o, t in enumerate(self.outs)]
        return [*found, ("unsigned char *", "restrict ", "scratch")] if self.call.kernel.scratch else found

    @property
    def more(self) -> int:
        """Bytes of scratch that several cores take besides."""
        return self.call.scratch_bytes - replace(self.call, cores=1).scratch_bytes

    @property
    def barrier(self) -> str:
        """What all cores have done before this, each of them may rely on behind it."""
        return "tt_port_barrier();" if self.call.cores > 1 else ""

    @property
    def first(self) -> str:
        """What stands before a statement that core 0 alone does."""
        return "if (core == 0) " if self.call.cores > 1 else ""

    @property
    def last(self) -> str:
        """What stands before a statement that the last core alone does."""
        return f"if (core == {self.call.cores - 1}) " if self.call.cores > 1 else ""

    def own(self, count: int, unit: int = 1, start: int = 0) -> tuple[str, str]:
        """C of the first and of the one behind the last, of `count` from `start` on, that this core does: as many whole units as others."""
        return own(count, unit, start, self.call.cores)

    def shares(self, c: Correlation, most: int) -> tuple[tuple[Rectangle, ...], ...]:
        """The rectangles of pixels that each core sweeps, in tiles of up to `most`."""
        return shares(c, most, self.call.cores)

    def tile_size(self, count: int, most: int, times: int) -> int:
        """`most`, or of several cores what leaves none of them with much more to do, if `count` things are cut into tiles so often."""
        return most if self.call.cores == 1 else tile_size(count, most, times, self.call.cores)[0]

    @property
    def head(self) -> str:
        """Comment, signature, opening brace, and single-element operands read once."""
        ins = ", ".join(str(t) for t in self.ins)
        outs = ", ".join(str(t) for t in self.outs)
        params = ["".join(parameter) for parameter in self.parameters]
        if self.call.cores > 1:
            params.append("const int32_t core")
        # a function of its own for each kernel: its registers and stack are its own, and it takes what it takes in a tuner's trial
        lines = [f"/* {op_text(self.op)}: {ins} -> {outs} */"]
        lines += [f"__attribute__((noinline)) static void {self.symbol}({', '.join(params)})", "{"]
        for i, o in self.call.shared:
            kind = self.ins[i].dtype.c
            lines.append(f"    const {kind} *const {self.in_names[i]} = (const {kind} *)(const void *){self.out_names[o]};")
        lines += [f"    const {t.computed.dtype.c} {name}_0 = {PLAIN.read(f'{name}[0]', t.dtype.c)};" for t, name in self._hoisted()]
        for op, more in self._steps:
            for position, n in enumerate(more, start=1):
                lines += [f"    const float {name} = {text};" for name, text in self._once(op, position, self.in_names[n], self.ins[n])]
        return "\n".join(lines)

    @property
    def _steps(self) -> Sequence[tuple[Elementwise, Sequence[int]]]:
        """Elementwise ops, each with the inputs that are its further operands."""
        if isinstance(self.op, Elementwise):
            return [(self.op, range(1, len(self.ins)))]
        return self.op.epilogue() if isinstance(self.op, Fusable) else ()

    def _once(self, op: Elementwise, position: int, name: str, kind: TensorType) -> list[tuple[str, str]]:
        """(C name, C) of what the op takes in place of an operand of one element."""
        made = op.once(position, PLAIN.read(f"{name}[0]", kind.dtype.c)) if kind.numel == 1 else ()
        return [(f"{name}_{number}", text) for number, text in enumerate(made, start=1)]

    def _hoisted(self) -> list[tuple[TensorType, str]]:
        """Operands of one element are read before the loops: the stores might alias them as far as a C compiler knows."""
        if self.outs[0].numel == 1:
            return []
        found = []
        for op, more in self._steps:
            types = (self.outs[0].computed, *(self.ins[n].computed for n in more))
            for position, n in enumerate(more, start=1):
                # an op may read a single element in a way of its own: one byte holds eight bits of a mask
                name = self.in_names[n]
                if self.ins[n].numel > 1 or op.derived(PLAIN, position, name, "i", types[0]) or op.once(position, name):
                    continue
                if op.load(position, name, "i", "c", types)[1] == f"{name}[0]":
                    found.append((self.ins[n], name))
        return found

    def add(self, acc: str, a: str, b: str) -> str:
        """Statement that adds a product to a sum, rounded as the board does it."""
        return f"{acc} = TT_MADD({acc}, {a}, (float){b});" if self.A == "float" else f"{acc} += {a} * {b};"

    def kind(self, name: str) -> str:
        """C type of the elements of an operand or a result."""
        return dict(zip((*self.in_names, *self.out_names), (*self.ins, *self.outs), strict=True))[name].dtype.c

    def load(self, element: str, operand: int | str = 0) -> str:
        """An element of an operand, by its index or name, in the type that is computed with."""
        return PLAIN.read(element, self.kind(operand) if isinstance(operand, str) else self.ins[operand].dtype.c)

    def write(self, name: str, i: str, value: str) -> str:
        """Statement that stores an element of the result of that name, where no epilogue follows."""
        return PLAIN.write(f"{name}[{i}]", value, self.kind(name))

    @property
    def bias(self) -> str | None:
        """Name of what the epilogue adds to each sum of integers first, by channel: sums that start from it are stored with `begun`."""
        steps = self.op.epilogue() if isinstance(self.op, Fusable) and self.A == "int32_t" else []
        adds = steps and steps[0][0].adds and self.ins[steps[0][1][0]].shape == self.outs[0].shape[-1:]
        return self.in_names[steps[0][1][0]] if adds else None

    @property
    def lanes(self) -> Lanes:
        """The words of that vocabulary."""
        return Lanes(self.simd)

    def spans(self, count: int) -> list[tuple[int, int, int]]:
        """(width, first, end) of `count` neighbours: tiles of up to P vectors, equal if they can be; the last may cover some again."""
        N, P, vectors = self.p["N"], self.p["P"], count // self.p["N"]
        nearly = -(-vectors // -(-vectors // P))
        width = next((width for width in range(P, P // 2, -1) if vectors % width == 0), nearly)
        full = vectors - vectors % width
        spans = [(width * N, 0, full * N), ((vectors - full) * N, full * N, vectors * N), (N, vectors * N, count)]
        return [(width, first, end) for width, first, end in spans if first < end]

    @property
    def in_lanes(self) -> bool:
        """Whether `store_lanes` can be used: all ops are written in words that the vocabulary has, and it has all types."""
        own = 0 if isinstance(self.op, Elementwise) else self.arity
        ops = self.op.then if isinstance(self.op, Fusable) else (self.op,) if isinstance(self.op, Elementwise) else ()
        kinds = {t.dtype for t in (*self.ins[own:], *self.outs)}
        spoken = kinds <= {F32, F16, S32, S16, S8, U8} if self.p.get("words") else self.A == "float" and kinds <= {F32, F16}
        return spoken and all(op.lanes(self.lanes, *op.args) is not None for op in ops)

    def along(self, count: int) -> list[tuple[Words, int, int, int]]:
        """(words, step, first, end) through `count` neighbours: in vectors where there are words for all, the last few one by one."""
        N = self.p.get("N", 1) if self.in_lanes else 1
        full = count - count % N if N > 1 else 0
        return [span for span in ((self.lanes, N, 0, full), (PLAIN, 1, full, count)) if span[2] < span[3]]

    def store(self, acc: str, i: str, c: str = "0", row: str | None = None, begun: bool = False, w: Words = PLAIN) -> str:
        """Statements that push `acc` through the epilogue and store every output at flat index `i` (channel `c`; of `row`, if known).

        `begun`: the sum has started from `bias`, if there is one. In words for lanes, `acc` is a vector.
        """
        return self._stored(w, acc, i, c, row, begun)

    def store_lanes(self, acc: str, i: str, c: str = "0") -> str:
        """The same for as many neighbours along the last axis as a vector has lanes, of sums that a tile has left from `acc` on."""
        return self.store(self.lanes.sums(acc, self.A), i, c, w=self.lanes)

    def _stored(self, w: Words, acc: str, i: str, c: str, row: str | None = None, begun: bool = False) -> str:
        if not isinstance(self.op, Fusable) or not self.op.then:
            return w.write(f"{self.out_names[0]}[{i}]", acc, self.outs[0].dtype.c)
        steps = [(op, [self.in_names[n] for n in more], [self.ins[n] for n in more]) for op, more in self.op.epilogue()]
        flowing = self.op.base_infer(*(t.computed for t in self.ins[: self.arity]))[0]
        return self._chain(w, acc, i, c, flowing, steps[1:] if begun and self.bias else steps, row)

    def element(self, i: str, c: str = "0", w: Words = PLAIN) -> str:
        """Body of an elementwise op at flat index `i`, channel `c`, and of neighbours along the last axis in words for lanes."""
        assert isinstance(self.op, Elementwise), self.op.name
        kinds = [t.computed for t in self.ins]
        _, acc = self.op.load(0, self.in_names[0], i, c, kinds)
        return self._chain(w, w.read(acc, self.ins[0].dtype.c), i, c, kinds[0], [(self.op, self.in_names[1:], list(self.ins[1:]))])

    def _chain(
        self, w: Words, acc: str, i: str, c: str, flowing: TensorType, steps: Sequence[Step], row: str | None = None
    ) -> str:
        lines = [f"const {w.type(flowing.dtype.c)} t0 = {acc};"]
        hoisted = {name for _, name in self._hoisted()}
        first, others = "t0", list[str]()
        for number, (op, names, kinds) in enumerate(steps, start=1):
            operands = [first]
            types = [flowing, *(kind.computed for kind in kinds)]
            for position, (name, stored) in enumerate(zip(names, kinds, strict=True), start=1):
                if made_once := self._once(op, position, name, stored):
                    operands += [known for known, _ in made_once]
                    continue
                loaded = f"t{number}_{position}"
                operands.append(loaded)
                if derived := op.derived(w, position, name, i, flowing):
                    lines.append(f"const {w.type(derived[0])} {loaded} = {derived[1]};")
                    continue
                kind, source = op.load(position, name, i, c, types)
                if row is not None and is_row_operand(types[position], flowing):
                    source = f"{name}[{row}]"             # no division
                element, held = (f"{name}_0", kind) if name in hoisted else (source, stored.dtype.c if stored.dtype is F16 else kind)
                alone = stored.numel == 1 or is_row_operand(stored, flowing)
                lines.append(f"const {w.type(kind)} {loaded} = {(w.spread if alone else w.read)(element, held)};")
            outs = op.infer(*types)
            first, *made = (f"t{number}{'abcdef'[o]}" for o in range(len(outs)))
            texts = op.expr(*operands) if w is PLAIN else op.lanes(w, *operands)
            for t, name, text in zip(outs, (first, *made), _each_once(w, texts or (), (first, *made)), strict=True):
                lines.append(f"const {w.type(t.dtype.c)} {name} = {text};")
            flowing, others = outs[0], [*made, *others]
        results = zip(self.out_names, self.outs, (first, *others), strict=True)
        lines += [w.write(f"{pointer}[{i}]", name, kind.dtype.c) for pointer, kind, name in results]
        return "\n".join(["{", *lines, "}"])

    @property
    def masked(self) -> bool:
        """Whether some operand has a bit for each element."""
        return any(t.dtype is U8 for t in self.ins)

    @property
    def by_channel(self) -> bool:
        """Whether some operand is per channel, so that a loop needs the channel index."""
        numel = self.outs[0].numel
        return any(t.numel not in (1, numel) and t.numel == self.outs[0].shape[-1] for t in self.ins)

    @property
    def by_row(self) -> bool:
        """Whether some operand is per row: neighbours may then lie in two of them."""
        return any(t.numel > 1 and is_row_operand(t, self.outs[0]) for t in self.ins)


def _each_once(w: Words, texts: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Texts that name earlier ones in place of having them again: of calls in assembly a compiler sees no two that are the same."""
    for n, text in enumerate(texts):
        for earlier, name in zip(texts[:n], names, strict=False):
            text = text.replace(earlier, name) if w is not PLAIN and "(" in earlier else text
        yield text


@cache
def environment() -> jinja2.Environment:
    """The one Jinja environment; a name that a template uses and nobody gave is an error."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(data_dir("codegen"))),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )
    env.filters["f32"] = literal
    return env


def render(call: KernelCall, symbol: str) -> str:
    """The C function of a kernel call, under the given name."""
    template: Any = environment().get_template(f"kernels/{call.kernel.template}.c.j2")
    macro = getattr(template.module, call.kernel.macro or call.op.name)
    if call.cores == 1:
        text: str = macro(KernelContext(call, symbol))
        return _indent(text.strip() + "\n")
    k = KernelContext(call, f"{symbol}_on")
    return _indent(f"{macro(k).strip()}\n{forked(symbol, k.symbol, [(kind, name) for kind, _, name in k.parameters])}")


def _indent(text: str) -> str:
    """Blank lines that Jinja statements leave behind are dropped; indentation follows the braces."""
    depth, lines = 0, []
    for raw in text.splitlines():
        line = raw.strip()
        if not line:
            continue
        closes = len(line) - len(line.lstrip("}"))
        margin = "" if line.startswith("#") else "    " * (depth - closes)
        lines.append(margin + line)
        if not line.startswith(("/*", "*", "//")):
            depth += line.count("{") - line.count("}")
    assert depth == 0, f"braces do not match in:\n{text}"
    return "\n".join(lines) + "\n"
