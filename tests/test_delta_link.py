# SPDX-License-Identifier: Apache-2.0
"""One format for what has changed: a library exports what `push` takes, and imports what `pull --delta` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library
from test_delta import HEAD, exported, imported, weights
from test_int8_training import int8_model

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device import delta
from tinytrain.device.commands import Command, Status
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.project import link_keys
from tinytrain.errors import DataError, DeviceError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role
from tinytrain.learn import exchange
from tinytrain.learn.compression import Compression

KINDS: dict[str, dict[str, object]] = {
    "fp32": {}, "fp16": {"dtype": "fp16"}, "last": {"scheme": "last:1", "optimiser": Optimiser(0.01, 0.9)}, "int8": {},
    "two": {"scheme": "bias", "further_schemes": ("last:1",)},
}


def quiet(_line: str) -> None:
    pass


def made(kind: str, folder: Path) -> tuple[Compiled, Project]:
    onnx.save(zoo.model("cnn"), folder / "model.onnx")
    path = int8_model(zoo.model("cnn"), folder) if kind == "int8" else folder / "model.onnx"
    program = compile_model(path, Options(exact_seconds=0.0, **KINDS[kind]))  # type: ignore[arg-type]
    write(program, folder / "out")
    return program, Project.open(folder / "out")


def of_device(program: Compiled, params: dict[str, Array]) -> dict[str, bytes]:
    """Weights as `weights` of a library names them."""
    keys = link_keys(program.program)
    return {v.name: params[keys[v]].tobytes() for v in program.program.stored(Role.PARAM)}


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways(kind: str, tmp_path: Path) -> None:
    program, project = made(kind, tmp_path)
    library, golden = Library(program, tmp_path), golden_vectors(program.program, 3)
    device = library.instance()
    for x, target in zip(golden.x, golden.target, strict=True):
        device.train_step(x, target)
    status, learned = exported(device)
    assert status is Status.OK
    (tmp_path / "learned").write_bytes(learned)
    with project.session() as session:
        exchange.push(project, session, tmp_path / "learned", quiet)
        assert of_device(program, session.get_params()) == weights(device)
        exchange.pull(project, session, tmp_path / "plain", quiet, changes=True)
        exchange.pull(project, session, tmp_path / "exact", quiet, changes=True, compression=Compression(exact=True))
    assert (tmp_path / "plain").read_bytes() == learned, "steps are kept too"
    other = library.instance()
    assert imported(other, (tmp_path / "exact").read_bytes()) is Status.STORE_NEWER, "a host has to unpack it"
    with project.session() as session:
        exchange.push(project, session, tmp_path / "exact", quiet)
        assert delta.export(session) == learned
    assert imported(other, learned) is Status.OK and weights(other) == weights(device)


def test_only_what_has_changed_goes_over_the_link(tmp_path: Path) -> None:
    _, project = made("fp32", tmp_path)
    with project.session() as session:
        before = session.get_params()
        one = {**before, "fc_bias": before["fc_bias"] + np.float32(1)}
        session.set_params(one)
        counts = session.link.counts
        sent, received = counts.sent_bytes, counts.received_bytes
        data = delta.export(session)
        assert len(data) <= HEAD + 12 + before["fc_bias"].nbytes + 8
        assert counts.sent_bytes - sent < 40 and counts.received_bytes - received < len(data) + 30
        session.set_lr(0.5)
        head, body = delta.opened(data, "here")
        names = [p.key for p in project.manifest.parameters]
        compiled = {name: before[name] for name in names}
        sent, received = counts.sent_bytes, counts.received_bytes
        delta.put(session, head, compiled, delta.applied(body, compiled, "here"))
        assert counts.sent_bytes - sent < len(data) + 80 and counts.received_bytes - received < 60
        after = session.get_params()
        assert {name: after[name].tobytes() for name in names} == {name: one[name].tobytes() for name in names}
        np.testing.assert_array_equal(after["learning_rate"], before["learning_rate"])


def test_a_long_delta_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, project = made("fp32", tmp_path)
    with project.session() as session:
        session.set_params({"conv1_weight": np.arange(session.elements["conv1_weight"])})
        data = delta.export(session)
        for bytes_ in (len(data), 64, 7):
            monkeypatch.setattr("tinytrain.device.delta._PART_BYTES", bytes_)
            assert delta.export(session) == data


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    program, project = made("fp32", tmp_path)
    device, golden = Library(program, tmp_path).instance(), golden_vectors(program.program, 1)
    device.train_step(golden.x[0], golden.target[0])
    data = exported(device)[1]
    head, body = delta.opened(data, "here")
    nan = np.frombuffer(body[:12], "<u4")
    wrong = {
        "cut": data[:-1], "format": delta.Head(9, head.model, head.layout, 1).sealed(body),
        "model": delta.Head(1, bytes(16), head.layout, 1).sealed(body), "layout": delta.Head(1, head.model, 1, 1).sealed(body),
        "no end": head.sealed(body[:-4]), "tensor": head.sealed(np.array([9, 0, 1], "<u4").tobytes() + b"1" + body[-4:]),
        "beyond": head.sealed(np.array([0, 1 << 20, 1], "<u4").tobytes() + b"1" + body[-4:]),
        "nan": head.sealed(np.array([nan[0], 0, 4], "<u4").tobytes() + np.float32(np.nan).tobytes() + body[-4:]),
    }
    with project.session() as session:
        session.train_step(golden.x[0], golden.target[0])
        before = {name: array.tobytes() for name, array in session.get_params().items()}
        for name, bytes_ in wrong.items():
            (tmp_path / "wrong").write_bytes(bytes_)
            with pytest.raises(DataError, match=r"damaged|format 9|another model|not a number"):
                exchange.push(project, session, tmp_path / "wrong", quiet)
            assert {name: array.tobytes() for name, array in session.get_params().items()} == before, name
        with pytest.raises(DeviceError, match="refused import_delta"):
            session.link.call(Command.IMPORT_DELTA, delta.Head(1, head.model, 1, 1).sealed(body[-4:]))
        with pytest.raises(DeviceError, match="refused import_delta"):
            session.link.call(Command.IMPORT_DELTA, data)


def test_firmware_without_the_commands_says_so(tmp_path: Path) -> None:
    """What only infers, and firmware of before there were any."""
    onnx.save(zoo.model("mlp"), tmp_path / "model.onnx")
    write(compile_model(tmp_path / "model.onnx", Options(loss=None)), tmp_path / "out")
    project = Project.open(tmp_path / "out")
    with project.session() as session:
        with pytest.raises(DeviceError, match="refused export_delta: this firmware was not compiled for that command"):
            exchange.pull(project, session, tmp_path / "d", quiet, changes=True)
        with pytest.raises(DeviceError, match="refused import_delta: this firmware was not compiled for that command"):
            session.link.call(Command.IMPORT_DELTA, bytes(40))
