// SPDX-License-Identifier: Apache-2.0
// Training as it is shown: steps, loss as a line, accuracy and the confusion matrix of each epoch; and the buttons that start and stop it.

import { html, svg } from "./dom.js";
import { count, milliseconds } from "./format.js";
import { train } from "./training.js";

const POINTS = 200; // of the line

function mean(list) {
    return list.reduce((a, b) => a + b, 0) / list.length;
}

function percent(part) {
    return `${(100 * part).toFixed(1)} %`;
}

function confusionTable(names, { confusion, accuracy, loss }, kept) {
    const shown = names.map((_, i) => i).filter((i) => confusion[i].some(Boolean) || confusion.some((row) => row[i]));
    const most = Math.max(1, ...shown.map((i) => Math.max(...confusion[i])));
    const cell = (value, right) => {
        const element = html("td", { class: right ? "right" : "wrong" }, value || "·");
        element.style.setProperty("--part", value / most);
        return element;
    };
    return [
        html("p", { class: "soft" }, `Rows: what it is. Columns: what the model says. ${percent(accuracy)} right, loss ${loss.toPrecision(4)}, on ${
            kept ? `${count(kept)} samples kept back` : "the samples that it trains with"}.`),
        html("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Confusion matrix" }, html("table", { class: "confusion" },
            html("thead", {}, html("tr", {}, html("td"), shown.map((i) => html("th", { scope: "col" }, names[i])))),
            html("tbody", {}, shown.map((i) => html("tr", {}, html("th", { scope: "row" }, names[i]), shown.map((j) => cell(confusion[i][j], i === j))))))),
    ];
}

/**
 * A form that trains `session()` with the learner's samples; `epoch()` is called after each. Errors go to `fail`.
 */
export function trainingForm(learner, { session, epochs = 10, fail, epoch = () => {}, label = "Train", where }) {
    const { optimiser } = learner.build.manifest;
    const rate = html("input", { type: "number", step: "any", min: "0", value: optimiser.learning_rate });
    const rounds = html("input", { type: "number", min: "1", max: "1000", step: "1", value: epochs });
    const start = html("button", { type: "button", class: "main", onclick: () => run() }, label);
    const stop = html("button", { type: "button", disabled: true, onclick: () => { stopping = true; } }, "Stop");
    const said = html("p", { role: "status" });
    const line = html("div", {}), results = html("div", {}), list = html("ol", { class: "epochs" });
    let stopping = false, running = false, losses = [], trained = 0, done = 0;

    function show() {
        const lacking = new Set(learner.samples.map(({ label: of }) => of)).size < 2;
        start.disabled = running || lacking;
        stop.disabled = !running;
        if (lacking && !running) said.textContent = "Give samples of at least two classes, best ten or more of each.";
        else if (!running && !done) said.textContent = `${count(learner.samples.length)} samples; one in five of a class is kept back to measure accuracy.`;
    }
    function drawLoss() {
        const size = Math.ceil(losses.length / POINTS);
        const points = Array.from({ length: Math.ceil(losses.length / size) }, (_, i) => mean(losses.slice(i * size, (i + 1) * size).filter(Number.isFinite))).filter(Number.isFinite);
        if (!points.length) return;                       // every step was left out
        const most = Math.max(...points, 1e-9);
        const text = points.map((loss, i) => `${((100 * i) / Math.max(1, points.length - 1)).toFixed(2)},${(39 - (38 * loss) / most).toFixed(2)}`).join(" ");
        line.replaceChildren(svg("svg", { viewBox: "0 0 100 40", class: "series", preserveAspectRatio: "none", role: "img", "aria-label": `Loss over ${losses.length} steps, from ${points[0].toPrecision(3)} to ${points.at(-1).toPrecision(3)}` },
            svg("polyline", { points: text, class: "line0" })));
    }
    function told({ epoch: number, steps, losses: more, ms, evaluated, kept }) {
        losses.push(...more);
        if (more.length) {
            trained = steps;
            said.textContent = `Epoch ${number + 1}, ${count(steps)} steps ${where}: loss ${mean(losses.slice(-32)).toPrecision(3)}, ${milliseconds(ms)} a step`;
        }
        if (evaluated) {
            learner.epochs = number + 1;
            done += 1;
            list.append(html("li", { value: number + 1 }, `${percent(evaluated.accuracy)}, loss ${evaluated.loss.toPrecision(3)}`));
            results.replaceChildren(...confusionTable(learner.names, evaluated, kept));
            drawLoss();
            epoch();
        }
    }
    async function run() {
        running = true;
        stopping = false;
        losses = [];
        trained = 0;
        said.textContent = "Starting …";
        list.replaceChildren();
        show();
        let how = "Done";
        try {
            if (!(rate.valueAsNumber >= 0)) throw new Error("The learning rate should be a number from 0 on.");
            if (!rounds.value || !rounds.checkValidity()) throw new Error("Epochs should be a whole number from 1 to 1000.");
            const to = await session();
            await to.alone(async () => {
                await to.setLearningRate(rate.valueAsNumber);
                await train(to, learner.samples, { epochs: rounds.valueAsNumber, classes: learner.classes, first: learner.epochs, told, stopped: () => stopping });
            });
        } catch (error) {
            fail(error);
            how = "Ended";
        }
        said.textContent = `${stopping ? "Stopped" : how}: ${count(trained)} steps ${where}. ${list.lastChild ? `Accuracy ${list.lastChild.textContent}` : ""}`;
        running = false;
        show();
    }
    learner.addEventListener("samples", show);
    show();
    return {
        element: html("div", {},
            html("div", { class: "row" }, html("label", { class: "field" }, "Learning rate", rate), html("label", { class: "field" }, "Epochs", rounds), start, stop),
            said, line, html("details", {}, html("summary", {}, "Accuracy of each epoch"), list), results),
        forget: () => { done = 0; list.replaceChildren(); results.replaceChildren(); line.replaceChildren(); show(); },
    };
}
