# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file and makes it plain: checked, static shapes, batch 1, QDQ form, constants folded, batch norm folded.

All of it by libraries (onnx, onnx-ir, onnxscript). Node and initializer names stay as they are: logs, schemes and the
exported model use them. The optimiser of onnxscript is not used as a whole because it merges equal initializers, and two
biases that are both zero today differ after the first training step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.batchnorm import fold_batchnorms
from tinytrain.frontend.external import load_external_data
from tinytrain.frontend.limits import check_dtypes, check_finite, check_sizes, check_value_sizes
from tinytrain.frontend.new_head import NewHead, replace_head
from tinytrain.frontend.qoperator import expand_qoperators, store_quantised_weights
from tinytrain.ir.builder import identifier
from tinytrain.reading import reading

if TYPE_CHECKING:
    import onnx
    import onnx_ir

MODEL = "an ONNX model that its own checker accepts"
OLDEST_OPSET = 13
LONGEST_NAME = 40                                         # with what is added to it, below the 63 characters that C99 tells apart


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model that is ready for import.

    `name` is a C identifier; `hash` is the SHA-256 of the file, or of that and of a new head; `stored` are the initializers that the
    file itself names; `bounds` are those of integers that the file clips to fewer bits.
    """

    model: onnx.ModelProto
    name: str
    path: Path
    hash: bytes
    stored: frozenset[str]
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def prepare(
    path: str | Path, *, fold_batchnorm: bool = True, shapes: Mapping[str, tuple[int, ...]] | None = None, new_head: NewHead | None = None
) -> Prepared:
    """Read, check and simplify a model; `shapes` fixes the shapes of inputs by name. Raises ModelError."""
    with reading(Path(path), MODEL, ModelError):
        return _prepared(Path(path), fold_batchnorm, shapes or {}, new_head)


def _prepared(path: Path, fold_batchnorm: bool, shapes: Mapping[str, tuple[int, ...]], new_head: NewHead | None) -> Prepared:
    model, digest = _read(path)
    check_sizes(model, path)
    load_external_data(model, path)
    _check(model, path)
    _check_opset(model, path)
    check_dtypes(model, path)
    check_finite(model, path)
    stored = frozenset(t.name for t in model.graph.initializer)
    _fix_shapes(model, path, shapes)
    _name_nodes(model)
    expand_qoperators(model, str(path))
    model = _infer_shapes(model, path)
    check_value_sizes(model, path)
    model = _fold_constants(model, path)
    bounds = store_quantised_weights(model)
    if fold_batchnorm:
        fold_batchnorms(model)
    if new_head is not None:
        replace_head(model, path, new_head)
        digest = hashlib.sha256(digest + repr(new_head).encode()).digest()
    model = _infer_shapes(model, path)
    check_dtypes(model, path)
    check_finite(model, path)
    return Prepared(model, c_name(path.stem), path, digest, stored, bounds)


def c_name(stem: str) -> str:
    """What the generated files, functions and macros are named after: an identifier that no other file of a project has."""
    name = identifier(stem)[:LONGEST_NAME]
    return f"model_{name}" if name.lower() in ("main", "uart") or name.lower().startswith(("tt_", "port_", "uart_")) else name


def _read(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """The parsed file without its external data, and its SHA-256."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); expected an ONNX file.", hint="Check the path.") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ModelError(
            f"{path} ({len(content):,} bytes) is corrupt, truncated or not an ONNX file; expected a complete ONNX model.",
            hint="Export or download it again.",
        ) from None
    if not model.graph.node:
        raise ModelError(
            f"{path} ({len(content):,} bytes) holds no ONNX graph with nodes; expected a complete ONNX model.",
            hint="It may be empty, truncated or of another format: export it again.",
        )
    return model, hashlib.sha256(content).digest()


def _check(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"{path}: not a valid ONNX model: {_first_line(error)}; expected a model that onnx.checker accepts.", hint="Export it again."
        ) from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if version is None or not OLDEST_OPSET <= version <= newest:
        found = "no ONNX opset" if version is None else f"opset {version}"
        hint = (
            f"Export the model with a newer opset, or convert it with onnx.version_converter.convert_version(model, {OLDEST_OPSET})."
            if version is not None and version < OLDEST_OPSET else "Export the model with an older opset, or install a newer onnx."
        )
        raise ModelError(f"{path} uses {found}; opset {OLDEST_OPSET} to {newest} is supported.", hint=hint)


