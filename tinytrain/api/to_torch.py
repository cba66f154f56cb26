# SPDX-License-Identifier: Apache-2.0
"""What a device has learned back in a PyTorch module, whatever exporter and compiler have made of its weights on the way.

Where each number of the module went is seen, not guessed: a copy of the module whose numbers are their own positions goes the same way.
What was moved, transposed, joined or split then says itself where it comes from. Only a folded batch norm has to be computed back: it keeps
its own statistics and scale, and the function is that of the learned model.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.api.from_torch import Exporter, export, pytorch, run
from tinytrain.errors import ModelError
from tinytrain.frontend.batchnorm import Folded, fold_batchnorms
from tinytrain.frontend.prepare import prepare
from tinytrain.frontend.stored import stored_tensors
from tinytrain.ir.types import Array
from tinytrain.learn.export import quantising
from tinytrain.onnx_graph import stored_array

if TYPE_CHECKING:
    import onnx
    import torch

FIXED = ("Clip", "Pad", "Resize", "QuantizeLinear", "DequantizeLinear")          # whose reals are bounds and factors
FIRST = 1 << 22                                           # positions begin beyond the constants that a model has of its own
LAST = 1 << 24                                            # from here on not every integer is an fp32
WEAK = 1e-6                                               # scale of a batch norm that cannot be divided by
NEAR = 1e-3                                               # part of the largest output that sums in another order may make
ROUGH = 0.25                                              # part of the mean output that rounding to int8 may make
SPREAD = 32.0                                             # deviation of noise in integers of 8 bits, which seldom meets their ends
EVEN = 1e-5                                               # part of a number that folding may make


def to_torch(module: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """Write the weights of a learned model (`Device.save`, learned.onnx) into the module that it was exported from; returns the module.

    Batch norms that were folded keep scale, mean and variance of the module; what was learned goes into the layers in front of them and
    their offsets. An int8 model gives the reals that its integers stand for. The module changes only when all of it fits and it computes
    what the model does. Raises ToolError without PyTorch, ModelError for another architecture.
    """
    torch = pytorch()
    path = Path(path)
    learned = _Learned.read(path)
    numbered = _Numbered.of(module, path)
    _runs(module, learned, path)
    refused: ModelError | None = None
    exporters: tuple[Exporter, ...] = ("trace", "export")
    for exporter in exporters:
        try:
            ways = _ways(numbered, learned.inputs, exporter)
        except ModelError as error:                       # the other one may take it
            refused = error
            continue
        for way in ways:
            try:
                changed = numbered.changed(module, way, learned, path)
            except ModelError as error:
                # layers that are alike, and cannot take what was learned, say more than others
                refused = refused if isinstance(refused, _NoPlace) else error
                continue
            with torch.no_grad():
                for own, new in zip(_tensors(module).values(), _tensors(changed).values(), strict=True):
                    own.copy_(new)
            return module
    assert refused is not None
    raise refused


class _NoPlace(ModelError):
    """The module has the same layers, but cannot hold what they have learned."""


@dataclass(frozen=True)
class _Weighted:
    """A node that reads stored tensors: its kind, and the names and shapes of these by the place that they have among its inputs."""

    kind: str
    name: str
    reads: tuple[tuple[int, str, tuple[int, ...]], ...]

    @property
    def form(self) -> object:
        return self.kind, [(place, shape) for place, _, shape in self.reads]


@dataclass(frozen=True, eq=False)
class _Learned:
    """The learned model as it is stored, and what it stores with reals in place of integers; `rounds` where layers give integers."""

    stored: onnx.ModelProto
    arrays: dict[str, Array]
    weighted: list[_Weighted]
    rounds: bool

    @classmethod
    def read(cls, path: Path) -> _Learned:
        stored = prepare(path, fold_batchnorm=False).model
        reals = _reals(stored)
        return cls(stored, _arrays(reals), _weighted(reals), any(node.op_type == "QuantizeLinear" for node in stored.graph.node))

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Noise for the module, with a batch of 1, within the ranges of an int8 model; for integers zeros, which any table has."""
        import onnx

        torch, rng = pytorch(), np.random.default_rng(0)
        found = []
        for entry in self.stored.graph.input:
            kind, shape = entry.type.tensor_type.elem_type, [d.dim_value for d in entry.type.tensor_type.shape.dim]
            quant = self._quant(entry.name)
            if quant is not None:
                scale, zero = quant
                limits = np.iinfo(zero.dtype)
                integers = np.clip(np.rint(rng.normal((limits.min + limits.max) / 2, SPREAD, shape)), limits.min, limits.max)
                found.append(((integers - zero.astype(int)) * scale).astype(np.float32))
            elif kind == onnx.TensorProto.FLOAT:
                found.append(rng.normal(size=shape).astype(np.float32))
            else:
                found.append(np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(kind)))
        return tuple(map(torch.from_numpy, found))

    def outputs(self, inputs: tuple[torch.Tensor, ...]) -> list[Array] | None:
        """What it computes of them; None where onnx's evaluator cannot run it."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        given = {}
        for entry, x in zip(self.stored.graph.input, inputs, strict=True):
            given[entry.name] = x.numpy()
            quant = self._quant(entry.name)
            if quant is not None and entry.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
                given[entry.name] = (np.rint(given[entry.name] / quant[0]) + quant[1]).astype(quant[1].dtype)
        try:
            evaluator: Any = ReferenceEvaluator(self.stored, new_ops=list(quantising()))
            return [np.reshape(y, -1).astype(np.float64) for y in evaluator.run(None, given)]
        except Exception:                                 # whatever an evaluator without some operator raises
            return None

    def _quant(self, name: str) -> tuple[Array, Array] | None:
        """Scale and zero point of what reads an input."""
        stored = {t.name: t for t in self.stored.graph.initializer}
        reader = next((node for node in self.stored.graph.node if name in node.input), None)
        if reader is None or reader.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(reader.input) < 3:
            return None
        scale, zero = (stored_array(stored[operand]) for operand in reader.input[1:3])
        return scale, zero


@dataclass(frozen=True, eq=False)
class _Way:
    """What the numbered copy became: positions by the names of tensors, and which batch norms were folded."""

    positions: dict[str, Array]
    weighted: list[_Weighted]
    folded: list[Folded]


@dataclass(frozen=True, eq=False)
class _Numbered:
    """A copy of the module with positions for numbers; `flat` are the numbers themselves, in order of their positions."""

    copy: torch.nn.Module
    flat: Array

    @classmethod
    def of(cls, module: torch.nn.Module, path: Path) -> _Numbered:
        torch = pytorch()
        made = copy.deepcopy(module).eval()
        begin, parts = FIRST, []
        for tensor in _tensors(made).values():
            parts.append(tensor.detach().cpu().double().numpy().reshape(-1))
            with torch.no_grad():
                tensor.copy_(torch.arange(begin, begin + tensor.numel()).reshape(tensor.shape))
            begin += tensor.numel()
        if begin > LAST:
            raise ModelError(
                f"{type(module).__name__} has {begin - FIRST:,} numbers; expected at most {LAST - FIRST:,}.",
                hint=f"Read {path} by onnx, and copy what was trained.",
            )
        return cls(made, np.concatenate([*parts, np.zeros(0)]))

    def changed(self, module: torch.nn.Module, way: _Way, learned: _Learned, path: Path) -> torch.nn.Module:
        """A copy of the module with what was learned. Raises ModelError where its layers are others, _NoPlace where they cannot hold it."""
        if differs := _difference(way.weighted, learned.weighted):
            raise _other(module, path, differs)
        made = self.filled(module, self.values(way, learned))
        _check(made, learned, path)
        return made

    def moved(self, positions: Array) -> Array:
        """Where there are positions, and no constants of the model's own."""
        return np.asarray((positions >= FIRST) & (positions < FIRST + len(self.flat)) & (positions == np.round(positions)))

    def now(self, positions: Array) -> Array:
        """What the module has there; constants as they are."""
        at = np.where(self.moved(positions), positions - FIRST, 0).astype(int)
        return np.where(self.moved(positions), self.flat[at], positions).astype(np.float64)

    def values(self, way: _Way, learned: _Learned) -> Array:
        """The module's numbers, with what was learned. Raises _NoPlace where the module has none for something."""
        pairs = zip(way.weighted, learned.weighted, strict=True)
        names = {mine: theirs for a, b in pairs for (_, mine, _), (_, theirs, _) in zip(a.reads, b.reads, strict=True)}
        new, known = self.flat.copy(), np.zeros(len(self.flat), bool)

        def put(positions: Array, array: Array, what: str) -> None:
            moved = self.moved(positions)
            at = (positions[moved] - FIRST).astype(int)
            stays, got = self.now(positions), array.astype(np.float64)
            bound = EVEN * (1.0 + np.abs(stays))
            if not learned.rounds and (np.abs(got - stays)[~moved] > bound[~moved]).any():
                message = f"{what} was trained, for which {type(self.copy).__name__} has no parameter."
                raise _NoPlace(message, hint="Give its layer a bias, or freeze it.")
            if (np.abs(got[moved] - new[at]) > bound[moved])[known[at]].any():
                message = f"{what} is one tensor of {type(self.copy).__name__} for several readers, which were trained apart."
                raise _NoPlace(message, hint="Freeze it, or give each reader one of its own.")
            new[at], known[at] = got[moved], True

        folded = {name for fold in way.folded for name in (fold.weight, fold.bias)}
        for mine, theirs in names.items():
            if mine not in folded:
                put(way.positions[mine], learned.arrays[theirs], theirs)
        for fold in way.folded:
            self._unfold(fold, way, learned.arrays[names[fold.weight]], learned.arrays[names[fold.bias]], put)
        return new

    def _unfold(self, fold: Folded, way: _Way, weight: Array, bias: Array, put: Any) -> None:
        """W' = s·W and b' = s·(b − μ) + β, with s = γ/√(σ² + ε) of the module, say what W is, and β, or b where there is no β."""
        where = way.positions
        gamma, beta, mean, variance = (self.now(where[name]) for name in fold.norm)
        deviation = np.sqrt(variance + fold.epsilon)
        scale = gamma / deviation
        weak = np.abs(scale) < WEAK
        scale = np.where(weak, 1.0, scale)
        along = [-1 if axis == fold.axis else 1 for axis in range(weight.ndim)]
        put(where[fold.weight], weight / scale.reshape(along), fold.weight)
        put(where[fold.norm[0]], np.where(weak, deviation, gamma), fold.norm[0])
        before = where[fold.before] if fold.before else np.zeros(0)
        if self.moved(where[fold.norm[1]]).all():
            b = self.now(before).reshape(-1) if before.size else 0.0
            put(where[fold.norm[1]], bias.reshape(-1) - scale * (b - mean), fold.norm[1])
        else:
            b = (bias.reshape(-1) - beta) / scale + mean
            put(before if before.size else np.zeros_like(b), b.reshape(before.shape if before.size else b.shape), fold.bias)

    def filled(self, module: torch.nn.Module, flat: Array) -> torch.nn.Module:
        """A copy of the module with other numbers, in evaluation mode."""
        torch = pytorch()
        made, begin = copy.deepcopy(module).eval(), 0
        for tensor in _tensors(made).values():
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(flat[begin : begin + tensor.numel()].reshape(tensor.shape)))
            begin += tensor.numel()
        return made


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers that are reals, each once."""
    every = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in every.items() if tensor.is_floating_point()}


def _ways(numbered: _Numbered, inputs: tuple[torch.Tensor, ...], exporter: Exporter) -> list[_Way]:
    """The numbered copy as the compiler has it, with batch norms and with those folded that can be. Raises ModelError."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbered.onnx"
        export(numbered.copy, inputs, path, exporter, ())
        whole = prepare(path, fold_batchnorm=False).model
    folded = onnx.ModelProto()
    folded.CopyFrom(whole)
    foldings = [one for one in fold_batchnorms(folded).values() if isinstance(one, Folded)]
    positions = _arrays(whole)
    ways = [_Way(positions, _weighted(whole), [])]
    return [*ways, _Way(positions, _weighted(folded), foldings)] if foldings else ways


