# SPDX-License-Identifier: Apache-2.0
"""A PyTorch module as an ONNX model whose batch norms are left whole, and whose weights are called as in the module.

Both of PyTorch's exporters fold a batch norm into the convolution in front of it unless they are told otherwise, and call weights by names
of their own. The compiler folds batch norms just as well, where it is not told to keep them.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from tinytrain.api.build import Scratch
from tinytrain.api.model import Model, load
from tinytrain.atomic import check_files, write_bytes
from tinytrain.errors import ModelError, ToolError
from tinytrain.reading import first_line

if TYPE_CHECKING:
    import torch

Exporter = Literal["export", "trace"]
LINEAR = ("Conv", "ConvTranspose", "Gemm")                # whose third input is a bias
OPSETS = {"export": 18, "trace": 17}                      # which each of them writes without a conversion behind it


def from_torch(
    module: torch.nn.Module, example: ArrayLike | torch.Tensor | Sequence[Any], path: str | Path | None = None, *,
    exporter: Exporter = "export", outputs: Sequence[str] = (),
) -> Model:
    """`example` is what the module takes, (n, *input shape), NumPy or torch; a tuple of one for each of several inputs. Its values matter
    only where the module's course depends on them. Inputs are called as in `forward`, outputs as `outputs` says, or y, or y0, y1, …

    The module, which does not change, is exported for inference with a batch of 1, to `path` or a temporary file. `exporter` is PyTorch's
    torch.export, or "trace" for its older one by tracing, which takes modules that the other refuses and freezes what depends on data.
    Raises ToolError without PyTorch, ModelError where the module does not run on the example or cannot be exported.
    """
    scratch = Scratch()
    made = scratch.path / f"{type(module).__name__.lower()}.onnx"
    file = made if path is None else Path(path)
    check_files(file)
    inputs = tensors(example)
    still = copy.deepcopy(module).eval()
    export(still, inputs, made, exporter, outputs or _outputs(still, inputs))
    load(made)
    if path is not None:
        write_bytes(file, made.read_bytes())              # whole, or not at all
    return Model(file, keeps=scratch if path is None else None)


def pytorch() -> Any:
    """The package. Raises ToolError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise ToolError("from_torch and to_torch need the package torch.", hint="Install it: pip install 'tinytrain[torch]'.") from None
    return torch


def tensors(example: Any) -> tuple[torch.Tensor, ...]:
    """One for each input, with a batch of 1. Raises ModelError for what is no array of samples."""
    torch = pytorch()
    several = example if isinstance(example, tuple) else (example,)
    try:
        return tuple(torch.as_tensor(one)[:1].clone() for one in several)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        message = f"The example is no array of samples: {first_line(error)}."
        raise ModelError(message, hint="Give (n, *input shape), or a tuple of one for each input.") from error


def export(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, exporter: Exporter, outputs: Sequence[str]) -> None:
    """The module, which is in evaluation mode, as a file. Raises ModelError where the exporter cannot."""
    torch = pytorch()
    how: Mapping[str, Any] = (
        {"dynamo": True, "optimize": False, "external_data": False, "verbose": False} if exporter == "export" else
        {"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    )
    try:
        with _quietly():
            names = {"input_names": _inputs(module, len(inputs)), "output_names": [*outputs]}
            torch.onnx.export(module, inputs, path, opset_version=OPSETS[exporter], **names, **how)
    except Exception as error:                            # whatever a module leads an exporter to
        other = "trace" if exporter == "export" else "export"
        message = f"{type(module).__name__}: PyTorch cannot export it: {first_line(error)}."
        raise ModelError(message, hint=f"Try exporter={other!r}, or export it by torch.onnx.export and tinytrain.load that.") from error
    if exporter == "export":
        _drop_zeros(path, {name for name, _ in module.named_parameters()})


def _drop_zeros(path: Path, own: Collection[str]) -> None:
    """torch.export gives a convolution without a bias zeros for one: what would be learned there has no place in the module."""
    import onnx
    from onnx import numpy_helper

    from tinytrain.frontend.fold import fold_constants

    model = onnx.load(path)
    folded, _ = fold_constants(model, path)
    zeros = {t.name for t in folded.graph.initializer if t.name not in own and not numpy_helper.to_array(t).any()}
    without = {node.output[0] for node in folded.graph.node if node.op_type in LINEAR and zeros.intersection(node.input[2:])}
    for node in model.graph.node:
        if node.output[0] in without:
            del node.input[2:]
    write_bytes(path, model.SerializeToString())


def run(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Its outputs. Raises ModelError where it does not run."""
    torch = pytorch()
    try:
        with torch.no_grad():
            made = module(*inputs)
    except Exception as error:
        shapes = ", ".join(str(tuple(one.shape)) for one in inputs)
        message = f"{type(module).__name__} does not run on an example of shape {shapes}: {first_line(error)}."
        raise ModelError(message, hint="Give what it takes: a batch of samples, or a tuple of one for each input.") from error
    return tuple(made) if isinstance(made, (tuple, list)) else (made,)


def _outputs(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[str]:
    count = len(run(module, inputs))
    return ["y"] if count == 1 else [f"y{i}" for i in range(count)]


def _inputs(module: torch.nn.Module, count: int) -> list[str]:
    """As `forward` calls them."""
    takes = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, one in inspect.signature(module.forward).parameters.items() if one.kind in takes][:count]
    return names if len(names) == count else ["x"] if count == 1 else [f"x{i}" for i in range(count)]


@contextmanager
def _quietly() -> Iterator[None]:
    """What exporters warn of is for those who work on them."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