def _fix_shapes(model: onnx.ModelProto, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Batch 1 and no other open dimension on any input; the shapes of all other values are inferred anew."""
    graph = model.graph
    stored = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in stored]
    names = [i.name for i in inputs]
    for name in shapes:
        if name not in names:
            raise ModelError(f"{path} has no input {name}; its inputs are {', '.join(names)}.", hint=f"Write --shape {names[0]}=1,...")
    for value in inputs:
        kind = value.type.tensor_type
        found: list[int | str] = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim]
        want: list[int | str] = list(shapes.get(value.name, ()))
        if want:
            fixed = [want[i] if i == 0 or isinstance(d, str) else d for i, d in enumerate(found[: len(want)])]
            fits = not kind.HasField("shape") or (len(want) == len(found) and fixed == want)
            if not fits or any(isinstance(d, int) and d < 1 for d in want):
                raise ModelError(
                    f"{path}: --shape {value.name}={_comma(want)} does not fit the model, whose input is ({_comma(found)}).",
                    hint="Give one positive number for each dimension; only open ones and the batch may be chosen.",
                )
        else:
            want = [1 if i == 0 and isinstance(d, str) else d for i, d in enumerate(found)]
            if any(isinstance(d, str) for d in want) or not want:
                example = _comma([d if isinstance(d, int) else 32 for d in want] or [1, 3, 32, 32])
                raise ModelError(
                    f"{path}: input {value.name} has the dynamic shape ({_comma(found)}); "
                    "every dimension but the batch must be known when compiling.",
                    hint=f"Fix it with --shape {value.name}={example}",
                )
        if want[0] != 1 or any(isinstance(d, int) and d < 1 for d in want):
            raise ModelError(
                f"{path}: input {value.name} has the shape ({_comma(want)}); "
                "expected a batch of 1 (or a dynamic one) and no empty dimension.",
                hint=f"Export it with a dynamic batch, or try --shape {value.name}={_comma([1, *want[1:]])}",
            )
        del kind.shape.dim[:]
        for d in want:
            kind.shape.dim.add().dim_value = int(d)
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    del graph.value_info[:]


def _comma(dims: Sequence[int | str]) -> str:
    return ",".join(map(str, dims))


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

    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"{path}: the shapes of its tensors do not fit each other: {_first_line(error)}; expected a model valid for a batch of 1.",
            hint="Export it with a dynamic batch, or fix the input's shape with --shape NAME=1,...",
        ) from None


def _narrows(node: onnx_ir.Node) -> bool:
    """Whether a node takes from integers some of their bits."""
    return node.op_type == "Clip" and any(use.node.op_type == "DequantizeLinear" for use in node.outputs[0].uses())


def _fold_constants(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Everything that does not depend on the input becomes an initializer; nodes without effect go."""
    import onnx_ir
    import onnx_ir.passes.common as common
    from onnxscript import optimizer

    everything = 1 << 31
    try:
        work = onnx_ir.from_proto(model)
        common.InlinePass()(work)
        # a Dropout may be wanted for training, stored integers must not become reals, and their bounds say how many bits they have:
        # under a domain that is not imported the library takes none of them for something to be folded
        kept = [node for node in work.graph if node.op_type in ("Dropout", "DequantizeLinear") or _narrows(node)]
        for node in kept:
            node.domain = "kept"
        optimizer.fold_constants(work, input_size_limit=everything, output_size_limit=everything)
        for node in kept:
            node.domain = ""
        for step in (
            common.RemoveUnusedNodesPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.IdentityEliminationPass(),
            common.RemoveInitializersFromInputsPass(),
            common.RemoveUnusedNodesPass(),
            common.NameFixPass(),
        ):
            step(work)
        return onnx_ir.to_proto(work)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
        cause = error.__cause__ or error
        raise ModelError(
            f"{path}: its constant part cannot be computed: {_first_line(Exception(str(cause)))}; expected constants that fold.",
            hint="Run onnxsim or the exporter's own constant folding first.",
        ) from None

