# SPDX-License-Identifier: Apache-2.0
"""What a program must know of a model's data: macros of `NAME_config.h`, and what README.md of a project says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinytrain.emit.records import CRecord, members
from tinytrain.ir.types import S8, TensorType


@dataclass(frozen=True)
class CData:
    """One array that a program gives or gets: the argument or member, prefix of its macros, function that quantises numbers into it."""

    expression: str
    macro: str
    function: str
    type: TensorType
    given: bool

    @property
    def quantised(self) -> bool:
        """Whether it is integers that stand for numbers by one scale."""
        return self.type.dtype is S8 and self.type.quant is not None and len(self.type.quant.scale) == 1

    @property
    def scale(self) -> float:
        """0.0 of what is not quantised."""
        return self.type.quant.scale[0] if self.quantised and self.type.quant else 0.0

    @property
    def zero_point(self) -> int:
        return self.type.quant.zero_point if self.type.quant else 0

    @property
    def about(self) -> str:
        return f"{self.expression}: {' x '.join(map(str, self.type.shape)) or '1'} of {self.type.dtype.c}"


def data_of(name: str, kind: str, record: CRecord, *, given: bool) -> Iterator[CData]:
    """The arrays of an argument: `kind` is input, target or output."""
    macro, function = f"{name.upper()}_{kind.upper()}", f"{name}_quantise_{kind}"
    if len(record.parts) == 1:
        yield CData(record.argument, macro, function, record.parts[0].type, given)
        return
    for part, upper in zip(record.parts, members([part.name.upper() for part in record.parts]), strict=True):
        yield CData(f"{record.argument}->{part.name}", f"{macro}_{upper}", f"{function}_{part.name}", part.type, given)
