// SPDX-License-Identifier: Apache-2.0
// A table that is sorted by its headings. It scrolls sideways where the window is narrow.

import { html } from "./dom.js";

/**
 * `columns`: {title, text(row), sort(row)?, number?, help?}; the first is the row's heading. A column without `sort` cannot be sorted by.
 * `more(row)`: an element that unfolds below a row, or null. `total`: texts of a last row.
 */
export function sortable(label, columns, rows, { more = null, total = null } = {}) {
    const body = html("tbody");
    let sorted = null;
    let descending = false;

    function draw() {
        const ordered = [...rows];
        if (sorted) {
            const value = (row) => sorted.sort(row) ?? -Infinity;
            ordered.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (descending ? -1 : 1));
        }
        body.replaceChildren(...ordered.flatMap((row) => lines(row)));
    }

    function lines(row) {
        const inner = more?.(row);
        const below = inner && html("tr", { hidden: true }, html("td", { colspan: columns.length, class: "more" }, inner));
        const cells = columns.map((column, index) => {
            const text = column.text(row);
            if (index > 0) return html("td", { class: column.number ? "number" : null }, text);
            return html("th", { scope: "row" }, below ? unfold(text, below) : text);
        });
        return below ? [html("tr", {}, cells), below] : [html("tr", {}, cells)];
    }

    const headings = columns.map((column) => {
        const heading = html("th", { scope: "col", class: column.number ? "number" : null, title: column.help ?? null });
        if (!column.sort) {
            heading.append(column.title);
            return heading;
        }
        heading.append(html("button", {
            type: "button", class: "plain", onclick: () => {
                descending = sorted === column ? !descending : Boolean(column.number);
                sorted = column;
                headings.forEach((other) => other.removeAttribute("aria-sort"));
                heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
                draw();
            },
        }, column.title));
        return heading;
    });
    draw();
    const foot = total && html("tfoot", {}, html("tr", {}, total.map((text, index) => (
        index ? html("td", { class: columns[index].number ? "number" : null }, text) : html("th", { scope: "row" }, text)
    ))));
    return html("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
        html("table", {}, html("thead", {}, html("tr", {}, headings)), body, foot));
}

function unfold(text, below) {
    const button = html("button", {
        type: "button", class: "plain unfold", "aria-expanded": "false", onclick: () => {
            below.hidden = !below.hidden;
            button.setAttribute("aria-expanded", String(!below.hidden));
        },
    }, text);
    return button;
}
