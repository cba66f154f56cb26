# SPDX-License-Identifier: Apache-2.0
"""A transport to a real board: a serial port, or what pyserial reaches by a URL, as socket://HOST:PORT."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from typing import Any

from tinytrain.errors import DeviceError, ToolError
from tinytrain.reading import first_line

if sys.platform == "win32":
    _GONE: tuple[type[Exception], ...] = (OSError,)
else:
    import termios

    _GONE = (OSError, termios.error)                      # what a port raises that has gone; pyserial's own errors are OSErrors

AUTO = "auto"
_CHUNK = 1 << 16
_REOPEN_SECONDS = 10.0                                    # a board that is reset takes its USB port with it for a while
_REOPEN_EVERY = 0.1


def _pyserial() -> Any:
    try:
        import serial
        import serial.tools.list_ports
    except ImportError:
        raise ToolError("Serial ports need pyserial, which is not installed.", hint='Install it: pip install "tinytrain[flash]".') from None
    return serial


def ports() -> list[tuple[str, str]]:
    """(device, what it says of itself) of each serial port of this computer. Raises ToolError without pyserial."""
    found = _pyserial().tools.list_ports.comports()
    return sorted((port.device, port.description if port.description not in (None, "n/a") else "") for port in found)


def the_port() -> str:
    """The one serial port that belongs to something that is plugged in. Raises DeviceError where there is none, or more than one."""
    found = [port.device for port in _pyserial().tools.list_ports.comports() if port.vid is not None]
    if len(found) != 1:
        has = f"has {len(found)} serial ports on USB ({', '.join(sorted(found))})" if found else "has no serial port on USB"
        raise DeviceError(f"This computer {has}; expected one.", hint="Name it: --port /dev/ttyACM0. `tinytrain ports` lists all.")
    return str(found[0])


def _named(port: str) -> str:
    """The port to open. Raises DeviceError where that is none."""
    if port == AUTO:
        return the_port()
    if re.match(r"socket:(?!//[^/]*:\d+(/|$))", port, re.IGNORECASE):
        raise DeviceError(f"{port} does not say where; expected socket://HOST:PORT.", hint="Example: socket://localhost:4001.")
    return port


class SerialTransport:
    """An open port, of which this process is the only user. One that vanishes is opened again when it comes back."""

    doubt = "Is it the right one, with this firmware, and --baud its rate? "

    def __init__(self, port: str, baud: int, *, patience: float = 0.0) -> None:
        """`patience`: seconds in which the port may still appear, as that of a board that was just flashed."""
        self._serial = _pyserial()
        self._wanted, self._baud = port, baud
        self.port = port
        self._line: Any = self._open(patience)

    @property
    def name(self) -> str:
        return f"the board on {self.port}"

    def write(self, data: bytes, deadline: float) -> None:
        while True:
            try:
                self._line.write_timeout = max(0.01, deadline - time.monotonic())
                self._line.write(data)
                self._line.flush()                        # silence is counted from when the last byte has left
                return
            except self._serial.SerialTimeoutException:
                raise DeviceError(f"{self.name} does not take any more bytes.", hint="Give it longer with --timeout.") from None
            except _GONE:
                self._reopen()

    def read(self, deadline: float) -> bytes:
        try:
            self._line.timeout = max(0.0, deadline - time.monotonic())
            first = self._line.read(1)
            self._line.timeout = 0
            return bytes(first + self._line.read(_CHUNK)) if first else b""
        except _GONE:
            self._reopen()
            return b""

    def close(self) -> None:
        self._line.close()

    def _open(self, patience: float) -> Any:
        """Raises DeviceError where the port does not open for that many seconds."""
        end = time.monotonic() + patience
        while True:
            try:
                self.port = _named(self._wanted)
                return self._serial.serial_for_url(self.port, self._baud, timeout=0, exclusive=True)
            except ValueError as error:
                raise DeviceError(f"{self.port} is no serial port: {error}.", hint="`tinytrain ports` lists what there is.") from None
            except (DeviceError, *_GONE) as error:
                if time.monotonic() >= end:
                    raise (error if isinstance(error, DeviceError) else _refusal(self.port, error)) from None
            time.sleep(_REOPEN_EVERY)

    def _reopen(self) -> None:
        self._line.close()
        time.sleep(_REOPEN_EVERY)                         # what has just gone may seem to be there still
        try:
            self._line = self._open(_REOPEN_SECONDS)
        except DeviceError:
            message = f"{self.port} has vanished, and did not come back within {_REOPEN_SECONDS:g} s."
            hint = "Plug the board in again, and give the same command; `train` goes on with --resume."
            raise DeviceError(message, hint=hint) from None


def _refusal(port: str, error: Exception) -> DeviceError:
    """Why a port does not open, as far as it is known."""
    number = getattr(error, "errno", None)
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return DeviceError(f"{port} is in use by another program.", hint="End it: a port has one user at a time.")
    if number == errno.EACCES:
        return DeviceError(f"{port} may not be opened by you.", hint="Add yourself to the group that owns it, often dialout.")
    if number == errno.ENOENT:
        return DeviceError(f"There is no port {port}.", hint="`tinytrain ports` lists what there is.")
    reason = os.strerror(number) if number else re.sub(r".*\[Errno -?\d+\] ", "", first_line(error)).rstrip(".")
    return DeviceError(f"{port} does not open: {reason}.", hint="`tinytrain ports` lists what there is.")
