# SPDX-License-Identifier: Apache-2.0
"""Growers (`onnx_net.py`) of ops of single elements, of comparisons, and of reductions."""

from __future__ import annotations

import numpy as np
from onnx_net import BOOL, INT, Net, grows

PLAIN = (
    "Abs", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Mish", "Neg", "Relu", "Round", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh", "Asinh",
)
# what is put in front where an op takes no other numbers, and what is added then
BOUNDED = {"Acos": ("Sin", 0.0), "Acosh": ("Exp", 1.25), "Asin": ("Tanh", 0.0), "Atanh": ("Sin", 0.0), "Log": ("Sigmoid", 0.1),
           "Reciprocal": ("Softplus", 0.1), "Sqrt": ("Abs", 0.2)}


@grows(*PLAIN)
def plain(net: Net, op: str) -> None:
    net.add(op, net.read())


@grows(*BOUNDED)
def bounded(net: Net, op: str) -> None:
    before, offset = BOUNDED[op]
    x = net.add(before, net.read())
    net.add(op, net.add("Add", x, net.stored(np.float32(offset))) if offset else x)


@grows("Celu", "Elu", "LeakyRelu", "Selu", "ThresholdedRelu", "HardSigmoid", "Shrink", "Swish")
def curve(net: Net, op: str) -> None:
    numbers = {name: net.one(None, 0.5, 0.1, 1.0, 2.5) for name in ("alpha", "beta", "gamma", "lambd", "bias")}
    if op == "HardSigmoid" and net.yes():
        numbers["alpha"] = -0.3
    net.add(op, net.read(), **numbers)


@grows("Gelu")
def gelu(net: Net, op: str) -> None:
    net.add(op, net.read(), approximate=net.one(None, "none", "tanh"))


@grows("Softmax", "LogSoftmax", "Hardmax")
def along_axis(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    net.add(op, x, axis=net.one(None, net.axis(len(net.shape(x)))))


@grows("Clip")
def clip(net: Net, op: str) -> None:
    low, high = (net.stored(np.float32(v)) if net.yes() else "" for v in (net.one(-0.5, 0.0, -np.inf), net.one(0.8, 6.0, 0.0, np.inf)))
    net.add(op, net.read(), *([low, high] if high else [low] if low else []))


@grows("Dropout")
def dropout(net: Net, op: str) -> None:
    more = net.one([], [np.float32(0.4)], [np.float32(0.0)], [np.float32(0.5), np.array(False)])
    net.add(op, net.read(), *(net.stored(np.asarray(a)) for a in more), seed=net.one(None, 3))


@grows("PRelu")
def prelu(net: Net, op: str) -> None:
    x = net.read()
    net.add(op, x, net.stored(net.numbers(*net.broadcast(net.shape(x)))))


def operand(net: Net, x: str) -> str:
    """Something that broadcasts with x: computed, or a constant, larger or smaller."""
    shape = net.shape(x)
    if net.yes():
        fits = [name for name in reversed(net.values) if net.array(name).dtype == np.float32 and _broadcasts(net.shape(name), shape)]
        return net.one(*fits)
    return net.stored(net.numbers(*net.one(net.broadcast(shape), shape, (2, *(1 for _ in shape)), ())))


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1], strict=False))


def two(net: Net) -> list[str]:
    x = net.read()
    both = [x, operand(net, x)]
    return both if net.yes() else both[::-1]


@grows("Add", "Mul", "Sub", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def binary(net: Net, op: str) -> None:
    net.add(op, *two(net))


@grows("Div")
def div(net: Net, op: str) -> None:
    a, b = two(net)
    if b in net.values or not net.array(b).all():
        b = net.add("Exp", net.read() if b in net.known else b)
    net.add(op, a, b)


@grows("Pow")
def power(net: Net, op: str) -> None:
    x = net.read()
    if net.yes():
        exponent = net.one(np.float32(2), np.float32(3), np.int64(2), np.float32([1]), np.int32(3), np.float32(0))
        net.add(op, x, net.stored(exponent, folded=False))
        return
    positive = net.add("Exp", x)
    net.add(op, positive, operand(net, positive))


@grows("Max", "Min", "Mean", "Sum")
def several(net: Net, op: str) -> None:
    x = net.read()
    net.add(op, *([x, *(operand(net, x) for _ in range(net.int(0, 2)))]))


@grows("And", "Or", "Xor")
def both(net: Net, op: str) -> None:
    a = net.read(kind=BOOL)
    shape = net.shape(a)
    alike = [name for name in net.values if net.array(name).dtype == bool and _broadcasts(net.shape(name), shape)]
    b = net.one(*alike) if net.yes() else net.stored(net.rng.random(net.broadcast(shape)) > 0.5)
    net.add(op, *((a, b) if net.yes() else (b, a)))


@grows("Not")
def inverted(net: Net, op: str) -> None:
    net.add(op, net.read(kind=BOOL))


@grows("IsNaN", "IsInf")
def odd(net: Net, op: str) -> None:
    x = net.add("Log", net.read(), strange=True) if net.yes() else net.read()
    net.add(op, x, detect_positive=net.one(None, 0, 1), detect_negative=net.one(None, 0, 1))


@grows("Where")
def where(net: Net, op: str) -> None:
    a, b = two(net)
    if net.yes():
        condition = net.read(kind=BOOL)
        if not _broadcasts(net.shape(condition), np.broadcast_shapes(net.shape(a), net.shape(b))):
            condition = net.add("Less", a, b)
    else:
        condition = net.stored(net.rng.random(net.broadcast(net.shape(a))) > 0.5)
    net.add(op, condition, a, b)


@grows("Cast")
def cast(net: Net, op: str) -> None:
    kind, to = net.one(("f", 7), ("f", 6), ("f", 1), ("f", 9), ("i", 1), ("i", 7), ("i", 6), ("b", 1), ("b", 9))
    net.add(op, net.read(kind=kind), to=to)


@grows("CastLike")
def cast_like(net: Net, op: str) -> None:
    x = net.read(kind=net.one("f", "i", "b"))
    net.add(op, x, net.one(net.read(), net.stored(net.numbers(2)), net.stored([1]), net.read(kind=INT)))


@grows(*(f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")))
def reduction(net: Net, op: str) -> None:
    x = net.read()
    if op == "ReduceLogSum":
        x = net.add("Exp", x)
    axes = net.one(None, net.axes(len(net.shape(x))))
    rest = {"keepdims": net.one(None, 0, 1), "noop_with_empty_axes": net.one(None, 0, 1)}
    if net.takes(op, "axes"):
        net.add(op, x, axes=axes or None, **rest)
    else:
        net.add(op, x, *([] if axes is None else [net.stored(axes)]), **rest)


@grows("ArgMax", "ArgMin")
def arg_extreme(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    axis = net.one(None, net.axis(len(net.shape(x))))
    net.add(op, x, axis=axis, keepdims=net.one(None, 0, 1), select_last_index=net.one(None, 0, 1))


@grows("TopK")
def top_k(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    axis = net.axis(len(net.shape(x)))
    k = net.stored([net.int(1, net.shape(x)[axis])])
    net.add(op, x, k, outputs=2, axis=axis, largest=net.one(None, 0, 1), sorted=net.one(None, 1))


@grows("OneHot")
def one_hot(net: Net, op: str) -> None:
    index = net.one(net.read(kind=INT), net.add("Floor", net.read()))
    depth = net.stored(net.one(np.int64(3), np.int64([5]), np.float32(4)), folded=False)
    net.add(op, index, depth, net.stored(net.numbers(2)), axis=net.one(None, net.axis(len(net.shape(index)) + 1)))
