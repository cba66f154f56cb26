# SPDX-License-Identifier: Apache-2.0
"""What a device is asked over the link, and what it answers: runtime_c/tt_link.h and tt_types.h. See docs/link.md."""

from __future__ import annotations

from enum import IntEnum


class Command(IntEnum):
    """As in runtime_c/tt_link.h."""

    HELLO = 1
    INFER = 2
    TRAIN = 3
    EVALUATE = 4
    PARAM_INFO = 5
    READ_PARAM = 6
    WRITE_PARAM = 7
    SET_LR = 8
    COUNTERS = 9
    RESET = 10
    SET_SCHEME = 11
    SET_SKIP_BELOW = 12
    SAVE = 13
    LOAD = 14
    FACTORY_RESET = 15
    STATS = 16
    EXPORT_DELTA = 17
    IMPORT_DELTA = 18
    REMEMBER = 19
    SET_SKIP_ABOVE = 20


class Status(IntEnum):
    """tt_status of runtime_c/tt_types.h."""

    OK = 0
    ARENA = 1
    ARGUMENT = 2
    LABEL = 3
    FRAME = 4
    COMMAND = 5
    LENGTH = 6
    STACK = 7
    FAULT = 8
    OVERFLOW = 9
    NOT_FINITE = 10
    MORE = 11
    BUSY = 12
    STORE_EMPTY = 16
    STORE_TORN = 17
    STORE_FOREIGN = 18
    STORE_NEWER = 19
    STORE_SPACE = 20
    FLASH = 21


MEANING = {
    Status.ARENA: "the arena is too small or not aligned",
    Status.ARGUMENT: "an index or offset is out of range",
    Status.LABEL: "the class label is out of range",
    Status.FRAME: "the request arrived damaged",
    Status.COMMAND: "this firmware was not compiled for that command",
    Status.LENGTH: "the sample has the wrong length",
    Status.STACK: "the stack has overflowed; its contents and the weights can no longer be trusted",
    Status.NOT_FINITE: "the sample, or what the model makes of it, is infinite or not a number",
    Status.BUSY: "a training step is not at its end",
    Status.STORE_EMPTY: "its flash has no weights of this model",
    Status.STORE_TORN: "its flash has no whole weights, only what a loss of power left",
    Status.STORE_FOREIGN: "its flash has the weights of another model, or of another scheme",
    Status.STORE_NEWER: "its flash has weights in a later format, which newer firmware wrote",
    Status.STORE_SPACE: "its flash does not hold weights twice",
    Status.FLASH: "its flash does not keep what is written",
}
