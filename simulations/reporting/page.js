// Unpacks plotly.js from the page itself, then draws every figure that stands beside it as JSON.
(async () => {
  const charts = [...document.querySelectorAll("script[data-chart]")];
  const place = (chart) => document.getElementById(chart.dataset.chart);
  try {
    const letters = atob(document.getElementById("plotly").textContent);
    const packed = new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))]);
    const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    const config = { responsive: true, displayModeBar: false };
    for (const chart of charts) {
      const { data, layout } = JSON.parse(chart.textContent);
      await Plotly.newPlot(place(chart), data, layout, config);
    }
    document.documentElement.dataset.drawn = charts.length;
  } catch (error) {
    for (const chart of charts) {
      if (!place(chart).hasChildNodes()) {
        place(chart).className = "broken";
        place(chart).textContent = `This figure could not be drawn (${error}); the same figures are in figures/*.png.`;
      }
    }
    throw error;
  }
})();
