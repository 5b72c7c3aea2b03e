"use strict";
// Draws each figure when it comes near the window, and again in another view when one is chosen.
(() => {
  const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const views = (number) => JSON.parse(document.getElementById(`data-${number}`).textContent);
  const draw = (number, view) => {
    const place = document.getElementById(`figure-${number}`);
    const { data, layout } = views(number)[view];
    place.dataset.drawn = view;
    place.setAttribute("aria-busy", "true");
    return Plotly.react(place, data, layout, options).then(() => place.setAttribute("aria-busy", "false"));
  };
  const numberOf = (place) => place.id.slice("figure-".length);
  const places = document.querySelectorAll(".drawing");
  const chosen = (number) => {
    const select = document.querySelector(`select[data-figure="${number}"]`);
    return select === null ? 0 : Number(select.value);
  };
  for (const select of document.querySelectorAll("select[data-figure]")) {
    select.addEventListener("change", () => draw(select.dataset.figure, Number(select.value)));
  }
  const drawAll = () => {
    for (const place of places) {
      if (!("drawn" in place.dataset)) draw(numberOf(place), chosen(numberOf(place)));
    }
  };
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting && !("drawn" in entry.target.dataset)) {
          near.unobserve(entry.target);
          draw(numberOf(entry.target), chosen(numberOf(entry.target)));
        }
      }
    },
    { rootMargin: "600px" },
  );
  for (const place of places) near.observe(place);
  // Paper has no window to scroll: all is drawn, and shrunk to what A4 and Letter hold between their margins, in CSS
  // pixels, so that two of the usual height share a page.
  const [paperWidth, paperHeight, largest] = [670, 850, 0.65];
  window.addEventListener("beforeprint", () => {
    for (const place of places) {
      const zoom = Math.min(largest, paperWidth / place.offsetWidth, paperHeight / place.offsetHeight);
      place.style.setProperty("--drawn-width", `${place.offsetWidth}px`);
      place.style.setProperty("--print-zoom", zoom);
    }
    drawAll();
  });
})();
