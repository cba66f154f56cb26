# SPDX-License-Identifier: Apache-2.0
"""How many pixels and channels the kernels of conv2d and its gradients compute at once: what registers hold, and what leaves no rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinytrain.ir.types import TensorType
from tinytrain.ops.geometry import Pair, patches, widened_bytes

if TYPE_CHECKING:
    from tinytrain.ops.conv import Conv2d, Conv2dGradW, Conv2dGradX


def split(n: int, best: int) -> int:
    """A tile of about `best` out of n: one that leaves no rest, if there is one near."""
    if n <= best:
        return n
    return next((t for t in (best, best + 1, best - 1) if n % t == 0), best)


def _run(length: int, most: int = 4) -> int:
    """How many steps of a run of a multiple of `length` are unrolled."""
    return next(u for u in range(most, 0, -1) if length % u == 0)


def side_by_side(pixels: int, shared: int, own: int, products: int) -> int:
    """Of a row of pixels, how many to take at once (1 to 4): a group loads `shared` operands, each pixel `own`, and does `products`."""
    def instructions(n: int) -> int:
        return pixels // n * (shared + n * (own + 2 * products)) + pixels % n * (shared + own + 2 * products)

    return min(range(1, 5), key=instructions)


def forward_tiles(op: Conv2d, *types: TensorType) -> dict[str, int]:
    # PW neighbouring pixels times KT output channels: PW + KT loads feed PW·KT products, all sums stay in registers
    g = op.geometry(*types).lined_up
    run = g.C // g.group
    whole = run * g.cols.taps if g.group == 1 and g.cols.dilation == 1 else run
    first, last = g.cols.inner
    k = split(g.K // g.group, 4)
    pixels = side_by_side(last - first, k, 1, k)
    most = 4 if pixels < 3 else 1 if pixels == 4 else 2
    if len(op.rows(types)[0]) > 1:                        # each piece is a run of its own, and may leave a rest
        return {"PW": pixels, "KT": k, "U": 4, "UI": most}
    return {"PW": pixels, "KT": k, "U": _run(run), "UI": _run(whole, most)}


def patch_tiles(op: Conv2d, *types: TensorType) -> dict[str, int]:
    return {"P": patches(op.geometry(*types).lined_up.cols.positions, op.row_words(types))}


def patch_bytes(op: Conv2d, *types: TensorType) -> int:
    # the patches, and what one piece takes of one of them as the bytes that they are gathered from
    longest = max(piece.length for piece in op.rows(types)[0])
    return widened_bytes(patch_tiles(op, *types)["P"], op.row_words(types)) + (longest + 3) // 4 * 4


def grad_x_tiles(op: Conv2dGradX, *types: TensorType) -> dict[str, int]:
    # PW pixels, a stride apart so that they have the same live taps, times CT input channels, whose weights are one run
    g = op.geometry(*types).lined_up
    reached = [g.cols.reached_by(j) for j in range(g.cols.size)]

    def instructions(tile: Pair) -> float:
        pixels, c = tile
        total = 0
        for phase in range(g.cols.stride):
            row, j = reached[phase :: g.cols.stride], 0
            while j < len(row):
                n = pixels if j + pixels <= len(row) and len(set(row[j : j + pixels])) == 1 else 1
                total += len(row[j]) * (3 + n + c + 2 * n * c)
                j += n
        return total / c

    run = g.C // g.group
    pixels, c = min(((n, split(run, most)) for n, most in ((1, 8), (2, 8), (2, 4), (3, 4), (4, 4))), key=instructions)
    return {"PW": pixels, "CT": c, "U": 2 if (op.pieces or (g.K // g.group) % 2 == 0) and pixels * c <= 8 else 1}


def grad_w_tiles(op: Conv2dGradW, *types: TensorType) -> dict[str, int]:
    # KT outputs times CT inputs: KT + CT loads feed KT·CT products, all sums stay in registers
    g = op.geometry(*types)
    c = split(g.C // g.group, 4)
    return {"KT": split(g.K // g.group, 4 if c >= 3 else 8), "CT": c}
