# SPDX-License-Identifier: Apache-2.0
"""What the caller of an entry point gives and gets: an array, or a struct with one array for each part of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tinytrain.ir.builder import identifier
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import S32, TensorType, Value
from tinytrain.planner.updates import contents, starts

# of C and C++, each between spaces
_KEYWORDS = (
    " alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const const_cast constexpr continue decltype "
    " default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable "
    " namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast restrict return short "
    " signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union "
    " unsigned using virtual void volatile wchar_t while xor xor_eq "
)


@dataclass(frozen=True)
class CPart:
    """A member: name, type, bytes from the start of the record; `classes` of a label, else 0."""

    name: str
    type: TensorType
    offset: int
    classes: int = 0


@dataclass(frozen=True)
class CRecord:
    """An argument and the parts of what it points to; `struct` is the C type of the whole where there are several."""

    argument: str
    struct: str
    parts: tuple[CPart, ...]

    @classmethod
    def of(cls, argument: str, struct: str, parts: Sequence[tuple[str, TensorType]], classes: Mapping[int, int] | None = None) -> CRecord:
        """`classes` of the labels among the parts, by bytes from the start."""
        begins = accumulate((kind.nbytes for _, kind in parts), initial=0)
        made = zip(members([name for name, _ in parts]), (kind for _, kind in parts), begins, strict=False)
        return cls(argument, struct, tuple(CPart(name, kind, at, (classes or {}).get(at, 0)) for name, kind, at in made))

    @property
    def c(self) -> str:
        """C type of what the argument points to."""
        return self.struct if len(self.parts) > 1 else self.parts[0].type.dtype.c

    @property
    def nbytes(self) -> int:
        return sum(part.type.nbytes for part in self.parts)

    def at(self, offset: int) -> str:
        """C expression of the address of the part that begins so many bytes behind the start."""
        part = next(part for part in self.parts if part.offset == offset)
        return f"{self.argument}->{part.name}" if len(self.parts) > 1 else self.argument

    @property
    def labels(self) -> list[tuple[str, int]]:
        """(C expression of a label, number of classes) of each label."""
        return [(f"{self.at(part.offset)}[0]", part.classes) for part in self.parts if part.classes]

    def __str__(self) -> str:
        return ", ".join(f"{part.name} {part.type}" for part in self.parts) if len(self.parts) > 1 else str(self.parts[0].type)

    @property
    def shape(self) -> str:
        """For a comment."""
        shapes = [" x ".join(map(str, part.type.shape)) for part in self.parts]
        return shapes[0] if len(shapes) == 1 else ", ".join(f"{part.name} {shape}" for part, shape in zip(self.parts, shapes, strict=True))


def members(names: Sequence[str]) -> list[str]:
    """Names of members that C and C++ take, each once."""
    made: list[str] = []
    for name in map(identifier, names):
        while f" {name} " in _KEYWORDS or name in made:
            name += "_"
        made.append(name)
    return made


def given(value: Value, argument: str, struct: str, classes: Mapping[int, int] | None = None) -> CRecord:
    """An input of entry points."""
    return CRecord.of(argument, struct, value.parts or ((value.name, value.type),), classes)


def results(infer: Graph, struct: str) -> CRecord:
    """What entry points give back."""
    return CRecord.of("y", struct, [(name, v.type) for name, v in zip(infer.output_names, infer.outputs, strict=True)])


def label_classes(evaluate: Graph) -> dict[int, int]:
    """Number of classes of each label among the targets, by bytes from the start of their record: as many as its loss reads scores."""
    begins, content, target = starts(evaluate), contents(evaluate), evaluate.inputs[1]
    return {
        begins.get(v, 0): node.inputs[0].type.numel for node in evaluate.nodes if not node.op.view
        for v in node.inputs[1:] if content[v] is target and v.type.dtype is S32
    }
