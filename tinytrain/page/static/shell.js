// SPDX-License-Identifier: Apache-2.0
// The page: a tab for each panel. A panel is a module with `name`, `title`, `offered(project)` and `mount(element, project)`, which fills
// its element when it is first shown; `project` is the JSON that the page was written with (docs/page.md).

import { html, stepped } from "./dom.js";
import { plural } from "./format.js";
import * as device from "./device.js";
import * as memory from "./memory.js";
import * as teach from "./teach.js";

const PANELS = [memory, teach, device];
const FORMAT = 1;

function alert(text) {
    const element = document.getElementById("alert");
    element.textContent = text;
    element.hidden = false;
}

function heading(project) {
    const [first] = project.builds;
    document.getElementById("title").textContent = [...new Set(project.builds.map((build) => build.manifest.name))].join(", ");
    const what = project.builds.length > 1 ? plural(project.builds.length, "build") : `for ${first.board.title}`;
    document.getElementById("subtitle").textContent = `${what}, compiled by tinytrain ${first.manifest.tinytrain}`;
}

function tabs(project) {
    const offered = PANELS.filter((panel) => panel.offered(project));
    const mounted = new Set();
    const buttons = offered.map((panel, index) => html("button", {
        role: "tab", type: "button", id: `tab-${panel.name}`, "aria-controls": panel.name,
        onclick: () => show(index),
        onkeydown: (event) => {
            const to = stepped(event.key, index, offered.length);
            if (to === null) return;
            event.preventDefault();
            show(to);
            buttons[to].focus();
        },
    }, panel.title));
    const sections = offered.map((panel) => html("section", {
        role: "tabpanel", id: panel.name, "aria-labelledby": `tab-${panel.name}`, tabindex: "0", hidden: true,
    }));
    async function show(index) {
        buttons.forEach((button, i) => {
            button.setAttribute("aria-selected", String(i === index));
            button.tabIndex = i === index ? 0 : -1;
            sections[i].hidden = i !== index;
        });
        const panel = offered[index];
        history.replaceState(null, "", `#${panel.name}`);
        if (mounted.has(panel)) return;
        mounted.add(panel);
        try {
            await panel.mount(sections[index], project);
        } catch (error) {
            alert(`${panel.title}: ${error.message}`);
            throw error;
        }
    }
    document.getElementById("tabs").append(...buttons);
    document.getElementById("panels").append(...sections);
    show(Math.max(0, offered.findIndex((panel) => `#${panel.name}` === location.hash)));
}

const project = JSON.parse(document.getElementById("project").textContent);
if (project.format === FORMAT) {
    heading(project);
    tabs(project);
} else {
    alert(`This page shows projects of format ${FORMAT}, and it was given one of format ${project.format}. Write it again: tinytrain page.`);
}
document.documentElement.dataset.ready = String(Math.round(performance.now()));       // milliseconds since it was asked for
