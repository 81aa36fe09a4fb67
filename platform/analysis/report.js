// Draws the page's figures in the colours of the ground that the reader's system asks for; light when printed, and of
// a size that paper has room for: the layout of the paper is not known yet when the figures must be drawn for it.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const PRINTED = { "side-by-side": 565, "one-by-one": 1140 }; // pixels, which report.css makes smaller
  const draw = (onDark, onPaper = false) => {
    const colours = JSON.parse(document.getElementById(onDark ? "colours-dark" : "colours-light").textContent);
    const coloured = (value) => {
      if (Array.isArray(value)) return value.map(coloured);
      if (value && typeof value === "object")
        return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
      return typeof value === "string" && value.startsWith("--") ? colours[value.slice(2)] : value;
    };
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = coloured(JSON.parse(document.getElementById(place.dataset.figure).textContent));
      figure.layout.font.family = getComputedStyle(document.body).fontFamily;
      if (onPaper) figure.layout.width = PRINTED[place.closest(".side-by-side, .one-by-one").className];
      Plotly.react(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    }
  };
  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  window.addEventListener("beforeprint", () => draw(false, true));
  window.addEventListener("afterprint", () => draw(dark.matches));
})();
