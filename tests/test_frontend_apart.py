# SPDX-License-Identifier: Apache-2.0
"""How exporters store what a network learns, and numbers that it does not: both are told apart. The graphs are as exporters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from cli_runs import save_text
from frontend_models import f32, i64, op_names
from frontend_models import node as n
from frontend_oracle import agrees, save

from tinytrain.compiler import Options, compile_model
from tinytrain.frontend.onnx_import import Imported
from tinytrain.gradient.train_step import inference

ONES, ZEROS = np.ones(6, np.float32), np.zeros(6, np.float32)


def undecided(imported: Imported) -> list[str]:
    return [one.name for one in imported.constants.frozen(inference(imported.graph)) if not one.decided]


def test_scales_that_start_alike_are_trained_apart(tmp_path: Path) -> None:
    """PyTorch's newer exporter stores equal tensors once: scales of two norms, and zeros that are an offset, a bias and a start."""
    nodes = [
        n("LayerNormalization", "x ones zeros", "a", "first"), n("MatMul", "a w", "b", "linear"), n("Add", "b zeros", "c", "bias"),
        n("LayerNormalization", "c ones", "d", "second"), n("MatMul", "d v", "y", "head"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"ones": ONES, "zeros": ZEROS, "w": f32(6, 6), "v": f32(6, 3)}, (1, 6))
    prepared, imported = agrees(path, f32(1, 6))
    assert set(imported.params) == {"ones", "ones_second", "zeros", "zeros_bias", "w", "v"}
    assert prepared.notes == (
        "ones is stored once for first, second: they start alike, and are trained apart",
        "zeros is stored once for first, bias: they start alike, and are trained apart",
    )


def test_what_is_no_weight_elsewhere_does_not_freeze_a_bias(tmp_path: Path) -> None:
    """Zeros that are the mean of a batch norm as well."""
    nodes = [n("Gemm", "x w zeros", "a", "linear"), n("BatchNormalization", "a g zeros zeros ones", "y", "norm")]
    arrays = {"w": f32(6, 6), "g": f32(6), "zeros": ZEROS, "ones": ONES}
    _, imported = agrees(save(tmp_path / "m.onnx", nodes, arrays, (1, 6)), f32(1, 6), fold_batchnorm=False)
    assert set(imported.params) == {"w", "zeros_linear", "g", "zeros_norm"}


def test_weights_that_are_shared_stay_one(tmp_path: Path) -> None:
    nodes = [n("Gemm", "x w b", "a", "one"), n("Relu", "a", "r"), n("Gemm", "r w b", "y", "two")]
    prepared, imported = agrees(save(tmp_path / "m.onnx", nodes, {"w": f32(6, 6), "b": f32(6)}, (1, 6)), f32(1, 6))
    assert set(imported.params) == {"w", "b"} and not prepared.notes


def test_single_numbers_of_pytorch_are_not_trained(tmp_path: Path) -> None:
    """The scale of its attention has one element along one axis, as a parameter may; only its name tells."""
    nodes = [n("Mul", "x val_7", "a", "scaled"), n("Mul", "a gate", "y", "gated")]
    path = save(tmp_path / "m.onnx", nodes, {"val_7": np.full(1, 0.4, np.float32), "gate": np.full(1, 0.7, np.float32)}, (1, 6))
    _, imported = agrees(path, f32(1, 6))
    assert set(imported.params) == {"val_7", "gate"}
    model = onnx.load(path)
    model.producer_name = "pytorch"
    onnx.save(model, path)
    _, imported = agrees(path, f32(1, 6))
    assert set(imported.params) == {"gate"} and not undecided(imported)


def test_norm_of_groups_has_one_scale(tmp_path: Path) -> None:
    """GroupNorm as both exporters write it: ones and zeros of an InstanceNormalization are none of its parameters, and cost nothing."""
    arrays = {"axes": i64(0, 2, -1), "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32), "shape": i64(1, 6, 5),
              "g": f32(6, 1), "b": f32(6, 1)}
    nodes = [
        n("Reshape", "x axes", "r"), n("InstanceNormalization", "r one zero", "i", "norm"), n("Reshape", "i shape", "s"),
        n("Mul", "s g", "m"), n("Add", "m b", "y"),
    ]
    _, imported = agrees(save(tmp_path / "m.onnx", nodes, arrays, (1, 6, 5)), f32(1, 6, 5))
    assert set(imported.params) == {"g", "b"} and not undecided(imported)
    assert [name for name in op_names(imported) if name in ("mul", "add")] == ["mul", "add"]


def test_attention_trains_nothing_of_its_own(tmp_path: Path) -> None:
    """Opset 23: what ONNX defines it by holds a choice between probabilities and zeros, which is made when compiling."""
    text = """g (float[1,4,6] x) => (float[1,4,6] y) {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, x)
    }"""
    path = save_text(tmp_path / "m.onnx", text, wq=f32(6, 6), wk=f32(6, 6))
    model = onnx.load(path)
    model.opset_import[0].version, model.ir_version = 23, 11
    onnx.save(model, path)
    compiled = compile_model(path, Options(loss="mse", exact_seconds=0.0))
    assert set(compiled.imported.params) == {"wq", "wk"} and not undecided(compiled.imported)
    assert not {"select", "select_grad"} & {node.op.name for node in compiled.program.entries["train"].nodes}


def test_a_weight_that_a_product_with_constants_reads_too_is_told(tmp_path: Path) -> None:
    """As the first step of a loop from zeros does; parts of one tensor are tensors of their own."""
    nodes = [
        n("Split", "w", "u v", "parts", axis=1, num_outputs=2), n("MatMul", "zeros u", "start", "begin"), n("MatMul", "x u", "a"),
        n("Add", "a start", "h"), n("MatMul", "h v", "y"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"w": f32(6, 12), "zeros": np.zeros((1, 6), np.float32)}, (1, 6), opset=18)
    assert agrees(path, f32(1, 6))[0].notes == ("u is read as u and as start: they are trained apart",)
