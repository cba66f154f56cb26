// SPDX-License-Identifier: Apache-2.0
// The Teach panel: classes and samples, training, predictions, and files of what was learned; all of it in this page.

import { html } from "./dom.js";
import { count } from "./format.js";
import { makeInput } from "./inputs.js";
import { learnedNpz, learnedOnnx, samplesNpz, samplesOf, weightsOf } from "./keep.js";
import { learnerOf, whyNot } from "./learner.js";
import { trainingForm } from "./progress.js";
import { largest } from "./training.js";

export const name = "teach";
export const title = "Teach";

const MOST_BARS = 20; // of predictions

export function offered() {
    return true;
}

export function mount(element, project) {
    eachBuild(element, project, (build) => panel(build));
}

/** A panel of one build, and a choice of which where there are several. */
export function eachBuild(element, project, panelOf) {
    const place = html("div", {});
    const made = new Map();
    const show = (build) => {
        if (!made.has(build)) {
            const why = whyNot(build);
            made.set(build, why ? html("p", {}, why) : panelOf(build));
        }
        place.replaceChildren(made.get(build));
    };
    if (project.builds.length > 1) {
        const select = html("select", { onchange: () => show(project.builds[select.selectedIndex]) }, project.builds.map((build) => html("option", {}, build.folder)));
        element.append(html("label", { class: "field" }, "Build", select));
    }
    element.append(place);
    show(project.builds[0]);
}

/** A place for one sentence of what went wrong, and `doing(work)` that puts it there. */
export function alertPlace() {
    const place = html("p", { role: "alert", class: "alert", hidden: true });
    const fail = (error) => {
        place.textContent = error.message;
        place.hidden = false;
    };
    const doing = async (work) => {
        place.hidden = true;
        try {
            return await work();
        } catch (error) {
            fail(error);
            return undefined;
        }
    };
    return { place, fail, doing };
}

