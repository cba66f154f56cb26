# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file and makes it plain: checked, of a known opset, static shapes, batch 1, QDQ form, constants and batch norms folded.

All of it by libraries (onnx, onnx-ir, onnxscript). Node and initializer names stay as they are: logs, schemes and the
exported model use them. The optimiser of onnxscript is not used as a whole because it merges equal initializers, and two
biases that are both zero today differ after the first training step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.apart import read_apart, store_apart
from tinytrain.frontend.batchnorm import Folded, fold_batchnorms, settle_batchnorms
from tinytrain.frontend.classic import rewrite_classic
from tinytrain.frontend.external import load_external_data
from tinytrain.frontend.fold import fold_constants
from tinytrain.frontend.foreign import refuse_folder, refuse_foreign
from tinytrain.frontend.functions import inline_functions
from tinytrain.frontend.limits import MAX_BYTES, check_finite, check_sizes, check_value_sizes, wrong_types
from tinytrain.frontend.literals import exported_numbers, literal_values
from tinytrain.frontend.masks import bound_masks
from tinytrain.frontend.new_head import NewHead, replace_head
from tinytrain.frontend.opset import convert, opset_of, settle_constants, sort_nodes
from tinytrain.frontend.pairs import pair_up
from tinytrain.frontend.qoperator import expand_qoperators
from tinytrain.frontend.shapes import fix_shapes, forget_shapes, inferred_shapes, known_shapes, one_sample
from tinytrain.frontend.supported import strange_ops
from tinytrain.frontend.told import tell_shapes
from tinytrain.gradient.method import Method
from tinytrain.ir.builder import identifier
from tinytrain.origins import Origin, origin
from tinytrain.reading import first_line, read_limited, reading

if TYPE_CHECKING:
    import onnx

MODEL = "an ONNX model that its own checker accepts"
# of C: where the folder of a model's header is searched, it is for `#include <math.h>` too
_HEADERS = (
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math", "memory", "setjmp",
    "signal", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "strings", "tgmath", "threads", "time", "uchar",
    "unistd", "wchar", "wctype",
)
FOLDED = "folded into"                                    # what became of a batch norm, before the name of the layer
_COMPUTED = "computed when compiling: all that it reads is known then"
_DROPPED = "dropped: it changes nothing, or nothing reads what it gives"
LONGEST_NAME = 40                                         # with what is added to it, below the 63 characters that C99 tells apart


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model that is ready for import.

    `name` is a C identifier; `hash` is the SHA-256 of the file, or of that and of a new head; `literals` are constants that come from
    the file's nodes alone, not from its initializers; `bounds` are those of integers that the file clips to fewer bits; `notes` say what
    else became of the file, `became` what became of single nodes, by name: batch norms, and what is left out; `refusals` why it cannot be
    imported, to which the import adds its own; `origins` are the files.
    """

    model: onnx.ModelProto
    name: str
    path: Path
    hash: bytes
    literals: frozenset[str]
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    refusals: tuple[ModelError, ...] = ()
    became: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[Origin, ...] = ()


def prepare(
    path: str | Path, *, fold_batchnorm: bool = True, shapes: Mapping[str, tuple[int, ...]] | None = None,
    new_head: NewHead | None = None, method: Method | None = None,
) -> Prepared:
    """Read, check and simplify a model; `shapes` fixes the shapes of inputs by name, `method` may change it. Raises ModelError."""
    with reading(Path(path), MODEL, ModelError):
        return _prepared(Path(path), fold_batchnorm, shapes or {}, new_head, method or Method())


def _prepared(
    path: Path, fold_batchnorm: bool, shapes: Mapping[str, tuple[int, ...]], new_head: NewHead | None, method: Method
) -> Prepared:
    model, digest = read_model(path)
    check_sizes(model, path)
    origins = tuple(origin("model", file) for file in (path, *load_external_data(model, path)))
    opset_of(model, path)
    sort_nodes(model, path)
    settle_constants(model)
    _check(model, path)
    check_finite(model, path, settled=False)
    batch = fix_shapes(model, path, shapes)
    _name_nodes(model)
    told = rewrite_classic(model.graph)
    _name_nodes(model)
    model, notes = convert(model, path)
    pair_up(model.graph)
    literals = literal_values(model.graph, exported_numbers(model))
    notes = (*told, *notes, *store_apart(model.graph), *read_apart(model.graph, literals))
    _name_nodes(model)
    expand_qoperators(model, str(path))
    model = _infer_shapes(model, path)
    given, known = [node.name for node in model.graph.node], _computable(model.graph)
    model, bounds = _folded(model, path)
    left = {node.name for node in model.graph.node}
    became = {name: _COMPUTED if name in known else _DROPPED for name in given if name not in left}
    while (defined := inline_functions(model)) is not None:
        literals |= literal_values(defined.graph, literals)
        notes = tuple(dict.fromkeys((*notes, *read_apart(defined.graph, literals))))
        model, more = _folded(_infer_shapes(defined, path), path)
        bounds |= more
    model = one_sample(model, path, batch)
    notes = (*notes, *settle_batchnorms(model.graph))
    if fold_batchnorm:
        became |= {
            name: f"{FOLDED} {one.linear}" if isinstance(one, Folded) else f"kept: {one.why}"
            for name, one in fold_batchnorms(model).items()
        }
    else:
        became |= {node.name: "kept: it was asked for" for node in model.graph.node if node.op_type == "BatchNormalization"}
    if new_head is not None:
        replace_head(model, path, new_head)
        digest = hashlib.sha256(digest + repr(new_head).encode()).digest()
    if method.change_model(model, path):
        digest = hashlib.sha256(digest + repr(method).encode()).digest()
    model = _infer_shapes(model, path)
    refusals = wrong_types(model, path)
    bound_masks(model.graph)
    check_finite(model, path, settled=True)
    return Prepared(model, c_name(path.stem), path, digest, literals, bounds, notes, refusals, became, origins)


def _computable(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that read nothing but what is stored, or shapes."""
    values, found = {"", *(tensor.name for tensor in graph.initializer)}, set[str]()
    for node in graph.node:
        if node.op_type in ("Shape", "Size") or values.issuperset(node.input):
            values.update(node.output)
            found.add(node.name)
    return found


