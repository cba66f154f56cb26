// SPDX-License-Identifier: Apache-2.0
// Elements of the page. Texts from a model are only ever set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; attributes that start with "on" are listeners, false and null ones are left out. */
export function html(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, likewise. */
export function svg(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (value === true) element.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
}

/** Choose one of several by arrow keys, as tabs and pictures do: the index that a key leads to, or null. */
export function stepped(key, index, count) {
    const to = { ArrowRight: index + 1, ArrowDown: index + 1, ArrowLeft: index - 1, ArrowUp: index - 1, Home: 0, End: count - 1 }[key];
    return to === undefined ? null : (to + count) % count;
}
