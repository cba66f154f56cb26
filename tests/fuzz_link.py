# SPDX-License-Identifier: Apache-2.0
"""Bytes that no host would send, by libFuzzer, for the C of the link under ASan and UBSan: make fuzz-link."""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from fake_firmware import write_fake
from line_device import SOURCE, sources

from tinytrain.device.commands import Command
from tinytrain.device.delta import RUNS, Head
from tinytrain.device.packets import pack_frame
from tinytrain.target.board import load_board

TARGET = SOURCE.with_name("fuzz_link.c")
SAMPLE = bytes(28)
DELTA = Head(RUNS, bytes([1, 2, 3, 0, 255, 0, 0, 7]).ljust(16, b"\0"), 0x12345678, 5).sealed(b"\xff" * 4)      # of the model of tests/fake
PAYLOADS = {Command.TRAIN: SAMPLE, Command.EVALUATE: SAMPLE, Command.INFER: bytes(16), Command.IMPORT_DELTA: DELTA}


def clang() -> str | None:
    return next(filter(None, map(shutil.which, ("clang", "clang-19"))), None)


def build_fuzzer(folder: Path) -> Path:
    """The fuzzer, and seeds beside it: one of each request, bare and framed."""
    compiler = clang()
    assert compiler is not None, "libFuzzer comes with clang"
    project = write_fake(folder / "project", load_board("host"))
    files = [str(TARGET) if file == str(SOURCE) else file for file in sources(project)]
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCE.parent}"]
    subprocess.run([compiler, *flags, *files, "-o", str(folder / "fuzzer")], check=True)
    seeds = folder / "seeds"
    seeds.mkdir()
    for command in Command:
        payload = PAYLOADS.get(command, bytes(4))
        body = struct.pack("<HHBBHII", 1, 0, command, 0, 0, 0, len(payload)) + payload
        (seeds / f"{command.name}_framed").write_bytes(bytes([2, (len(body) + 3) // 4]) + body)
        (seeds / f"{command.name}_symbols").write_bytes(b"\1" + b"".join(
            struct.pack("<HH", 1, at // 4) + body[4 + at : 8 + at] for at in range(0, len(body) - 4, 4)))
        (seeds / f"{command.name}_bare").write_bytes(b"\0" + pack_frame(body, 1))
    return folder / "fuzzer"


def fuzz(folder: Path, *limits: str) -> subprocess.CompletedProcess[str]:
    fuzzer = build_fuzzer(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    options = ["-seed=1", "-timeout=10", "-max_len=1024", f"-artifact_prefix={folder}/", *limits]
    return subprocess.run([str(fuzzer), *options, str(corpus), str(folder / "seeds")], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    with tempfile.TemporaryDirectory() as temporary:
        done = fuzz(Path(temporary), f"-max_total_time={parser.parse_args().seconds}")
    said = done.stderr.splitlines()
    print("\n".join([line for line in said if line.startswith("Done ")] + said[-1:] if done.returncode == 0 else said[-60:]))
    sys.exit(done.returncode)
