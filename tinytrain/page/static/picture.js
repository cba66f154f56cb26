// SPDX-License-Identifier: Apache-2.0
// Pictures: drawn by pen or keys, from the camera, or files; made as small as the model takes them.

import { html } from "./dom.js";

const SIDE = 280; // pixels of the drawing, at most
const FRAME_MS = 100;
const RANGES = {
    "0 to 1": (value) => value / 255,
    "-1 to 1": (value) => value / 127.5 - 1,
    "0 to 255": (value) => value,
    "ImageNet's mean and deviation": (value, channel) => (value / 255 - [0.485, 0.456, 0.406][channel]) / [0.229, 0.224, 0.225][channel],
};

/** Pixels (RGBA) as the model takes them: rows, columns, channels; one channel is the mean of three. */
export function pixels(rgba, channels, range, inverted) {
    const values = new Float32Array((rgba.length / 4) * channels);
    for (let i = 0; i < rgba.length / 4; ++i) {
        const three = [0, 1, 2].map((channel) => (inverted ? 255 - rgba[4 * i + channel] : rgba[4 * i + channel]));
        const own = channels === 1 ? [(three[0] + three[1] + three[2]) / 3] : three;
        own.forEach((value, channel) => { values[i * channels + channel] = RANGES[range](value, channel); });
    }
    return values;
}

export function pictureInput([height, width, channels], changed, add) {
    const scale = Math.max(1, Math.floor(SIDE / Math.max(height, width)));
    const canvas = html("canvas", {
        width: width * scale, height: height * scale, tabindex: "0", role: "img", class: "drawing",
        "aria-label": "Drawing: draw with a pointer, or move with the arrow keys and draw with the space bar",
    });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const small = html("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
    let empty = true, camera = null, at = { x: width / 2, y: height / 2 };
    const choice = (label, options) => {
        const select = html("select", { onchange: () => changed() }, options.map((text) => html("option", {}, text)));
        return { select, element: html("label", { class: "field" }, label, select) };
    };
    const range = choice("Numbers", Object.keys(RANGES).filter((name) => channels === 3 || !name.startsWith("ImageNet")));
    const inverted = html("input", { type: "checkbox", onchange: () => changed() });

    function blank() {
        pen.fillStyle = "#000";
        pen.fillRect(0, 0, canvas.width, canvas.height);
        empty = true;
    }
    function clear() {
        blank();
        changed();
    }
    function draw(from, to) {
        pen.strokeStyle = "#fff";
        pen.lineCap = pen.lineJoin = "round";
        pen.lineWidth = 1.2 * scale * Math.max(1, Math.min(width, height) / 16);
        pen.beginPath();
        pen.moveTo(from.x * scale, from.y * scale);
        pen.lineTo(to.x * scale + 0.01, to.y * scale);
        pen.stroke();
        empty = false;
        changed();
    }
    function place(event) { // of a pointer, in pixels of the model
        const box = canvas.getBoundingClientRect();
        return { x: ((event.clientX - box.left) / box.width) * width, y: ((event.clientY - box.top) / box.height) * height };
    }
    canvas.addEventListener("pointerdown", (event) => {
        stop();
        canvas.setPointerCapture(event.pointerId);
        at = place(event);
        draw(at, at);
    });
    canvas.addEventListener("pointermove", (event) => {
        if (!canvas.hasPointerCapture(event.pointerId)) return;
        const to = place(event);
        draw(at, to);
        at = to;
    });
    canvas.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!step && event.key !== " ") return;
        event.preventDefault();
        const to = step ? { x: Math.min(width - 0.5, Math.max(0.5, at.x + step[0])), y: Math.min(height - 0.5, Math.max(0.5, at.y + step[1])) } : at;
        if (event.key === " " || event.shiftKey) draw(at, to);
        at = to;
        where.textContent = `Pen at column ${Math.ceil(at.x)}, row ${Math.ceil(at.y)} of ${width} × ${height}`;
    });

    /** The middle of a picture, as large as it goes; what is transparent in it is black. */
    function show(source, wide, high) {
        blank();
        const factor = Math.max(canvas.width / wide, canvas.height / high);
        pen.drawImage(source, (canvas.width - wide * factor) / 2, (canvas.height - high * factor) / 2, wide * factor, high * factor);
        empty = false;
    }
    function read() {
        if (empty) return null;
        small.imageSmoothingQuality = "high";
        small.drawImage(canvas, 0, 0, width, height);
        return pixels(small.getImageData(0, 0, width, height).data, channels, range.select.value, inverted.checked);
    }
    async function look() {
        if (camera) return stop();
        if (!navigator.mediaDevices?.getUserMedia) throw new Error("This browser gives pages no camera. Use image files, or draw.");
        let stream;
        try {
            stream = await navigator.mediaDevices.getUserMedia({ video: true });
        } catch (error) {
            const why = { NotAllowedError: "was not permitted: allow it beside the address", NotFoundError: "was not found" }[error.name] ?? `does not start: ${error.message}`;
            throw new Error(`The camera ${why}. Or use image files.`, { cause: error });
        }
        const video = html("video", { muted: true, playsinline: true });
        video.srcObject = stream;
        await video.play();
        camera = { stream, timer: setInterval(() => { show(video, video.videoWidth, video.videoHeight); changed(); }, FRAME_MS) };
        button.textContent = "Stop the camera";
    }
    function stop() {
        if (!camera) return;
        clearInterval(camera.timer);
        camera.stream.getTracks().forEach((track) => track.stop());
        camera = null;
        button.textContent = "Camera";
    }
    const button = html("button", { type: "button", onclick: () => add(async () => { await look(); return []; }) }, "Camera");
    const where = html("p", { class: "soft", "aria-live": "polite" }, `${width} × ${height}, ${channels === 1 ? "grey" : "colours"}`);
    const files = html("input", {
        type: "file", accept: "image/*", multiple: true,
        onchange: () => add(async () => {
            const found = [];
            for (const file of files.files) {
                const bitmap = await createImageBitmap(file).catch((error) => { throw new Error(`${file.name} is no image that the browser reads.`, { cause: error }); });
                show(bitmap, bitmap.width, bitmap.height);
                found.push(read());
            }
            files.value = "";
            changed();
            return found;
        }),
    });
    blank();
    return {
        element: html("div", {}, canvas, where,
            html("div", { class: "row" }, html("button", { type: "button", onclick: () => { stop(); clear(); } }, "Clear"), button),
            html("label", { class: "field" }, "Add image files", files),
            html("div", { class: "row" }, range.element, html("label", {}, inverted, " dark is high")),
        ),
        read,
        clear,
    };
}
