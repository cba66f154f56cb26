# SPDX-License-Identifier: Apache-2.0
"""Preparation of ONNX files: what is folded, what stays, and the text of each refusal."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tinytrain.errors import ModelError
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare

RNG = np.random.default_rng(7)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    arrays: dict[str, np.ndarray],
    x: tuple[int | str, ...] = (1, 4),
    opset: int = 13,
    kind: int = TensorProto.FLOAT,
    rank: int = 2,
) -> Path:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info("y", kind, [None] * rank)], [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def gemm(path: Path, w: np.ndarray | None = None, **options: object) -> Path:
    w = f32(3, 4) if w is None else w
    return write(path, [helper.make_node("Gemm", ["x", "w"], ["y"], name="fc", transB=1)], {"w": w}, **options)  # type: ignore[arg-type]


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        import_model(prepare(path, **options))  # type: ignore[arg-type]
    return str(caught.value)


def node_names(model: onnx.ModelProto) -> list[str]:
    return [n.name for n in model.graph.node]


def norm_arrays(channels: int) -> dict[str, np.ndarray]:
    return {"g": f32(channels), "b": f32(channels), "m": f32(channels), "v": np.abs(f32(channels)) + 0.5}


NORM = {"name": "bn", "epsilon": 1e-3}

FOLDS = {
    "conv": ([helper.make_node("Conv", ["x", "w", "c"], ["z"], name="lin")], {"w": f32(5, 4, 3, 3), "c": f32(5)}, (1, 4, 6, 6)),
    "conv without bias": ([helper.make_node("Conv", ["x", "w"], ["z"], name="lin")], {"w": f32(5, 4, 3, 3)}, (1, 4, 6, 6)),
    "depthwise": ([helper.make_node("Conv", ["x", "w"], ["z"], name="lin", group=4)], {"w": f32(4, 1, 3, 3)}, (1, 4, 6, 6)),
    "gemm": ([helper.make_node("Gemm", ["x", "w", "c"], ["z"], name="lin")], {"w": f32(4, 5), "c": f32(5)}, (1, 4)),
    "gemm transB": ([helper.make_node("Gemm", ["x", "w"], ["z"], name="lin", transB=1)], {"w": f32(5, 4)}, (1, 4)),
    "matmul": ([helper.make_node("MatMul", ["x", "w"], ["z"], name="lin")], {"w": f32(4, 5)}, (1, 4)),
    "matmul add": (
        [helper.make_node("MatMul", ["x", "w"], ["t"], name="lin"), helper.make_node("Add", ["c", "t"], ["z"], name="add")],
        {"w": f32(4, 5), "c": f32(1, 5)}, (1, 4),
    ),
}


@pytest.mark.parametrize("case", FOLDS)
def test_batchnorm_folds_into_the_layer_before(case: str, tmp_path: Path) -> None:
    nodes, arrays, shape = FOLDS[case]
    channels = arrays["w"].shape[0] if "conv" in case or case in ("depthwise", "gemm transB") else arrays["w"].shape[1]
    norm = helper.make_node("BatchNormalization", ["z", "g", "b", "m", "v"], ["y"], **NORM)
    path = write(tmp_path / "m.onnx", [*nodes, norm], arrays | norm_arrays(channels), shape, opset=15, rank=len(shape))
    prepared = prepare(path)
    assert "BatchNormalization" not in [n.op_type for n in prepared.model.graph.node]
    assert "lin" in node_names(prepared.model)
    assert {"w", "c"} & set(arrays) <= {t.name for t in prepared.model.graph.initializer}
    x = f32(*shape)
    want = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})[0]
    got = ReferenceEvaluator(prepared.model).run(None, {"x": x})[0]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_batchnorm_stays_where_it_cannot_be_folded(tmp_path: Path) -> None:
    """A weight with two readers, and a value with two readers, must stay as they are."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["n"], name="bn"),
        helper.make_node("MatMul", ["n", "w"], ["c"], name="two"),
        helper.make_node("Add", ["c", "n"], ["y"], name="sum"),
    ]
    prepared = prepare(write(tmp_path / "m.onnx", nodes, {"w": f32(4, 4)} | norm_arrays(4)))
    assert node_names(prepared.model) == ["one", "bn", "two", "sum"]


def test_batchnorm_is_kept_when_asked(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["y"], name="bn"),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"w": f32(4, 4)} | norm_arrays(4))
    assert node_names(prepare(path, fold_batchnorm=False).model) == ["one", "bn"]