export function download(file, bytes) {
    const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    html("a", { href: address, download: file }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** Buttons that keep weights: `weights()` gives them. */
export function keepButtons(build, weights, doing) {
    const button = (label, file, made) => html("button", { type: "button", onclick: () => doing(async () => download(file, made(build, await weights()))) }, label);
    return [button("Weights (learned.npz)", "learned.npz", learnedNpz), button("Model (learned.onnx)", "learned.onnx", learnedOnnx)];
}

function fileButton(label, accept, taken) {
    const input = html("input", { type: "file", accept, onchange: async () => {
        const [file] = input.files;
        if (file) await taken(new Uint8Array(await file.arrayBuffer()), file.name);
        input.value = "";
    } });
    return html("label", { class: "field" }, label, input);
}

function panel(build) {
    const learner = learnerOf(build);
    const { place, fail, doing } = alertPlace();
    let chosen = 0;

    /** Samples that somebody gives become those of the class that is chosen. */
    const add = (work) => doing(async () => learner.add((await work()).map((x) => ({ x, label: chosen }))));
    const input = makeInput(build, () => predict(), add);

    const bars = learner.names.map((name, label) => {
        const bar = html("meter", { min: "0", max: "1", value: "0", "aria-label": name }), text = html("span", {}, name);
        return { bar, text, element: html("li", { hidden: label >= MOST_BARS }, text, bar) };
    });

    const rows = learner.names.map((text, label) => {
        const counted = html("output", { class: "count" }, "0");
        const radio = html("input", { type: "radio", name: `class-${build.folder}`, checked: label === chosen, "aria-label": `Choose class ${text}`, onchange: () => { chosen = label; show(); } });
        const field = html("input", { type: "text", value: text, maxlength: "40", "aria-label": `Name of class ${label + 1}`, oninput: () => learner.rename(label, field.value) });
        const less = html("button", { type: "button", "aria-label": `Remove the last sample of class ${text}`, onclick: () => learner.removeLast(label) }, "−");
        return { counted, less, field, element: html("li", {}, radio, field, counted, less) };
    });
    const addButton = html("button", { type: "button", class: "main", onclick: () => add(async () => {
        const x = input.read();
        if (!x) throw new Error("There is nothing to add yet.");
        input.clear?.();
        return [x];
    }) });
    function show() {
        rows.forEach(({ counted, less }, label) => {
            counted.textContent = count(learner.count(label));
            less.disabled = !learner.count(label);
        });
        addButton.textContent = `Add as “${learner.names[chosen]}”`;
        bars.forEach(({ bar, text }, label) => {
            bar.setAttribute("aria-label", learner.names[label]);
            text.textContent = learner.names[label];
        });
    }
    learner.addEventListener("samples", show);
    learner.addEventListener("names", show);

    const verdict = html("p", { role: "status", class: "verdict" }, "Nothing is given yet.");
    let waiting = false, again = false;
    async function predict() {
        if (waiting) { again = true; return; }
        const x = input.read();
        if (!x) { verdict.textContent = "Nothing is given yet."; return; }
        waiting = true;
        await doing(async () => {
            const values = shares(await (await learner.session()).infer(x), build.manifest.loss);
            const best = largest(values);
            verdict.textContent = `“${learner.names[best]}”, ${Math.round(100 * values[best])} %`;
            const order = Array.from(values, (_, label) => label).sort((a, b) => values[b] - values[a]);
            const shown = new Set(order.slice(0, MOST_BARS));
            bars.forEach(({ bar, element }, label) => {
                bar.value = values[label];
                element.hidden = !shown.has(label);
            });
        });
        waiting = false;
        if (again) { again = false; predict(); }
    }
    learner.addEventListener("weights", predict);

    const training = trainingForm(learner, { session: () => learner.session(), fail, epoch: () => learner.tell("weights"), where: "in this page" });
    const forget = html("button", { type: "button", onclick: () => doing(async () => {
        await (await learner.session()).reset();
        learner.epochs = 0;
        training.forget();
        learner.tell("weights");
    }) }, "Forget what was learned");
    const weights = async () => (await learner.session()).weights();
    const loadSamples = fileButton("Add samples of a file (x, y as .npz)", ".npz", (bytes, file) => doing(async () => {
        const { samples, names } = await samplesOf(build, bytes, file, learner.classes);
        names?.forEach((text, label) => {
            learner.rename(label, text);
            rows[label].field.value = text;
        });
        learner.add(samples);
    }));
    const loadWeights = fileButton("Take weights of a file (learned.npz)", ".npz", (bytes, file) => doing(async () => {
        const session = await learner.session();
        await session.setWeights(await weightsOf(build, bytes, file, new Map([...session.parameters].map(([key, { kind }]) => [key, kind]))));
        learner.tell("weights");
    }));
    const keepSamples = html("button", { type: "button", onclick: () => doing(async () => {
        if (!learner.samples.length) throw new Error("There are no samples to keep yet.");
        download("samples.npz", samplesNpz(build, learner.samples, learner.names));
    }) }, "Samples (samples.npz)");
    show();
    return html("div", {},
        html("p", { class: "soft" }, "The model runs in this page, made from the C that its board runs, and computes the same bits. Nothing leaves this page."),
        place,
        html("div", { class: "columns" },
            html("section", { "aria-label": "Samples" }, html("h2", {}, "Samples"), input.element, addButton, html("ul", { class: "classes" }, rows.map((row) => row.element)), loadSamples),
            html("div", {},
                html("section", { "aria-label": "Prediction" }, html("h2", {}, "What the model says"), verdict,
                    html("ul", { class: "guess" }, bars.map((row) => row.element))),
                html("section", { "aria-label": "Training" }, html("h2", {}, "Training"), training.element, forget))),
        html("section", { "aria-label": "Files" }, html("h2", {}, "Files"), html("div", { class: "row" }, keepButtons(build, weights, doing), keepSamples), loadWeights,
            html("p", { class: "soft" }, "samples.npz is what `tinytrain train --data` reads; learned.npz goes into a device by `tinytrain push`.")));
}

/** Logits as probabilities: of one class among all, or of each by itself. */
function shares(values, loss) {
    if (loss === "bce") return Array.from(values, (value) => 1 / (1 + Math.exp(-value)));
    const most = Math.max(...values), powers = Array.from(values, (value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
}