def _folded(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, dict[str, tuple[int, int]]]:
    """Folded until no more shapes become known by it: they are constants, and so is what has no elements."""
    bounds: dict[str, tuple[int, int]] = {}
    before, left = -1, -2
    while left not in (0, before):
        model, more = fold_constants(model, path)
        bounds |= more
        model = _infer_shapes(model, path)
        asked = sum(node.op_type in ("Shape", "Size") for node in model.graph.node)
        before, left = left, asked + sum(0 in shape for shape in known_shapes(model.graph).values())
    return model, bounds


def c_name(stem: str) -> str:
    """What the generated files, functions and macros are named after: an identifier that no other file of a project has, nor C itself."""
    name = identifier(stem)[:LONGEST_NAME]
    taken = name.lower() in ("main", "uart", *_HEADERS) or name.lower().startswith(("tt_", "port_", "uart_"))
    return f"model_{name}" if taken else name


def read_model(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """The parsed file without its external data, and its SHA-256. Raises ModelError."""
    import onnx
    from google.protobuf.message import DecodeError

    refuse_folder(path)
    content = read_limited(path, MAX_BYTES, "an ONNX file", ModelError, hint="Check the path.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError):
        refuse_foreign(content, path)
        raise ModelError(
            f"{path} ({len(content):,} bytes) is corrupt, truncated or not an ONNX file; expected a complete ONNX model.",
            hint="Export or download it again.",
        ) from None
    if not model.graph.node:
        refuse_foreign(content, path)
        raise ModelError(
            f"{path} ({len(content):,} bytes) holds no ONNX graph with nodes; expected a complete ONNX model.",
            hint="It may be empty, truncated or of another format: export it again.",
        )
    return model, hashlib.sha256(content).digest()


def _check(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:                            # the checker says what is invalid by exceptions of several kinds
        raise ModelError(
            f"{path}: not a valid ONNX model: {first_line(error)}; expected a model that onnx.checker accepts.", hint="Export it again."
        ) from None


def _name_nodes(model: onnx.ModelProto) -> None:
    """An unnamed node is called after its op and position: messages must be able to point at it."""
    taken = {n.name for n in model.graph.node}
    for index, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            taken.add(name)
            node.name = name


def _infer_shapes(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    import onnx

    forget_shapes(model)
    try:
        inferred = inferred_shapes(model)
        while tell_shapes(inferred):
            inferred = inferred_shapes(inferred)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as error:
        for refusal in wrong_types(model, path):
            raise refusal from None
        _check_strange(model, path)
        raise ModelError(
            f"{path}: the shapes of its tensors do not fit each other: {first_line(error)}; expected a model valid for a batch of 1.",
            hint="Export it with a batch of 1 or a dynamic one, or fix the input's shape with --shape NAME=1,...",
        ) from None
    check_value_sizes(inferred, path)
    return _tensors_only(inferred)


def _check_strange(model: onnx.ModelProto, path: Path) -> None:
    """Refuse ops that are not supported: shape inference stumbles over what it does not know."""
    import onnx

    lenient = _tensors_only(onnx.shape_inference.infer_shapes(model, data_prop=True))
    with suppress(ModelError):
        lenient, _ = fold_constants(lenient, path)
    for refusal in strange_ops(lenient.graph, str(path)):
        raise refusal


def _tensors_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the types of maps and sequences, which no handler takes and the library for folding cannot read."""
    for value in (*model.graph.value_info, *model.graph.output):
        if value.type.WhichOneof("value") not in (None, "tensor_type"):
            value.ClearField("type")
    return model
