// The theme of a page, light or dark: by the system's preference, or by a button, which is remembered.
"use strict";
(() => {
  const root = document.documentElement;
  const THEME = "attention-variants-theme";

  // A file may be opened where nothing can be stored; the theme then lasts as long as the page.
  const stored = {
    get() { try { return localStorage.getItem(THEME); } catch { return null; } },
    set(value) { try { localStorage.setItem(THEME, value); } catch { /* see above */ } },
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";

  root.classList.add("js");
  if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get(); // before anything is drawn

  function startTheme() {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", String(dark()));
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      stored.set(root.dataset.theme);
      show();
    });
    prefersDark.addEventListener("change", show);
    show();
  }

  addEventListener("DOMContentLoaded", startTheme);
})();
