// Maps of attention that one can point at: heads side by side, one of them enlarged, and the tokens of a row.
// Text is set as text, never as markup.
"use strict";
(() => {
  const LARGE = 620; // pixels of the enlarged map, at most
  const LISTED = 5; // keys that are named below the tokens

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  // One head on one row: weights in units of `scale`, row by row; what the pattern hides has the smallest number.
  function decode(map, row) {
    const content = bytes(map.weights[row]);
    const view = new DataView(content.buffer);
    const whole = Int16Array.from({ length: content.length / 2 }, (_, place) => view.getInt16(2 * place, true));
    const [queries, keys, scale] = [map.queries, map.keys, map.scales[row]];
    return {
      queries, keys,
      hidden: (query, key) => whole[query * keys + key] === -32768,
      weight: (query, key) => {
        const number = whole[query * keys + key];
        return number === -32768 ? 0 : number * scale;
      },
      largest: 32767 * scale,
    };
  }

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const probe = document.body.appendChild(element("span", { className: "probe" }));
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    };
    const found = Object.fromEntries(["paper", "positive", "negative", "outside", "ink"].map((name) => [name, read(name)]));
    probe.remove();
    return { ...found, style };
  };

  function start() {
    const data = JSON.parse(document.getElementById("data").textContent);
    const state = { row: 0, map: 0, query: null, key: null };
    const choices = document.getElementById("choices");
    const heads = document.getElementById("heads");
    const large = document.getElementById("enlarged");
    document.querySelector("#maps .static").hidden = true;
    if (data.maps.length === 0) return;

    const select = element("select", { id: "row" }, ...data.rows.map((_, row) =>
      element("option", { value: String(row), textContent: `row ${row + 1}` })));
    choices.append(element("label", {}, "row of the task", select));
    choices.hidden = heads.hidden = large.hidden = false;

    const small = data.maps.map((map, place) => {
      const canvas = element("canvas", { width: map.keys, height: map.queries });
      const button = element("button", { type: "button" }, canvas, element("span", { textContent: map.name }));
      button.addEventListener("click", () => { state.map = place; state.query = state.key = null; show(); });
      heads.append(button);
      return { canvas, button };
    });
    const canvas = element("canvas", { tabIndex: 0, id: "map" });
    canvas.setAttribute("role", "img");
    const told = element("p", { id: "told" });
    told.setAttribute("role", "status");
    const queries = element("div", { className: "tokens", id: "queries" });
    const keys = element("div", { className: "tokens", id: "keys" });
    large.append(
      element("div", { className: "drawn" }, canvas),
      element("div", { className: "read" }, told,
        element("h3", { textContent: "Tokens that look" }), queries, element("h3", { textContent: "Tokens looked at" }), keys));

    let head = null;
    const labels = (side) => data.rows[state.row][data.maps[state.map][side]];

    function paint(target, map, found) {
      const context = target.getContext("2d");
      const image = context.createImageData(found.keys, found.queries);
      const { paper, positive, negative, outside } = found.colours;
      for (let query = 0; query < found.queries; query++) {
        for (let key = 0; key < found.keys; key++) {
          const weight = found.weight(query, key) / (found.largest || 1);
          const end = weight < 0 ? negative : positive;
          const share = Math.min(Math.abs(weight), 1);
          const colour = found.hidden(query, key) ? outside : paper.map((part, place) => part + (end[place] - part) * share);
          image.data.set([...colour, 255], 4 * (query * found.keys + key));
        }
      }
      context.putImageData(image, 0, 0);
    }

    function drawLarge() {
      const scale = Math.max(1, Math.floor(LARGE / Math.max(head.queries, head.keys)));
      const flat = element("canvas", { width: head.keys, height: head.queries });
      paint(flat, data.maps[state.map], head);
      canvas.width = head.keys * scale;
      canvas.height = head.queries * scale;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(flat, 0, 0, canvas.width, canvas.height);
      context.strokeStyle = `rgb(${head.colours.ink})`;
      for (const [query, key] of data.maps[state.map].evidence[state.row]) {
        context.strokeRect(key * scale - 1.5, query * scale - 1.5, scale + 3, scale + 3);
      }
      if (state.query !== null) context.strokeRect(-1, state.query * scale - 0.5, canvas.width + 2, scale + 1);
      if (state.key !== null) context.strokeRect(state.key * scale - 0.5, -1, scale + 1, canvas.height + 2);
      canvas.setAttribute("aria-label", `Map of ${data.maps[state.map].name}; arrow keys choose a token that looks`);
    }

    function tell() {
      const [row, map] = [labels("query_labels"), labels("key_labels")];
      if (state.query === null) {
        told.textContent = "Point at a token, or at the map.";
      } else {
        const order = [...Array(head.keys).keys()].filter((key) => !head.hidden(state.query, key));
        order.sort((a, b) => Math.abs(head.weight(state.query, b)) - Math.abs(head.weight(state.query, a)));
        const names = order.slice(0, LISTED).map((key) => `${map[key]} at ${key + 1}: ${head.weight(state.query, key).toFixed(3)}`);
        const own = state.key === null ? "" : ` Here ${map[state.key]} at ${state.key + 1}: ${head.weight(state.query, state.key).toFixed(3)}.`;
        told.textContent = `${row[state.query]} at ${state.query + 1} looks at ${names.join(", ")}.${own}`;
      }
      [...queries.children].forEach((token, place) => token.setAttribute("aria-pressed", String(place === state.query)));
      [...keys.children].forEach((token, place) => {
        const share = state.query === null ? 0 : head.weight(state.query, place) / (head.largest || 1);
        token.style.setProperty("--share", `${Math.min(100, Math.abs(100 * share)).toFixed(1)}%`);
        token.classList.toggle("negative", share < 0);
        token.classList.toggle("outside", state.query !== null && head.hidden(state.query, place));
      });
    }

    function look(query, key) {
      if (state.query === query && state.key === key) return;
      [state.query, state.key] = [query, key];
      drawLarge();
      tell();
    }

    function show() {
      const now = colours();
      small.forEach(({ canvas: target, button }, place) => {
        paint(target, data.maps[place], { ...decode(data.maps[place], state.row), colours: now });
        button.setAttribute("aria-pressed", String(place === state.map));
      });
      head = { ...decode(data.maps[state.map], state.row), colours: now };
      queries.replaceChildren(...labels("query_labels").map((label, place) => {
        const token = element("button", { type: "button", textContent: label, tabIndex: place ? -1 : 0 });
        token.addEventListener("pointerenter", () => look(place, null));
        token.addEventListener("focus", () => look(place, null));
        return token;
      }));
      keys.replaceChildren(...labels("key_labels").map((label) => element("span", { textContent: label })));
      drawLarge();
      tell();
    }

    queries.addEventListener("keydown", (event) => {
      const here = [...queries.children].indexOf(event.target);
      const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1,
        Home: 0, End: head.queries - 1 }[event.key];
      const next = queries.children[to];
      if (!next) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    const cell = (event) => {
      const box = canvas.getBoundingClientRect();
      const at = (place, size, number) => Math.max(0, Math.min(number - 1, Math.floor(place / size * number)));
      return [at(event.clientY - box.top, box.height, head.queries), at(event.clientX - box.left, box.width, head.keys)];
    };
    canvas.addEventListener("pointermove", (event) => look(...cell(event)));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      look(Math.max(0, Math.min(head.queries - 1, (state.query ?? -1) + step)), null);
    });
    select.addEventListener("change", () => { state.row = Number(select.value); state.query = state.key = null; show(); });
    document.getElementById("theme").addEventListener("click", show);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show();
  }

  addEventListener("DOMContentLoaded", start);
})();
