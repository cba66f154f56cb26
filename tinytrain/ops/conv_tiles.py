# SPDX-License-Identifier: Apache-2.0
"""How many pixels and channels the kernels of conv2d and its gradients compute at once: what registers hold, and what leaves no rest."""

from __future__ import annotations

from tinytrain.ops.geometry import Geometry, Pair, patches

FORWARD_TRIES = {"PW": (1, 2, 3, 4), "KT": (2, 4, 8)}
GRAD_X_TRIES = {"PW": (1, 2, 4), "CT": (2, 4, 8)}
GRAD_W_TRIES = {"KT": (2, 4, 8), "CT": (1, 2, 4)}


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


def forward_tiles(g: Geometry, pieces: int) -> dict[str, int]:
    """Of a convolution whose rows of x lie in that many pieces."""
    # PW neighbouring pixels times KT output channels: PW + KT loads feed PW·KT products, all sums stay in registers
    g = g.lined_up
    run = g.C // g.group
    whole = run * g.cols.taps if g.group == 1 and g.cols.dilation == 1 else run
    first, last = g.cols.inner
    k = split(g.K // g.group, 4)
    pixels = side_by_side(last - first, k, 1, k)
    most = 4 if pixels < 3 else 1 if pixels == 4 else 2
    if pieces > 1:                                        # each piece is a run of its own, and may leave a rest
        return {"PW": pixels, "KT": k, "U": 4, "UI": most}
    return {"PW": pixels, "KT": k, "U": _run(run), "UI": _run(whole, most)}


def patch_tiles(g: Geometry, row_words: int) -> dict[str, int]:
    """Of a convolution whose row of a patch takes that many words of two int16."""
    return {"P": patches(g.lined_up.cols.positions, row_words)}


def grad_x_tiles(g: Geometry, cut: bool) -> dict[str, int]:
    """Of the gradient of x, whose weight may be cut into pieces."""
    # PW pixels, a stride apart so that they have the same live taps, times CT input channels, whose weights are one run
    g = g.lined_up
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
    return {"PW": pixels, "CT": c, "U": 2 if (cut or (g.K // g.group) % 2 == 0) and pixels * c <= 8 else 1}


def grad_w_tiles(g: Geometry) -> dict[str, int]:
    """Of the gradient of w."""
    # KT outputs times CT inputs: KT + CT loads feed KT·CT products, all sums stay in registers
    c = split(g.C // g.group, 4)
    return {"KT": split(g.K // g.group, 4 if c >= 3 else 8), "CT": c}