def _arrays(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: stored_array(tensor) for tensor in model.graph.initializer}


def _weighted(model: onnx.ModelProto) -> list[_Weighted]:
    """Nodes that read stored reals which may be learned, in order."""
    import onnx

    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    every = [_Weighted(node.op_type, node.name, tuple((i, name, shapes[name]) for i, name in enumerate(node.input) if name in shapes))
             for node in model.graph.node if node.op_type not in FIXED]
    return [node for node in every if node.reads]


def _other(module: torch.nn.Module, path: Path, differs: str) -> ModelError:
    return ModelError(
        f"{path} is of another architecture than {type(module).__name__}: {differs}.",
        hint="Give the module that it was exported from, with as many classes. What tinytrain.from_torch exports comes back.",
    )


def _runs(module: torch.nn.Module, learned: _Learned, path: Path) -> None:
    """Raises ModelError where the module does not take what the model takes."""
    try:
        run(copy.deepcopy(module).eval(), learned.inputs)
    except ModelError as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in learned.inputs)
        raise _other(module, path, f"it takes {shapes}, on which that does not run") from error


def _difference(mine: list[_Weighted], theirs: list[_Weighted]) -> str | None:
    """The first difference of two models, for a sentence."""
    for own, other in zip(mine, theirs):
        if own.form != other.form:
            return f"{_said(other)} stands where the module has {_said(own)}"
    if len(mine) != len(theirs):
        return f"it has {len(theirs)} layers with weights, the module {len(mine)}"
    return None


