// Draws the page's figures in the colours of the ground that the reader's system asks for; light when printed.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const draw = (onDark) => {
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
      Plotly.react(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    }
  };
  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  window.addEventListener("beforeprint", () => draw(false));
  window.addEventListener("afterprint", () => draw(dark.matches));
})();
