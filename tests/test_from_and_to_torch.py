# SPDX-License-Identifier: Apache-2.0
"""There and back: a PyTorch module is exported, learns on the host twin, and computes in PyTorch what the device does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import blocks

import tinytrain as tt
from tinytrain.errors import DataError, ModelError
from tinytrain.ir.types import Array

torch = pytest.importorskip("torch", reason="needs the extra torch")
from torch_nets import NETWORKS, Network, examples, export, pretrained  # noqa: E402

RATE, SAMPLES = 0.02, 8


def numpy(tensors: Any) -> list[Array]:
    return [t.detach().numpy() for t in (tensors if isinstance(tensors, tuple) else (tensors,))]


def learned(network: Network, module: Any, model: tt.Model, folder: Path, **choices: Any) -> tuple[tuple[Any, ...], list[Array]]:
    """(samples, outputs of the device after some training); it began with those of the module, and what it learned is in learned.onnx."""
    losses, rng = network.loss.split(","), np.random.default_rng(0)
    samples = examples(network, SAMPLES)
    before = numpy(module.eval()(*samples))
    targets = [rng.integers(0, out.shape[-1], SAMPLES) if loss == "ce" else np.zeros_like(out) for out, loss in zip(before, losses)]
    y = {f"y{i}": target for i, target in enumerate(targets)}
    x = dict(zip(("image", "state"), (s.numpy() for s in samples))) if len(samples) > 1 else samples[0].numpy()
    loss = network.loss if len(losses) == 1 else ",".join(f"y{i}={kind}" for i, kind in enumerate(losses))

    def predicted() -> list[Array]:
        found = device.predict(x)
        return [*found.values()] if isinstance(found, dict) else [found]

    with model.compile(loss=loss, lr=RATE, **choices).twin() as device:
        if choices.get("dtype") != "int8":
            for got, want in zip(predicted(), before, strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
        device.train(x, y if len(y) > 1 else y["y0"], epochs=2)
        device.save(folder / "learned.onnx")
        after = predicted()
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(after, before, strict=True))
    return samples, after


def check(network: Network, module: Any, model: tt.Model, folder: Path, atol: float = 1e-5, **choices: Any) -> None:
    samples, after = learned(network, module, model, folder, **choices)
    assert tt.to_torch(module, folder / "learned.onnx") is module
    for got, want in zip(numpy(module.eval()(*samples)), after, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=atol * np.abs(want).max())


@pytest.fixture
def cnn() -> Any:
    torch.manual_seed(1)
    return pretrained(NETWORKS["cnn"].make())


@pytest.mark.parametrize("exporter", ["export", "trace"])
@pytest.mark.parametrize("name", ["cnn", "mobile", "row", "lstms", "attention", "two", "upsampler"])
def test_there_and_back(name: str, exporter: Any, tmp_path: Path) -> None:
    network = NETWORKS[name]
    torch.manual_seed(1)
    module = pretrained(network.make())
    check(network, module, tt.from_torch(module, examples(network, 1), exporter=exporter), tmp_path)


@pytest.mark.parametrize("exporter", ["export", "trace"])
def test_batch_norms_are_whole(cnn: Any, exporter: Any, tmp_path: Path) -> None:
    """And every weight is called as in the module; so a scheme may train the batch norms alone."""
    import onnx

    was = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    model = tt.from_torch(cnn, examples(NETWORKS["cnn"], 3), tmp_path / "cnn.onnx", exporter=exporter)
    graph = onnx.load(tmp_path / "cnn.onnx").graph
    assert [node.op_type for node in graph.node].count("BatchNormalization") == 2
    names = {name for name in was if "num_batches" not in name}
    assert names <= {tensor.name for tensor in graph.initializer}
    check(NETWORKS["cnn"], cnn, model, tmp_path, keep_batchnorm=True, scheme="batchnorm")
    changed = {name for name, tensor in cnn.state_dict().items() if not torch.equal(tensor, was[name])}
    assert changed == {"1.weight", "1.bias", "5.weight", "5.bias"}


def test_a_module_keeps_its_mode_and_its_statistics(cnn: Any, tmp_path: Path) -> None:
    """Folded batch norms keep mean, variance and scale; what was not trained comes back as it was."""
    was = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    model = tt.from_torch(cnn.train(), examples(NETWORKS["cnn"], 1), exporter="trace")
    assert cnn.training
    check(NETWORKS["cnn"], cnn, model, tmp_path, scheme="last:2")
    now = cnn.state_dict()
    for kept in ("1.running_mean", "1.running_var", "1.weight", "5.running_mean", "5.running_var", "5.weight"):
        torch.testing.assert_close(now[kept], was[kept], rtol=1e-6, atol=0)
    torch.testing.assert_close(now["0.weight"], was["0.weight"], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(now["4.weight"], was["4.weight"]) and not torch.allclose(now["5.bias"], was["5.bias"])


@pytest.mark.parametrize("dynamo", [False, True], ids=["trace", "export"])
def test_what_pytorch_folds_by_itself_comes_back_too(cnn: Any, dynamo: bool, tmp_path: Path) -> None:
    network = NETWORKS["cnn"]
    export(network, cnn.eval(), tmp_path / "folded.onnx", 18, dynamo=dynamo, dynamic=False)
    check(network, cnn, tt.load(tmp_path / "folded.onnx"), tmp_path)


def test_int8_comes_back_as_reals(cnn: Any, tmp_path: Path) -> None:
    network = NETWORKS["cnn"]
    calibration = np.concatenate([s.numpy() for s in examples(network, 64)])
    model = tt.from_torch(cnn, examples(network, 1), exporter="trace")
    check(network, cnn, model, tmp_path, atol=0.1, dtype="int8", calibration=calibration)


def test_a_scale_of_zero_learns_and_comes_back(cnn: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        cnn[1].weight[2] = 0.0
    check(NETWORKS["cnn"], cnn, tt.from_torch(cnn, examples(NETWORKS["cnn"], 1), exporter="trace"), tmp_path)


def without_offset() -> Any:
    torch.manual_seed(2)
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=True), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def test_a_batch_norm_without_offset_gives_it_to_its_layer(tmp_path: Path) -> None:
    module = without_offset()
    check(NETWORKS["cnn"], module, tt.from_torch(module, examples(NETWORKS["cnn"], 1), exporter="trace"), tmp_path)


def test_a_batch_norm_behind_a_dense_layer(tmp_path: Path) -> None:
    torch.manual_seed(3)
    nn = torch.nn
    module = pretrained(nn.Sequential(nn.Linear(10, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))
    check(NETWORKS["mlp"], module, tt.from_torch(module, np.zeros((1, 10), np.float32), exporter="trace"), tmp_path)


class Branches(torch.nn.Module):
    """Two layers of one shape side by side, called in another order than they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.BatchNorm2d(2)) for _ in range(3))

    def forward(self, x: Any) -> Any:
        second, first = self.b(x), self.a(x)
        return (torch.relu(first) * self.c(second) + x).mean((2, 3))


