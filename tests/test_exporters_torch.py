# SPDX-License-Identifier: Apache-2.0
"""What both of PyTorch's exporters write compiles, computes and learns on the device as the network does in PyTorch, in float64."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from exported import RATE, Trace, compiled_from, learns_as

torch = pytest.importorskip("torch", reason="needs the extra torch")
from torch_nets import NETWORKS, Network, examples, export, fused, pretrained  # noqa: E402

STEPS = 4
EXPORTERS = [(False, 13), (False, 17), (False, 18), (True, 18), (True, 23)]       # by tracing (TorchScript) or torch.export, opset


def learned(network: Network, model: torch.nn.Module) -> Trace:
    """Plain descent in float64; batch norms are part of their convolutions."""
    model = fused(copy.deepcopy(model)).double()
    losses, rate = network.loss.split(","), torch.optim.SGD(model.parameters(), RATE)
    samples = [examples(network, 1) for _ in range(STEPS)]
    doubles = [tuple(x if network.classes else x.double() for x in sample) for sample in samples]

    def outputs() -> tuple[torch.Tensor, ...]:
        made = model(*doubles[0])
        return made if isinstance(made, tuple) else (made,)

    before = [y.detach().numpy() for y in outputs()]
    targets = [[torch.randn(y.shape).double() if loss == "mse" else torch.randint(y.shape[-1], ()) for y, loss in zip(before, losses)]
               for _ in samples]
    found = []
    for sample, target in zip(doubles, targets, strict=True):
        made = model(*sample)
        total = sum(
            torch.nn.functional.mse_loss(y, t) if loss == "mse" else torch.nn.functional.cross_entropy(y, t[None])
            for y, t, loss in zip(made if isinstance(made, tuple) else (made,), target, losses, strict=True)
        )
        rate.zero_grad()
        total.backward()
        rate.step()
        found.append(total.item())
    after = [y.detach().numpy() for y in outputs()]
    arrays = [[tuple(t.numpy() for t in of) for of in all_of] for all_of in (samples, targets)]
    return Trace(*arrays, tuple(before), found, tuple(after))


def check(network: Network, model: torch.nn.Module, folder: Path, dynamo: bool, opset: int, dynamic: bool) -> None:
    path = folder / "model.onnx"
    export(network, model, path, opset, dynamo=dynamo, dynamic=dynamic)
    losses = network.loss.split(",")
    compiled = compiled_from(path, network.loss if len(losses) == 1 else ",".join(f"y{i}={loss}" for i, loss in enumerate(losses)))
    assert not [one for one in compiled.frozen if not one.decided]
    learns_as(compiled, learned(network, model), folder, exactly=not (network.apart and dynamo))


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize(("dynamo", "opset"), EXPORTERS, ids=[f"{'export' if dynamo else 'trace'}-{opset}" for dynamo, opset in EXPORTERS])
@pytest.mark.parametrize("name", NETWORKS)
def test_learns_as_in_pytorch(name: str, dynamo: bool, opset: int, dynamic: bool, tmp_path: Path) -> None:
    network = NETWORKS[name]
    if opset < network.opset:
        pytest.skip(f"PyTorch exports it from opset {network.opset} on")
    torch.manual_seed(1)
    check(network, pretrained(network.make()).eval(), tmp_path, dynamo, opset, dynamic)


@pytest.mark.parametrize("dynamo", [False, True], ids=["trace", "export"])
@pytest.mark.parametrize("name", ["attention", "products"])
def test_what_starts_alike_learns_as_in_pytorch(name: str, dynamo: bool, tmp_path: Path) -> None:
    """Networks that have learned nothing: both exporters store the scales of all norms, and their offsets, as one."""
    torch.manual_seed(2)
    check(NETWORKS[name], NETWORKS[name].make().eval(), tmp_path, dynamo, 18, dynamic=True)