def _said(node: _Weighted) -> str:
    shapes = " and ".join(str(shape) for _, _, shape in node.reads)
    return f"{node.reads[0][1]} ({node.kind} with {shapes})"


def _reals(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stored integers as the reals that they stand for, under the names that their readers know."""
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    known = {tensor.name for tensor in made.graph.initializer}
    made.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in stored_tensors(model).items() if name not in known
    )
    return made


def _check(changed: torch.nn.Module, learned: _Learned, path: Path) -> None:
    """The module must compute what the model does. Raises _NoPlace."""
    inputs = learned.inputs
    want = learned.outputs(inputs)
    if want is None:                                      # the layers are the same
        return
    for got, wanted in zip(run(changed, inputs), want, strict=True):
        gap, size = np.abs(got.numpy().reshape(-1) - wanted), np.abs(wanted)
        # rounding from layer to layer moves many outputs by a little
        off, allowed = (gap.mean(), ROUGH * size.mean()) if learned.rounds else (gap.max(initial=0.0), NEAR * size.max(initial=0.0))
        if not off <= allowed + NEAR**2:
            message = f"{type(changed).__name__} with the weights of {path} does not compute that: they differ by up to {gap.max():.3g}."
            raise _NoPlace(message, hint="Give the module that it was exported from.")
