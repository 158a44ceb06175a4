// What the page does beyond showing: sorting, filters, rows that open, and points that tell their numbers.
// It makes no text of its own but names and numbers that stand in the page, and sets them as text, never as markup.
"use strict";
(() => {
  const REACH = 24; // pixels around a mark
  const MOST_CHOICES = 60; // of a list to filter by; what has more is found by text

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  function startTable() {
    const table = document.getElementById("results");
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const titles = heads.map((head) => head.textContent.trim());
    const rows = [...body.rows]; // in the order of the study
    const status = document.getElementById("status");
    const collator = new Intl.Collator("en", { numeric: true });
    const details = new Map(); // of rows that were opened once
    const sorted = { column: -1, direction: 0 };
    const filters = [];

    const value = (row, column) => row.cells[column].dataset.v ?? "";
    const numeric = heads.map((_, column) => {
      const values = rows.map((row) => value(row, column)).filter((text) => text !== "");
      return values.length > 0 && values.every((text) => !Number.isNaN(Number(text)));
    });

    function say() {
      const shown = rows.filter((row) => !row.hidden).length;
      const count = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
      const order = sorted.direction
        ? `, sorted by ${titles[sorted.column]}, ${sorted.direction > 0 ? "ascending" : "descending"}` : "";
      status.textContent = `${count}${order}.`;
    }

    function place(ordered) {
      const next = [];
      for (const row of ordered) {
        next.push(row);
        if (details.has(row)) next.push(details.get(row));
      }
      body.append(...next);
    }

    function compare(one, two, column) {
      const [a, b] = [value(one, column), value(two, column)];
      if (a === "" || b === "") return (a === "") - (b === ""); // what is not known stands last, in either direction
      return sorted.direction * (numeric[column] ? a - b : collator.compare(a, b));
    }

    // The first click shows the largest numbers first, or texts from A to Z; the second turns round, the third ends it.
    function sortBy(column) {
      const first = numeric[column] ? -1 : 1;
      if (sorted.column !== column) Object.assign(sorted, { column, direction: first });
      else sorted.direction = sorted.direction === first ? -first : sorted.direction === 0 ? first : 0;
      heads.forEach((head, place) => {
        if (head.hasAttribute("aria-sort")) {
          const direction = place === column ? sorted.direction : 0;
          head.setAttribute("aria-sort", ["descending", "none", "ascending"][direction + 1]);
        }
      });
      place(sorted.direction ? [...rows].sort((a, b) => compare(a, b, column)) : rows);
      say();
    }

    function filter() {
      for (const row of rows) {
        row.hidden = !filters.every((passes) => passes(row));
        if (details.has(row)) details.get(row).hidden = row.hidden || !isOpen(row);
      }
      say();
    }

    function showAll() {
      document.getElementById("filters").reset();
      filter();
    }

    function startSorting() {
      heads.forEach((head, column) => {
        if ("fixed" in head.dataset) return;
        const button = element("button", { type: "button" }, titles[column]);
        button.addEventListener("click", () => sortBy(column));
        head.replaceChildren(button);
        head.setAttribute("aria-sort", "none");
      });
    }

    function startFilters() {
      const form = document.getElementById("filters");
      const fields = heads.map((_, column) => column).filter((column) => "field" in heads[column].dataset);
      const input = element("input", { type: "search", autocomplete: "off", spellcheck: false });
      const textOf = (row) => fields.map((column) => row.cells[column].textContent).join(" ").toLowerCase();
      const texts = new Map(rows.map((row) => [row, textOf(row)]));
      input.addEventListener("input", filter);
      filters.push((row) => input.value.toLowerCase().split(/\s+/).every((word) => texts.get(row).includes(word)));
      form.append(element("label", {}, "name contains", input));
      for (const column of fields) {
        const choices = [...new Set(rows.map((row) => value(row, column)))].sort(collator.compare);
        if (choices.length < 2 || choices.length > MOST_CHOICES) continue;
        const options = choices.map((choice) => element("option", { value: `=${choice}` }, choice || "-"));
        const select = element("select", {}, element("option", { value: "" }, "all"), ...options);
        select.addEventListener("change", filter);
        filters.push((row) => !select.value || select.value === `=${value(row, column)}`);
        form.append(element("label", {}, titles[column], select));
      }
      const all = element("button", { type: "button" }, "Show all");
      all.addEventListener("click", showAll);
      form.addEventListener("submit", (event) => event.preventDefault());
      form.append(all);
      form.hidden = false;
    }

    const buttonOf = (row) => row.cells[0].querySelector("button");
    const isOpen = (row) => buttonOf(row).getAttribute("aria-expanded") === "true";

    function toggle(row, open = !isOpen(row)) {
      const button = buttonOf(row);
      if (open && !details.has(row)) {
        const cell = element("td", { colSpan: heads.length }, document.getElementById(row.dataset.row));
        const detail = element("tr", { id: `${row.dataset.row}-runs`, className: `detail ${row.classList[0]}` }, cell);
        details.set(row, detail);
        row.after(detail);
        button.setAttribute("aria-controls", detail.id);
      }
      button.setAttribute("aria-expanded", String(open));
      if (details.has(row)) details.get(row).hidden = !open;
    }

    function startOpening() {
      for (const row of rows) {
        const link = row.cells[0].querySelector("a");
        const button = element("button", { type: "button", className: "open", title: "Show its runs" });
        button.append(element("span", {}, ...link.childNodes));
        button.setAttribute("aria-expanded", "false");
        link.replaceWith(button);
      }
      body.addEventListener("click", (event) => {
        const button = event.target.closest("button.open");
        if (button) toggle(button.closest("tr"));
      });
      for (const kind of ["mouseover", "mouseout"]) body.addEventListener(kind, light);
    }

    // Pointing at a run draws its curve alone.
    function light(event) {
      const line = event.target.closest(".seeds tr[data-run]");
      const chart = line?.closest(".inside").querySelector(".chart:has([data-run])");
      if (!chart) return;
      const on = event.type === "mouseover";
      chart.classList.toggle("one", on);
      for (const curve of chart.querySelectorAll("[data-run]")) {
        curve.classList.toggle("on", on && curve.dataset.run === line.dataset.run);
      }
    }

    // Shows the runs of a row, whatever the filters, and moves the focus there.
    function reveal(anchor) {
      const row = rows.find((each) => each.dataset.row === anchor);
      if (!row) return false;
      if (row.hidden) showAll();
      rows.forEach((each) => each.classList.toggle("chosen", each === row));
      toggle(row, true);
      row.scrollIntoView({ block: "center" });
      buttonOf(row).focus({ preventScroll: true });
      return true;
    }

    startSorting();
    startOpening();
    startFilters();
    say();
    return reveal;
  }

  function startPoints(reveal) {
    const tip = document.getElementById("tip");
    const breakable = (spec) => spec.split(/(?<=[+:,])/).flatMap((piece) => [piece, element("wbr")]);

    function show(link) {
      const box = link.getBoundingClientRect();
      const lines = link.getAttribute("aria-label").split("\n");
      tip.replaceChildren(...lines.map((line) => element("div", {}, ...breakable(line))));
      tip.hidden = false;
      const { offsetWidth: width, offsetHeight: height } = tip;
      const left = Math.max(8, Math.min(box.right + 4, document.documentElement.clientWidth - width - 8));
      const above = box.bottom + height + 8 > innerHeight;
      tip.style.left = `${left + scrollX}px`;
      tip.style.top = `${scrollY + (above ? box.top - height - 2 : box.bottom + 2)}px`;
    }
    const hide = () => { tip.hidden = true; };

    // One stop of the Tab key for each picture; the arrow keys go from point to point.
    function step(event, links) {
      const here = links.indexOf(event.target.closest("a"));
      const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1,
        Home: 0, End: links.length - 1 }[event.key];
      if (to === undefined || here < 0) return;
      event.preventDefault();
      const next = links[Math.max(0, Math.min(to, links.length - 1))];
      links[here].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }

    function start(group) {
      const links = [...group.querySelectorAll("a")];
      links.forEach((link, place) => {
        const title = link.querySelector("title"); // else the browser shows it as well
        link.setAttribute("aria-label", title.textContent);
        link.setAttribute("tabindex", place ? "-1" : "0");
        title.remove();
      });
      const circles = links.map((link) => link.querySelector("circle"));
      const places = circles.map((circle) => [circle.cx.baseVal.value, circle.cy.baseVal.value]);

      // Marks may lie close together, and a finger is wide: what counts is the nearest within reach.
      function nearest(event) {
        const box = group.getBoundingClientRect();
        const scale = box.width / group.viewBox.baseVal.width;
        const [left, top] = [event.clientX - box.left, event.clientY - box.top];
        const far = places.map(([x, y]) => Math.hypot(left - x * scale, top - y * scale));
        const least = far.indexOf(Math.min(...far));
        return far[least] <= REACH ? links[least] : null;
      }
      function point(event) {
        const link = nearest(event);
        links.forEach((each) => each.classList.toggle("near", each === link));
        group.classList.toggle("near", link !== null);
        if (link) show(link);
        else hide();
      }
      group.addEventListener("pointermove", point);
      group.addEventListener("pointerleave", (event) => {
        links.forEach((each) => each.classList.remove("near"));
        if (event.relatedTarget !== tip) hide();
      });
      group.addEventListener("focusin", (event) => event.target.matches("a:focus-visible") && show(event.target));
      group.addEventListener("focusout", hide);
      group.addEventListener("keydown", (event) => step(event, links));
      group.addEventListener("click", (event) => {
        const link = event.detail ? nearest(event) : event.target.closest("a"); // 0 is the Enter key
        if (!link || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        hide();
        const target = link.getAttribute("href");
        if (location.hash !== target) history.pushState(null, "", target); // so that Back returns to the picture
        reveal(target.slice(1));
      });
    }

    document.querySelectorAll(".points").forEach(start);
    tip.addEventListener("mouseleave", hide);
    addEventListener("keydown", (event) => event.key === "Escape" && hide());
  }

  addEventListener("DOMContentLoaded", () => {
    const reveal = startTable();
    startPoints(reveal);
    const follow = () => reveal(location.hash.slice(1));
    addEventListener("hashchange", follow);
    follow();
  });
})();