@pytest.mark.parametrize("exporter", ["export", "trace"])
def test_layers_alike_side_by_side(exporter: Any, tmp_path: Path) -> None:
    torch.manual_seed(4)
    module = pretrained(Branches())
    check(NETWORKS["cnn"], module, tt.from_torch(module, examples(NETWORKS["cnn"], 1), exporter=exporter), tmp_path)


def test_names_of_inputs_and_outputs() -> None:
    module = NETWORKS["two"].make()
    build = tt.from_torch(module, examples(NETWORKS["two"], 1), exporter="trace", outputs=("label", "box")).compile(loss="label=ce,box=mse")
    manifest = build.project.manifest
    assert [[name for name, _ in port.parts] for port in (manifest.input, manifest.output)] == [["image", "state"], ["label", "box"]]


class Tied(torch.nn.Module):
    """One matrix, there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 10))

    def forward(self, x: Any) -> Any:
        return torch.relu(x @ self.weight.t()) @ self.weight


def test_what_was_trained_apart_has_no_place(tmp_path: Path) -> None:
    module, network = Tied(), Network(Tied, ((10,),), "mse")
    model = tt.from_torch(module, np.zeros((1, 10), np.float32), exporter="trace")
    learned(network, module, model, tmp_path)
    with pytest.raises(ModelError, match="is one tensor of Tied for several readers, which were trained apart"):
        tt.to_torch(module, tmp_path / "learned.onnx")


def other_width(cnn: Any) -> Any:
    cnn[10] = torch.nn.Linear(32, 4)
    return cnn


def no_place(cnn: Any) -> Any:
    return torch.nn.Sequential(*[torch.nn.Conv2d(2, 6, 3, padding=1, bias=False), torch.nn.BatchNorm2d(6, affine=False), *list(cnn)[2:]])


OTHERS = {
    "classes": (other_width, r"is of another architecture than Sequential: .*Gemm with \(3, 32\).* stands where the module has 10.weight "
                r"\(Gemm with \(4, 32\) and \(4,\)\)"),
    "deeper": (lambda cnn: cnn.append(torch.nn.Linear(3, 3)), "it has 3 layers with weights, the module 4"),
    "no place": (no_place, "was trained, for which Sequential has no parameter"),
    "another input": (lambda cnn: torch.nn.Linear(10, 3),
                      r"is of another architecture than Linear: it takes \(1, 2, 8, 8\), on which that does not run"),
    "same shapes": (lambda cnn: torch.nn.Sequential(*[torch.nn.Sigmoid() if isinstance(m, torch.nn.ReLU) else m for m in cnn]),
                    "does not compute that: they differ by up to"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_architecture_is_refused_and_unchanged(case: str, cnn: Any, tmp_path: Path) -> None:
    model = tt.from_torch(cnn, examples(NETWORKS["cnn"], 1), exporter="trace")
    learned(NETWORKS["cnn"], cnn, model, tmp_path)
    make, said = OTHERS[case]
    other = make(copy.deepcopy(cnn))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ModelError, match=said):
        tt.to_torch(other, tmp_path / "learned.onnx")
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = (block.text for block in blocks("docs/python.md") if block.title == "there_and_back.py")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(example, "there_and_back.py", "exec"), {})


def test_examples_that_do_not_fit(cnn: Any) -> None:
    for example in (1.0, "x", [[1.0], [1.0, 2.0]]):
        with pytest.raises(ModelError, match="The example is no array of samples: "):
            tt.from_torch(cnn, example)
    with pytest.raises(ModelError, match=r"Sequential does not run on an example of shape \(1, 3, 8, 8\): "):
        tt.from_torch(cnn, np.zeros((1, 3, 8, 8), np.float32))
    model = tt.from_torch(cnn, np.zeros((4, 2, 8, 8), np.float32), exporter="trace")
    with model.compile().twin() as device, pytest.raises(DataError, match=r"x has the shape \(4, 8, 8, 2\); expected \(n, 2, 8, 8\)"):
        device.predict(np.zeros((4, 8, 8, 2), np.float32))


def test_a_file_stays_where_the_export_breaks_off(cnn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")

    def breaks_off(module: Any, inputs: Any, file: Path, **how: Any) -> None:
        Path(file).write_bytes(b"half")
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(torch.onnx, "export", breaks_off)
    with pytest.raises(ModelError, match="PyTorch cannot export it: the disk is full"):
        tt.from_torch(cnn, np.zeros((1, 2, 8, 8), np.float32), path)
    assert path.read_bytes() == b"before"
