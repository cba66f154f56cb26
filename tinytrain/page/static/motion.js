// SPDX-License-Identifier: Apache-2.0
// Series: recorded from the motion sensor of a phone, or from files.

import { html, svg } from "./dom.js";

const SILENT_MS = 1500; // without a reading: there is no sensor

/** The channels of a reading: acceleration in m/s² with gravity (x, y, z), then rotation in °/s (alpha, beta, gamma). */
function channelsOf(event) {
    const { accelerationIncludingGravity: a, rotationRate: r } = event;
    return [a?.x, a?.y, a?.z, r?.alpha, r?.beta, r?.gamma].map((value) => value ?? 0);
}

/** Lines of the channels over time. */
export function drawn(series, steps, channels) {
    const least = Math.min(...series), span = Math.max(...series) - least || 1;
    const line = (channel) => Array.from({ length: steps }, (_, step) =>
        `${((100 * step) / Math.max(1, steps - 1)).toFixed(2)},${(38 - (36 * (series[step * channels + channel] - least)) / span).toFixed(2)}`).join(" ");
    return svg("svg", { viewBox: "0 0 100 40", class: "series", preserveAspectRatio: "none", role: "img", "aria-label": `Last recording, ${steps} steps of ${channels} channels` },
        Array.from({ length: channels }, (_, channel) => svg("polyline", { points: line(channel), class: `line${channel % 6}` })));
}

export function motionInput(steps, channels, changed, add, files) {
    let last = null;
    const place = html("div", { class: "drawing" }, html("p", { class: "soft" }, "Nothing is recorded yet."));
    const said = html("p", { role: "status" });
    async function record() {
        if (channels > 6) throw new Error(`The sensor has 6 channels, and the model takes ${channels}. Use csv files.`);
        if (typeof DeviceMotionEvent === "undefined") throw new Error("This browser gives pages no motion sensor. Use csv files, or a phone.");
        if (DeviceMotionEvent.requestPermission && (await DeviceMotionEvent.requestPermission()) !== "granted") {
            throw new Error("The motion sensor was not permitted. Use csv files, or allow it in the settings of the browser.");
        }
        const readings = [];
        let end;
        said.textContent = "Recording …";
        try {
            await new Promise((resolve, reject) => {
                const silent = () => reject(new Error("The motion sensor says nothing: this device may have none. Use csv files."));
                let timer = setTimeout(silent, SILENT_MS);
                const listen = (event) => {
                    readings.push(channelsOf(event).slice(0, channels));
                    clearTimeout(timer);
                    if (readings.length >= steps) resolve();
                    else timer = setTimeout(silent, SILENT_MS);
                };
                addEventListener("devicemotion", listen);
                end = () => { removeEventListener("devicemotion", listen); clearTimeout(timer); };
            });
        } finally {
            end();
            said.textContent = "";
        }
        last = Float32Array.from(readings.slice(0, steps).flat());
        place.replaceChildren(drawn(last, steps, channels));
        changed();
    }
    return {
        element: html("div", {}, place, said,
            html("button", { type: "button", onclick: () => add(async () => { await record(); return []; }) }, `Record ${steps} readings of the motion sensor`), files),
        read: () => last,
    };
}
