# SPDX-License-Identifier: Apache-2.0
"""Firmware that keeps what it learns: drivers of flash memories, and a device that goes on where it was when the power went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data
from compilers import installed
from fake_firmware import need_tools
from kernel_cases import WARNINGS
from kernel_runs import compile_c

import tinytrain as tt
from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device import store
from tinytrain.device.project import Project
from tinytrain.device.qemu import start_qemu
from tinytrain.device.session import Session
from tinytrain.errors import BoardError, DeviceError, DoesNotFit, LearningError, SchemeError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.learn.state import Epoch
from tinytrain.paths import data_dir
from tinytrain.target.board import load_board

LABEL = np.dtype(np.int32)
RISCV = "-march=rv32imac_zicsr_zifencei -mabi=ilp32"
DRIVERS = [
    ("flash_cfi", "-mcpu=cortex-m4"), ("flash_stm32f4", "-mcpu=cortex-m4"), ("flash_stm32f7", "-mcpu=cortex-m7"),
    ("flash_nrf5", "-mcpu=cortex-m0"), ("flash_nrf5", "-mcpu=cortex-m4"),
    ("flash_rp2", "-mcpu=cortex-m0plus"), ("flash_rp2", "-mcpu=cortex-m33"), ("flash_rp2", RISCV),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(zoo.model("mlp"), tmp_path / "mlp.onnx")
    return tmp_path / "mlp.onnx"


@pytest.mark.parametrize(("driver", "core"), DRIVERS)
def test_drivers_are_clean(driver: str, core: str, tmp_path: Path) -> None:
    riscv = core == RISCV
    need_tools(load_board("hifive1" if riscv else "netduinoplus2"))
    source = str(data_dir("runtime_c") / f"{driver}.c")
    thumb = [] if riscv else ["-mthumb"]
    flags = (*WARNINGS, "-O2", "-ffreestanding", *thumb, *core.split(), "-c", source, "-o", str(tmp_path / "driver.o"))
    compile_c(["riscv64-unknown-elf-gcc" if riscv else "arm-none-eabi-gcc", *flags])
    if clang := installed("clang"):
        compile_c([clang, f"--target={'riscv32' if riscv else 'thumb'}-none-eabi", *flags])


def test_every_driver_is_compiled() -> None:
    assert {path.stem for path in data_dir("runtime_c").glob("flash_*.c")} == {"flash_file", *(driver for driver, _ in DRIVERS)}


def test_the_twin_keeps_what_it_learned_in_a_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(compile_model(model, Options(store=3)), tmp_path / "out")
    project, x = Project.open(tmp_path / "out"), np.ones(64, np.float32)

    def steps(count: int) -> tuple[int, dict[str, Array]]:
        with project.session() as session:
            try:
                found = store.load(session).steps
            except DeviceError:
                found = 0
            for _ in range(count):
                session.train_step(x, np.int32(1))
            return found, session.get_params()

    assert steps(4)[0] == steps(0)[0] == 0                # without a file it forgets
    monkeypatch.setenv("TINYTRAIN_FLASH", str(tmp_path / "flash.bin"))
    assert steps(3)[0] == 0
    found, kept = steps(4)
    assert found == 3
    found, again = steps(0)
    assert found == 6 and any((kept[name] != again[name]).any() for name in kept)
    with (tmp_path / "flash.bin").open("r+b") as file:    # the newest record, behind that of three steps
        file.seek((1 << 20) + 600)
        file.write(b"torn")
    assert steps(0)[0] == 3


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_training_leaves_is_in_the_flash(fails: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of the best epoch, not those of the way, and the rate that the schedule began with; those of before where it failed."""
    monkeypatch.setenv("TINYTRAIN_FLASH", str(tmp_path / "flash.bin"))
    monkeypatch.setattr(Epoch, "better", lambda epoch, best: epoch.epoch == 2)
    rate = 1e6 if fails else 0.02
    write(compile_model(model, Options(optimiser=Optimiser(rate, momentum=0.9), store=1)), tmp_path / "out")
    data = save_data(tmp_path / "d.npz")
    with tt.open(tmp_path / "out").device() as device:
        before = device.session.get_params()
        if fails:
            with pytest.raises(LearningError):
                device.train(data, epochs=2)
        else:
            assert device.train(data, epochs=3, holdout=0.2).record.best == 2
        left = device.session.get_params()
    with Project.open(tmp_path / "out").session() as session:
        assert_same(left, session.get_params())
    assert left["learning_rate"] == np.float32(rate)
    assert all((left[name] == before[name]).all() for name in left) is fails


def test_what_cannot_keep_is_said_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="hifive1 does not say where learned weights are kept"):
        compile_model(model, Options(board="hifive1", store=1))
    with pytest.raises(SchemeError, match="trains nothing"):
        compile_model(model, Options(board="riscv-virt", loss=None, store=1))
    board = (data_dir("boards") / "netduinoplus2" / "board.toml").read_text()
    for wrong, said in (("pages = 2", "pages = -1"), ("131_072\npages", "131_073\npages"), ("word_bytes = 4", "word_bytes = 6")):
        folder = tmp_path / said.replace(" ", "")
        for shared in ("soc", "toolchain", "core", "host", "host-fused"):
            (folder / shared).parent.mkdir(exist_ok=True)
            (folder / shared).symlink_to(data_dir("boards") / shared)
        (folder / "netduinoplus2").mkdir()
        (folder / "netduinoplus2" / "board.toml").write_text(board.replace(wrong, said))
        with pytest.raises(BoardError, match=r"\[flash_store\] has"):
            load_board("netduinoplus2", folder)


