# SPDX-License-Identifier: Apache-2.0
"""Growers (`onnx_net.py`) of layers: products, windows, norms, recurrent layers, and what reads maps between their pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx_growers_moves import made_to
from onnx_net import Net, Unfit, grows

Shape = tuple[int, ...]


def weight(net: Net, *shape: int) -> str:
    return net.stored(net.numbers(*shape) / np.float32(max(1.0, math.sqrt(math.prod(shape[1:])))), folded=net.one(False, False, True))


@grows("MatMul")
def matmul(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    shape, n = net.shape(x), net.int(1, 4)
    how = net.int(0, 4)
    if how == 0 or len(shape) == 1:
        net.add(op, x, weight(net, *net.one((shape[-1], n), (shape[-1],), (2, shape[-1], n))))
    elif how == 1:
        net.add(op, weight(net, *net.one((n, shape[-2]), (shape[-2],), (3, *(1 for _ in shape[1:-2]), n, shape[-2]))), x)
    elif how == 2:
        net.add(op, x, net.add("Transpose", x, perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]))
    elif how == 3:
        net.add(op, x, made_to(net, (shape[-1], n)))
    else:
        net.add(op, made_to(net, (*(net.one(1, s) for s in shape[:-2]), n, shape[-2])), x)


@grows("Einsum")
def einsum(net: Net, op: str) -> None:
    """One operand turned and summed, or a product with a second one over one of its axes."""
    x = net.read(2, 3, 4)
    letters = "abcd"[: len(net.shape(x))]
    if net.yes():
        kept = "".join(net.draw(st.permutations(letters)))[net.int(0, 1) :]
        net.add(op, x, equation=net.one(f"{letters}->{kept}", f"{letters} -> {kept}"))
        return
    summed, n = net.one(*letters), net.int(1, 4)
    shape = (net.shape(x)[letters.index(summed)], n)
    w = made_to(net, shape) if net.one(False, False, True) else weight(net, *shape)
    net.add(op, x, w, equation=f"{letters},{summed}z->" + "".join(net.draw(st.permutations(letters.replace(summed, "z")))))


@grows("Gemm")
def gemm(net: Net, op: str) -> None:
    x = net.read(2)
    turned = net.one(None, 0, 1)
    m, k = net.shape(x)[:: -1 if turned else 1]
    n, other = net.int(1, 4), net.one(None, 0, 1)
    b = (n, k) if other else (k, n)
    operands = [x, made_to(net, b) if net.one(False, False, True) else weight(net, *b)]
    if net.yes():
        bias = net.one((n,), (1, n), (m, n), (1,), (), (m, 1))
        operands.append(made_to(net, bias) if net.one(False, False, True) else weight(net, *bias))
    net.add(op, *operands, transA=turned, transB=other, alpha=net.one(None, 0.5), beta=net.one(None, 0.5, 0.0))


def windows(net: Net, op: str, sizes: Shape) -> dict[str, Any]:
    """kernel_shape and its companions, so that each window fits."""
    rank = len(sizes)
    kernel = [net.int(1, min(n, 3)) for n in sizes]
    dilations = [net.int(1, 2) if (k - 1) * 2 + 1 <= n else 1 for k, n in zip(kernel, sizes, strict=True)]
    if not net.takes(op, "dilations"):
        dilations = [1] * rank
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": net.one(None, [net.int(1, 3) for _ in sizes])}
    found["dilations"] = dilations if max(dilations) > 1 else net.one(None, dilations)
    mode = net.one(None, None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if mode and mode.startswith("SAME"):
        # pools of onnxruntime mind no gaps between windows: neither their shapes nor their places are then those of ONNX
        found |= {"dilations": None, "strides": [net.int(1, k) for k in kernel]}
    if mode in (None, "NOTSET") and net.yes():
        found["pads"] = [net.int(0, kernel[i % rank] - 1) for i in range(2 * rank)]
    return {**found, "auto_pad": mode, "ceil_mode": net.one(None, None, 0, 1)}


def feature_map(net: Net, *ranks: int) -> str:
    x = net.read(*(ranks or (3, 4)))
    if net.shape(x)[0] == 1 or net.one(False, False, True):
        return x
    return net.add("Reshape", x, net.stored([1, *_merged(net.shape(x))]))


def _merged(shape: Shape) -> list[int]:
    return [shape[0] * shape[1], *shape[2:]]


@grows("Conv")
def conv(net: Net, op: str) -> None:
    x = feature_map(net, 4, 3, 4)
    _, c, *space = net.shape(x)
    group = net.one(*(g for g in (1, 1, 2, 3, c) if c % g == 0))
    filters = group * net.int(1, 3 if group < 4 else 1)
    found = windows(net, op, tuple(space))
    kernel = found["kernel_shape"]
    if net.one(False, True):
        found["kernel_shape"] = None
    bias = [weight(net, filters)] if net.yes() else []
    net.add(op, x, weight(net, filters, c // group, *kernel), *bias, group=group if group > 1 else net.one(None, 1), **found)


@grows("ConvTranspose")
def conv_transpose(net: Net, op: str) -> None:
    x = feature_map(net, 4, 3, 4)
    _, c, *space = net.shape(x)
    group = net.one(*(g for g in (1, 1, 2, c) if c % g == 0))
    kernel = [net.int(1, 3) for _ in space]
    strides, dilations = [net.int(1, 2) for _ in space], [net.one(1, 1, 2) for _ in space]
    mode = net.one(None, None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    pads, more = None, None
    if mode in (None, "NOTSET"):
        pads = net.one(None, [net.int(0, (kernel[i % len(space)] - 1) // 2) for i in range(2 * len(space))])
        more = net.one(None, [net.int(0, s - 1) for s in strides])
    bias = [weight(net, group * 2)] if net.yes() else []
    net.add(op, x, weight(net, c, 2, *kernel), *bias, group=group, strides=strides, auto_pad=mode, pads=pads, output_padding=more,
            dilations=net.one(None, dilations), kernel_shape=net.one(None, kernel))


@grows("MaxPool", "AveragePool", "LpPool")
def pool(net: Net, op: str) -> None:
    x = feature_map(net, 4, 3, 5)
    found = windows(net, op, net.shape(x)[2:])
    net.add(op, x, **found, count_include_pad=net.one(None, 0, 1), p=net.one(None, 1, 2, 3), storage_order=net.one(None, 0))


@grows("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(net: Net, op: str) -> None:
    net.add(op, feature_map(net, 4, 3, 5), p=net.one(None, 1, 2, 3))


@grows("BatchNormalization", "InstanceNormalization", "GroupNormalization")
def norm_of_channels(net: Net, op: str) -> None:
    x = feature_map(net, *((2, 3, 4) if op == "BatchNormalization" else (3, 4)))
    c = net.shape(x)[1]
    groups = net.one(*(g for g in (1, 2, 3, c) if c % g == 0)) if op == "GroupNormalization" else None
    each = groups if groups and net.opset < 21 else c
    operands = [net.stored(net.numbers(each)), net.stored(net.numbers(each))]
    if op == "BatchNormalization":
        operands += [net.stored(net.numbers(c)), net.stored(net.numbers(c, low=0.3))]
    # onnxruntime multiplies before it subtracts: of a single number, which is its own mean, little is left where epsilon is small
    epsilon = 0.1 if math.prod(net.shape(x)[2:]) == 1 else net.one(None, 1e-3, 0.1)
    net.add(op, x, *operands, epsilon=epsilon, momentum=net.one(None, 0.8), num_groups=groups)


@grows("LayerNormalization", "RMSNormalization")
def norm_of_rows(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    rank = len(net.shape(x))
    axis = net.one(None, net.axis(rank))
    over = net.shape(x)[-1 if axis is None else axis % rank :]
    operands = [net.stored(net.numbers(*net.one(over, net.broadcast(over)))) for _ in range(net.int(1, 1 + (op == "LayerNormalization")))]
    net.add(op, x, *operands, outputs=net.one(1, 1, 3) if op == "LayerNormalization" else 1, axis=axis, epsilon=net.one(None, 1e-3))


@grows("LpNormalization")
def lp_normalization(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    net.add(op, x, axis=net.one(None, net.axis(len(net.shape(x)))), p=net.one(None, 1, 2))


@grows("LRN")
def local_response(net: Net, op: str) -> None:
    """Odd sizes, as onnxruntime takes no others."""
    x = net.read(4, 3)
    net.add(op, x, size=net.one(1, 3, 5), alpha=net.one(None, 0.5), beta=net.one(None, 0.6), bias=net.one(None, 1.5))


@grows("MeanVarianceNormalization")
def mean_variance_normalization(net: Net, op: str) -> None:
    x = net.read(4, 3)
    rank = len(net.shape(x))
    net.add(op, x, axes=net.axes(rank, 1) if rank != 4 else net.one(None, net.axes(rank, 1)))


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


@grows(*GATES)
def recurrent(net: Net, op: str) -> None:
    early = net.one(0, 0, 1) if net.takes(op, "layout") else 0
    # with the batch in front there is only the evaluator of onnx to compare with, which knows one direction and the usual functions
    direction = None if early else net.one(None, "forward", "reverse", "bidirectional")
    ways, units = 1 + (direction == "bidirectional"), net.int(1, 3)
    shape = (1, net.int(1, 4), net.int(1, 3)) if early else (net.int(1, 4), net.one(1, 1, 2), net.int(1, 3))
    x = made_to(net, shape)
    steps, batch = (shape[1], shape[0]) if early else shape[:2]
    state = (batch, ways, units) if early else (ways, batch, units)
    rows = GATES[op] * units
    optional = [
        weight(net, ways, 2 * rows), net.stored(np.full(batch, steps, np.int32), folded=False), weight(net, *state),
        *([weight(net, *state), weight(net, ways, 3 * units)] if op == "LSTM" else []),
    ]
    given = [name if net.yes() else "" for name in optional]
    while given and not given[-1]:
        given.pop()
    functions = None if early else net.one(None, [net.one("Tanh", "Sigmoid", "Relu") for _ in range(FUNCTIONS[op])] * ways)
    net.add(
        op, x, weight(net, ways, rows, shape[2]), weight(net, ways, rows, units), *given, outputs=net.int(1, 3 if op == "LSTM" else 2),
        hidden_size=units, direction=direction, layout=early or None, activations=functions, linear_before_reset=net.one(None, 0, 1),
        input_forget=net.one(None, None, 0, 1), clip=None if early else net.one(None, None, None, 2.0),
    )


@grows("Resize")
def resize(net: Net, op: str) -> None:
    x = net.read(4, 3, 2)
    shape = net.shape(x)
    rank = len(shape)
    transform = net.one(
        None, "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", "tf_crop_and_resize"
    )
    mode = net.one(None, "nearest", "linear", "cubic")
    far = [a for a in range(rank) if a >= rank - 2]
    axes = far if net.opset >= 18 and net.yes() else None
    active = axes or list(range(rank))
    roi = ""
    if transform == "tf_crop_and_resize":
        roi = net.stored(np.float32([0.1 if a in far else 0 for a in active] + [0.9 if a in far else 1 for a in active]), folded=False)
    # onnxruntime and ONNX place ends on ends otherwise where the new length is no whole number; the former crops nothing at the scale 1
    factors = {"align_corners": (1.0, 2.0, 3.0), "tf_crop_and_resize": (2.0, 3.0)}.get(transform or "", (0.5, 1.0, 1.5, 2.0))
    scales = [net.one(*factors) if a in far else 1.0 for a in active]
    sizes = [max(1, int(shape[a] * s)) for a, s in zip(active, scales, strict=True)]
    sized = net.yes()
    operands = [roi, "", net.stored(sizes)] if sized else [roi, net.stored(np.float32(scales), folded=False)]
    more: dict[str, Any] = {"antialias": net.one(None, 0, 1)} if mode in ("linear", "cubic") else {}
    more |= {"exclude_outside": net.one(None, 0, 1)} if mode == "cubic" else {}
    more |= {"keep_aspect_ratio_policy": net.one(None, "stretch", "not_larger", "not_smaller")} if sized else {}
    rounding = (None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    more |= {"nearest_mode": net.one(*rounding[: 3 if sized else 5])}     # of sizes, scales are quotients, and whole numbers hardly whole
    net.add(
        op, x, *operands, axes=axes, mode=mode, coordinate_transformation_mode=transform, cubic_coeff_a=net.one(None, -0.5),
        extrapolation_value=net.one(None, 0.5), **more,
    )


@grows("GridSample")
def grid_sample(net: Net, op: str) -> None:
    x = feature_map(net, 4)
    mode = net.one(None, *(("linear", "nearest", "cubic") if net.opset >= 20 else ("bilinear", "nearest", "bicubic")))
    grid = net.numbers(net.shape(x)[0], net.int(1, 3), net.int(1, 3), 2, low=-1.3, high=1.3)
    # onnxruntime moves a point to the border along both axes where it is outside along one, which the cubic alone shows
    padding = net.one(None, "zeros", "reflection", *(() if "cubic" in (mode or "") else ("border",)))
    net.add(op, x, net.stored(grid), mode=mode, padding_mode=padding, align_corners=net.one(None, 0, 1))


@grows("RoiAlign")
def roi_align(net: Net, op: str) -> None:
    x = feature_map(net, 4)
    batch, _, h, w = net.shape(x)
    count = net.int(1, 2)
    corner = net.numbers(count, 2, low=0, high=1)
    rois = np.concatenate([corner, corner + net.numbers(count, 2, low=0.5, high=max(1, min(h, w) - 1))], 1)
    samples = net.rng.integers(0, batch, count)
    net.add(
        op, x, net.stored(rois), net.stored(samples, folded=False), output_height=net.one(None, 2), output_width=net.one(None, 2),
        sampling_ratio=net.one(None, 1, 2), spatial_scale=net.one(None, 0.5), mode=net.one(None, "avg", "avg", "max"),
        coordinate_transformation_mode=net.one(None, "half_pixel", "output_half_pixel"),
    )


@grows("AffineGrid")
def affine_grid(net: Net, op: str) -> None:
    space = [net.int(2, 3) for _ in range(net.int(2, 3))]     # of a single point in a line everybody thinks differently
    theta = made_to(net, (1, len(space), len(space) + 1))
    net.add(op, theta, net.stored([1, 2, *space]), align_corners=net.one(None, 0, 1))


@grows("Col2Im")
def col2im(net: Net, op: str) -> None:
    image = [net.int(2, 4) for _ in range(net.int(1, 2))]
    block = [net.int(1, n) for n in image]
    strides = [net.int(1, 2) for _ in image]
    pads = [net.int(0, 1) for _ in range(2 * len(image))]
    blocks = [(n + pads[a] + pads[len(image) + a] - block[a]) // strides[a] + 1 for a, n in enumerate(image)]
    x = made_to(net, (1, math.prod(block) * net.int(1, 2), math.prod(blocks)))
    net.add(op, x, net.stored(image), net.stored(block), strides=strides, pads=pads, dilations=net.one(None, [1 for _ in image]))


@grows("MaxUnpool")
def max_unpool(net: Net, op: str) -> None:
    x = feature_map(net, 4, 3)
    batch, channels, *space = net.shape(x)
    kernel = [net.int(1, 2) for _ in space]
    room = [n * k for n, k in zip(space, kernel, strict=True)]
    total = batch * channels * math.prod(room)
    if total > 300:
        raise Unfit
    index = net.rng.permutation(total)[: net.array(x).size].reshape(net.shape(x))
    net.add(op, x, net.stored(index, folded=False), kernel_shape=kernel, strides=kernel)
