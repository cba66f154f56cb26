# SPDX-License-Identifier: Apache-2.0
"""What all tests share: repeatable random cases, and the folder of larger models and data beside the source tree."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tinytrain.report import live

ROOT = Path(__file__).resolve().parent.parent
RP2040JS = ROOT / "tinytrain" / "device" / "rp2040js"

# hypothesis would draw numbers from the sources of whatever modules earlier tests have loaded
if hasattr(providers, "_get_local_constants"):
    setattr(providers, "_get_local_constants", lambda: providers._local_constants)  # noqa: B010

# The short form draws the same cases in each run, so that a red build is red for everybody.
settings.register_profile("short", derandomize=True, max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("short")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew in place of comparing with them")


def same_numbers(item: pytest.Item) -> None:
    """Random generators of test modules start anew in each test: which tests ran before in this process depends on how fast others were."""
    for module in (sys.modules.get("frontend_models"), getattr(item, "module", None)):
        for generator in vars(module).values() if module else ():
            if isinstance(generator, np.random.Generator):
                bits = generator.bit_generator
                bits.state = type(bits)(bits.seed_seq).state


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    same_numbers(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Once more: a fixture that others share has drawn some in the first test only."""
    same_numbers(item)


@pytest.fixture(scope="session", autouse=True)
def no_clock_in_what_is_printed() -> None:
    """How far work is, which is said every ten seconds, depends on the computer."""
    live.EVERY_SECONDS = math.inf


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is written to the user's home, or read from it; programs that tests start have the same key."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def compiled_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files that many builds have alike, such as the runtime's, are compiled by the first one, where ccache is installed.

    What it keeps ends with the run: it takes -march=native for the same on every computer.
    """
    if (ccache := shutil.which("ccache")) is None:
        return
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if hasattr(request.config, "workerinput") else here) / "ccache"  # all test processes share it
    folder.mkdir(exist_ok=True)
    for name in ("cc", "gcc", "arm-none-eabi-gcc", *(f"clang-{version}" for version in range(16, 23))):
        if shutil.which(name):
            with contextlib.suppress(FileExistsError):    # the other test processes make the same links
                (folder / name).symlink_to(ccache)
    os.environ |= {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "CCACHE_DIR": str(folder / "kept")}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with models/ and sets/, which is not part of this repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared/data beside the source tree")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in rp2040js is skipped where `npm ci` has not installed it."""
    if (RP2040JS / "node_modules" / "rp2040js").is_dir():
        return
    for item in items:
        if re.search(r"raspberry-pi-pico(?!2)", item.nodeid) and "build_and_sizes" not in item.nodeid:
            item.add_marker(pytest.mark.skip(reason=f"needs rp2040js: npm ci --prefix {RP2040JS}"))
