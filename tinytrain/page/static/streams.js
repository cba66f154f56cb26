// SPDX-License-Identifier: Apache-2.0
// Lines of bytes to a device: a serial port of this computer (Web Serial), or the socket of `tinytrain open`.

/** Ask which port, and open it at `baud` bits a second. Throws one sentence: none chosen, not allowed, held by another program. */
export async function openPort(serial, baud) {
    let port;
    try {
        port = await serial.requestPort();
    } catch (error) {
        throw new Error(error.name === "NotFoundError" ? "No port was chosen." : `The browser gives no port: ${error.message}`, { cause: error });
    }
    try {
        await port.open({ baudRate: baud, bufferSize: 1 << 16 });
    } catch (error) {
        const why = error.name === "NetworkError" ? "another program may hold it (a monitor, another tab, `tinytrain`): end that" : error.message;
        throw new Error(`The port cannot be opened: ${why}.`, { cause: error });
    }
    const reader = port.readable.getReader(), writer = port.writable.getWriter();
    return {
        name: "the board",
        write: (bytes) => writer.write(bytes),
        read: async () => (await reader.read()).value ?? null,
        close: async () => {
            await reader.cancel().catch(() => {});
            reader.releaseLock();
            await writer.close().catch(() => {});
            await port.close().catch(() => {});
        },
    };
}

/** The device behind a socket of `tinytrain open`; `name` is what it is called. */
export async function openSocket(address, name) {
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    const waiting = [];
    let wake = () => {}, ended = null;
    socket.onmessage = ({ data }) => { // an error is a text
        if (typeof data === "string") ended = data;
        else waiting.push(new Uint8Array(data));
        wake();
    };
    await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onclose = () => reject(new Error(`Nothing answers at ${new URL(address).host}: is \`tinytrain open\` still running?`));
    });
    socket.onclose = () => { ended ??= "`tinytrain open` has ended the connection"; wake(); };
    return {
        name,
        write: async (bytes) => { if (socket.readyState === WebSocket.OPEN) socket.send(bytes); }, // why it ends is what `read` says
        read: async () => {
            while (!waiting.length && ended === null) await new Promise((resolve) => { wake = resolve; });
            if (waiting.length) return waiting.shift();
            if (ended) throw new Error(ended);
            return null;
        },
        close: async () => { socket.close(); ended ??= ""; wake(); },
    };
}
