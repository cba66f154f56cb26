# SPDX-License-Identifier: Apache-2.0
"""Functions of one number: nodes that the importer makes a table of, alone or several in a row (`frontend/tabulate.py`).

What only such nodes of the same tensor read needs no scale: x → Sigmoid → Mul with x is one table of x.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.frontend.tabulate import TABULATED
from tinytrain.quantise.normalise import Editor

COMBINED = ("Add", "Mul", "Relu", "Clip")                # parts of a function too, but not one by themselves


@dataclass(frozen=True)
class Formulas:
    """`nodes` are parts of functions, by name; `inner` the tensors between them."""

    nodes: frozenset[str]
    inner: frozenset[str]


def find_formulas(editor: Editor) -> Formulas:
    """Longest first: a tensor that others read too begins a function anew."""
    ends: set[str] = set()
    while True:
        of = _sources(editor, ends)
        inner = {name for name in of if _is_inner(editor, name, of)}
        if outside := set(of) - inner - ends:
            ends |= outside
            continue
        alone = {n.name for n in editor.proto.node if n.output[0] in of and n.op_type in TABULATED}
        joined = {n.name for n in editor.proto.node if n.output[0] in of and any(name in inner for name in (*n.input, n.output[0]))}
        return Formulas(frozenset(alone | joined), frozenset(inner))


def _sources(editor: Editor, ends: set[str]) -> dict[str, str]:
    """Result of a node → the one tensor that it is a function of, number by number; `ends` stand for themselves."""
    of: dict[str, str] = {}
    for node in editor.proto.node:
        if node.op_type not in (*TABULATED, *COMBINED):
            continue
        shape = editor.shapes.get(node.output[0])
        given = [name for name in node.input if name]
        computed = [name for name in given if name not in editor.arrays]
        sources = {name if name in ends else of.get(name, name) for name in computed}
        single = all(editor.arrays[name].shape == () for name in given if name in editor.arrays)
        if single and len(sources) == 1 and all(editor.shapes.get(name) == shape for name in computed):
            of[node.output[0]] = sources.pop()
    return of


def _is_inner(editor: Editor, name: str, of: dict[str, str]) -> bool:
    readers = editor.readers_of(name)
    return bool(readers) and not editor.is_output(name) and all(of.get(reader.output[0]) == of[name] for reader in readers)