def test_constants_fold_and_equal_biases_stay_apart(tmp_path: Path) -> None:
    """Two biases that are both zero today are two parameters: they must not be merged."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["r", "wt"], ["a"]),
        helper.make_node("Add", ["a", "b1"], ["c"], name="first"),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Dropout", ["d"], ["e"], name="drop"),
        helper.make_node("Add", ["e", "b2"], ["y"], name="second"),
    ]
    zeros = np.zeros(3, np.float32)
    prepared = prepare(write(tmp_path / "m.onnx", nodes, {"w": f32(3, 4), "b1": zeros, "b2": zeros}, ("N", 4)))
    assert [n.op_type for n in prepared.model.graph.node] == ["MatMul", "Add", "Dropout", "Add"]
    assert {"b1", "b2"} <= {t.name for t in prepared.model.graph.initializer}
    assert {"first", "drop", "second", "MatMul_3"} <= set(node_names(prepared.model))


def test_dynamic_batch_becomes_one_and_shape_fixes_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ("N", 3, "h", "w"), rank=4)
    prepared = prepare(path, shapes={"x": (1, 3, 8, 6)})
    dims = [d.dim_value for d in prepared.model.graph.output[0].type.tensor_type.shape.dim]
    assert dims == [1, 3, 8, 6]
    assert prepared.name == "m"
    assert len(prepared.hash) == 32
    text = refusal(path)
    assert text == (
        f"{path}: input x has the dynamic shape (N,3,h,w); every dimension but the batch must be known when compiling.\n"
        "Fix it with --shape x=1,3,32,32"
    )
    assert "--shape x=1,4,8,8 does not fit the model, whose input is (N,3,h,w)" in refusal(path, shapes={"x": (1, 4, 8, 8)})
    assert "has no input z; its inputs are x." in refusal(path, shapes={"z": (1, 3, 8, 8)})


def test_fixed_batch(tmp_path: Path) -> None:
    text = refusal(gemm(tmp_path / "m.onnx", x=(16, 4)))
    assert "input x has the shape (16,4); expected a batch of 1 (or a dynamic one)" in text
    assert "--shape x=1,4" in text
    prepare(tmp_path / "m.onnx", shapes={"x": (1, 4)})


def test_missing_file(tmp_path: Path) -> None:
    text = refusal(tmp_path / "none.onnx")
    assert text == f"{tmp_path}/none.onnx: cannot be read (No such file or directory); expected an ONNX file.\nCheck the path."


def test_truncated_and_corrupt(tmp_path: Path) -> None:
    good = gemm(tmp_path / "m.onnx", f32(300, 4)).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(good[: len(good) // 2])
    text = refusal(tmp_path / "cut.onnx")
    assert f"cut.onnx ({len(good) // 2:,} bytes) is corrupt, truncated or not an ONNX file; expected a complete ONNX model." in text
    (tmp_path / "text.onnx").write_text("hello, this is text")
    assert "is corrupt, truncated or not an ONNX file" in refusal(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "(0 bytes) holds no ONNX graph with nodes; expected a complete ONNX model." in refusal(tmp_path / "empty.onnx")


@pytest.mark.parametrize("part", range(1, 20))
def test_any_truncation_is_a_model_error(part: int, tmp_path: Path) -> None:
    good = gemm(tmp_path / "m.onnx", f32(30, 4)).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(good[: len(good) * part // 20])
    refusal(tmp_path / "cut.onnx")


def test_invalid_graph(tmp_path: Path) -> None:
    text = refusal(write(tmp_path / "m.onnx", [helper.make_node("Relu", ["nowhere"], ["y"])], {}))
    assert "not a valid ONNX model" in text
    assert "expected a model that onnx.checker accepts." in text


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    assert "the shapes of its tensors do not fit each other" in refusal(gemm(tmp_path / "m.onnx", f32(3, 5)))


def test_opset(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    text = refusal(gemm(tmp_path / "m.onnx", opset=newest + 1))
    assert f"m.onnx uses opset {newest + 1}; opset 6 to {newest} is supported." in text
    prepare(gemm(tmp_path / "m.onnx", opset=newest))


def test_float64(tmp_path: Path) -> None:
    path = gemm(tmp_path / "m.onnx", f32(3, 4).astype(np.float64), kind=TensorProto.DOUBLE)
    assert f"{path}: tensor w is of type float64; expected float32." in refusal(path)


def test_string(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], {}, kind=TensorProto.STRING)
    assert "tensor x is of type string; expected float32." in refusal(path)


def test_nan_weight(tmp_path: Path) -> None:
    w = f32(3, 4)
    w[1, 2] = np.nan
    text = refusal(gemm(tmp_path / "m.onnx", w))
    assert "initializer w holds 1 of 12 values that are NaN or infinite, the first at [1,2]; expected finite weights." in text


def test_infinite_bound_is_fine(tmp_path: Path) -> None:
    arrays = {"lo": np.array(0, np.float32), "hi": np.array(np.inf, np.float32)}
    prepare(write(tmp_path / "m.onnx", [helper.make_node("Clip", ["x", "lo", "hi"], ["y"])], arrays))


def with_tensor(tmp_path: Path, tensor: onnx.TensorProto) -> Path:
    path = tmp_path / "m.onnx"
    model = onnx.load(gemm(path))
    model.graph.initializer[0].CopyFrom(tensor)
    path.write_bytes(model.SerializeToString())
    return path


def external(location: str, dims: tuple[int, ...] = (3, 4)) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_giant_tensor_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    for tensor in (TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(2**20, 2**20)), external("w.bin", (2**20, 2**20))):
        text = refusal(with_tensor(tmp_path, tensor))
        assert "tensor w of shape (1048576,1048576) would have 1,099,511,627,776 elements; at most 536,870,911 are supported." in text


def test_giant_computed_tensor(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"s": np.array([2**20, 2**20], np.int64)}, x=(1, 1))
    assert "would have 1,099,511,627,776 elements" in refusal(path)


def test_external_data(tmp_path: Path) -> None:
    w = f32(3, 4)
    (tmp_path / "w.bin").write_bytes(w.tobytes())
    prepared = prepare(with_tensor(tmp_path, external("w.bin")))
    np.testing.assert_array_equal(numpy_helper.to_array(prepared.model.graph.initializer[0]), w)


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    text = refusal(with_tensor(tmp_path, external("w.bin")))
    assert f"tensor w has its data in w.bin, but {tmp_path}/w.bin does not exist." in text
    (tmp_path / "w.bin").write_bytes(bytes(20))
    assert "tensor w cannot be read from w.bin (20 bytes)" in refusal(with_tensor(tmp_path, external("w.bin")))


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "link.bin", "sub/../../w.bin"])
def test_external_data_outside_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink(tmp_path / "w.bin", folder / "link.bin")
    text = refusal(with_tensor(folder, external(location)))
    assert f"tensor w has its data in {location}, which lies outside the model's folder {folder}; expected a file inside it." in text
