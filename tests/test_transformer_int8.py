# SPDX-License-Identifier: Apache-2.0
"""A transformer quantised by our own tool and by onnxruntime's: nothing is left in fp32, it agrees with onnxruntime, and it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import f32, infer, op_names
from onnx import version_converter
from oracle_session import session_of
from test_transformer import cct

from tinytrain.compiler import Options, compile_model
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.gradient.update import Optimiser
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as Quantising
from tinytrain.report.live import Quiet
from tinytrain.verify.reference import ReferenceModel

SHAPE = (1, 3, 8, 8)


def transformer(folder: Path) -> Path:
    """With a Gelu between the layers of its encoders, one of them written out as exporters did before opset 20."""
    model = version_converter.convert_version(cct(), 20)
    for number, node in enumerate([n for n in model.graph.node if n.op_type == "Relu" and "_up" in n.input[0]]):
        node.op_type = "Gelu"
        if number:
            x, y, at = node.input[0], node.output[0], list(model.graph.node).index(node)
            model.graph.node.remove(node)
            arrays = {"root2": 2**0.5, "one": 1.0, "half": 0.5}
            model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v, np.float32), k) for k, v in arrays.items())
            steps = (
                ("Div", x, "root2", "g0"), ("Erf", "g0", "", "g1"), ("Add", "g1", "one", "g2"), ("Mul", x, "g2", "g3"),
                ("Mul", "g3", "half", y),
            )
            for place, (op, a, b, made) in enumerate(steps):
                model.graph.node.insert(at + place, onnx.helper.make_node(op, [a, b] if b else [a], [made], f"gelu_{made}"))
    onnx.save(model, path := folder / "t.onnx")
    return path


def ours(folder: Path) -> Path:
    np.savez(folder / "x.npz", x=np.stack([f32(*SHAPE[1:]) for _ in range(24)]))
    made = quantise_model(transformer(folder), folder / "x.npz", Quantising(), Quiet())
    assert made.report.islands == ()
    assert made.report.output_snr_db is not None and made.report.output_snr_db > 20
    onnx.save(made.model, path := folder / "ours.onnx")
    return path


def onnxruntimes(folder: Path) -> Path:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Samples(quantization.CalibrationDataReader):  # type: ignore[name-defined,misc]
        left = [f32(*SHAPE) for _ in range(24)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return {"x": self.left.pop()} if self.left else None

    kinds = {"activation_type": quantization.QuantType.QInt8, "weight_type": quantization.QuantType.QInt8}
    quantization.quantize_static(
        transformer(folder), path := folder / "theirs.onnx", Samples(), quant_format=quantization.QuantFormat.QDQ, per_channel=True, **kinds
    )
    return path


@pytest.mark.parametrize("quantised", [ours, onnxruntimes])
def test_nothing_is_left_in_fp32(quantised: Callable[[Path], Path], tmp_path: Path) -> None:
    """But for the ends of the model. It gives what onnxruntime gives, but for steps in which roundings add up."""
    prepared = prepare(quantised(tmp_path))
    imported = import_model(prepared)
    names = op_names(imported)
    assert imported.float_islands == ()
    assert names.count("quantise") == names.count("dequantise") == 1
    assert {"normalise_q", "softmax_q", "matmul", "lookup", "add_q", "dense"} <= set(names)
    session = session_of(prepared.model)
    samples = [f32(*SHAPE) for _ in range(20)]
    got = np.stack([infer(imported, x) for x in samples])
    want = np.stack([session.run(None, {"x": x})[0] for x in samples])
    spread = want.max() - want.min()
    assert np.abs(got - want).max() < 0.06 * spread
    assert np.abs(got - want).mean() < 0.01 * spread


def test_it_learns_as_the_reference(tmp_path: Path) -> None:
    compiled = compile_model(ours(tmp_path), Options(exact_seconds=0.0, optimiser=Optimiser(0.02)))
    assert_learns_as_reference(Library(compiled, tmp_path, "-O1"), steps=2)
    model = ReferenceModel(compiled.program)
    samples = [(f32(8, 8, 3), np.array([n], np.int32)) for n in range(3)]
    losses = [np.mean([model.train_step(x, label) for x, label in samples]) for _ in range(8)]
    assert np.mean(losses[-2:]) < 0.8 * losses[0]