def test_flash_that_is_too_small_for_two_records(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = load_board("netduinoplus2")
    assert board.store is not None
    small = type(board.store)("flash_stm32f4", 0x080F_0000, 16_384, 3, 4)
    monkeypatch.setattr("tinytrain.compiler.load_board", lambda _: replace(board, store=small))
    with pytest.raises(DoesNotFit, match=r"keeps 33,\d\d\d bytes .* in two records of 3 pages of 16,384 bytes; netduinoplus2 has 3 pages"):
        compile_model(model, Options(board="netduinoplus2", optimiser=Optimiser(kind="adam"), store=1))


def sample(index: int) -> tuple[Array, np.int32]:
    rng = np.random.default_rng(index)
    return rng.standard_normal(64, np.float32), np.int32(rng.integers(10))


def started(project: Project, flash: Path) -> Session:
    where = project.board.store
    assert where is not None
    return Session(start_qemu(project.elf(), project.board, more=where.kept_in(flash, project.elf())), project.board, target_dtype=LABEL)


def assert_same(one: dict[str, Array], other: dict[str, Array]) -> None:
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_a_board_goes_on_where_it_was(model: Path, tmp_path: Path) -> None:
    """Autosave at the second and fourth sample; power off; both the saved bits and those of what follows are as on a twin."""
    need_tools(load_board("riscv-virt"))
    options = Options(board="riscv-virt", scheme="last:1", optimiser=Optimiser(0.05, momentum=0.9), store=2)
    write(compile_model(model, options), tmp_path / "out")
    project, flash = Project.open(tmp_path / "out"), tmp_path / "flash,1.img"
    with started(project, flash) as session:
        compiled = session.get_params()
        with pytest.raises(DeviceError, match="has no weights of this model"):
            store.load(session)
        for i in range(4):
            session.train_step(*sample(i))
        saved = session.get_params()
        session.train_step(*sample(4))
        assert store.load(session) == store.Kept(4, 2, 0, 0, 0)
        session.train_step(*sample(4))
        more = session.get_params()
    with started(project, flash) as session:
        assert_same(saved, session.get_params())
        session.train_step(*sample(4))
        assert_same(more, session.get_params())
        assert store.save(session, optimiser=False).sequence == 3
        assert store.factory_reset(session).sequence == 4
        assert_same(compiled, session.get_params())
    with started(project, flash) as session:
        assert_same(compiled, session.get_params())


@pytest.mark.parametrize("steps", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_steps_on_a_board_that_is_killed_five_times(steps: int, model: Path, tmp_path: Path) -> None:
    """It saves twenty times; the end is the same bits as on a twin that nobody kills."""
    need_tools(load_board("riscv-virt"))
    every = steps // 20
    options = Options(board="riscv-virt", scheme="last:1", optimiser=Optimiser(0.01, momentum=0.9), store=every)
    write(compile_model(model, options), tmp_path / "out")
    write(compile_model(model, replace(options, board="host-fused", store=0)), tmp_path / "twin")
    project, done = Project.open(tmp_path / "out"), 0
    for until in (every + 7, 5 * every - 1, 5 * every, 12 * every + 1, 17 * every + 8, steps):
        with started(project, tmp_path / "flash.img") as session:
            if done:
                assert store.load(session).steps == done // every * every
            for i in range(done // every * every, until):
                session.train_step(*sample(i % 100))
            done, end = until, session.get_params()
    with Project.open(tmp_path / "twin").session() as twin:
        for i in range(steps):
            twin.train_step(*sample(i % 100))
        assert_same(twin.get_params(), end)


def test_internal_flash_of_a_microbit(model: Path, tmp_path: Path) -> None:
    """QEMU has the flash controller of nRF51: what was saved comes back in place of what was learned since."""
    need_tools(load_board("microbit"))
    write(compile_model(model, Options(board="microbit", scheme="last:1", store=2)), tmp_path / "out")
    with Project.open(tmp_path / "out").session() as session:
        for i in range(4):
            session.train_step(*sample(i))
        saved = session.get_params()
        session.train_step(*sample(4))
        assert store.load(session) == store.Kept(4, 2, 0, 0, 0)
        assert_same(saved, session.get_params())


def test_firmware_without_a_store_says_so(model: Path, tmp_path: Path) -> None:
    write(compile_model(model, Options()), tmp_path / "out")
    with Project.open(tmp_path / "out").session() as session, pytest.raises(DeviceError, match="not compiled for that command"):
        store.save(session)


def test_flash_that_does_not_keep_what_is_written_is_said(model: Path, tmp_path: Path) -> None:
    """The emulator of this board has no flash controller."""
    need_tools(load_board("netduinoplus2"))
    write(compile_model(model, Options(board="netduinoplus2", store=5)), tmp_path / "out")
    with Project.open(tmp_path / "out").session() as session, pytest.raises(DeviceError, match="does not keep what is written"):
        store.save(session)
