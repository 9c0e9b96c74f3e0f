// The numbers of one fleet over time: uPlot where it was fetched, else a table of the latest values.
import { draw, h } from "./dom.js";
import { amount, clock, percent, seconds } from "./words.js";

const CHARTS = [
  { title: "Time to first token", usual: 1, show: seconds, lines: [["p50", "ttft_p50"], ["p95", "ttft_p95"]] },
  { title: "Time per output token", usual: 0.1, show: seconds, lines: [["p50", "tpot_p50"], ["p95", "tpot_p95"]] },
  { title: "Requests", usual: 10, show: amount, lines: [["queued", "queued"], ["in flight", "in_flight"]] },
  { title: "Requests per second", usual: 10, show: amount,
    lines: [["answered", "finished"], ["failed", "failed"], ["turned away", "rejected"], ["resumed", "resumed"]] },
  { title: "Output tokens per second", usual: 100, show: amount, lines: [["tokens", "tokens"]] },
  { title: "KV cache in use", show: percent, top: 1, lines: [["mean of the replicas", "kv"]] },
  { title: "Replicas", usual: 1, show: amount, whole: true, lines: [["ready", "ready"], ["wanted", "wanted"]] },
];
const MARKED = new Set(["eviction", "return", "scale", "rollout", "resume", "failure"]);
const KEPT = 1800;
const HEIGHT = 160;
let uPlot = null;
let root = null;
let data = { fleet: "", t: [] };
let marks = [];
let width_s = 300;
let drawn = [];

export async function begin(libraries, slot) {
  root = slot;
  if (libraries.includes("uplot")) uPlot = (await import("/console/lib/uPlot.esm.js")).default;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forget(); paint(marks); });
  new ResizeObserver(() => drawn.forEach(({ plot, box }) => plot.setSize({ width: box.clientWidth, height: HEIGHT }))).observe(root);
}

// Where an upright axis ends. Without a value above 0 it shows what such numbers usually are, not parts of a nanosecond.
export function top(chart, high) {
  return chart.top ?? (high > 0 ? high : chart.usual) * 1.1;
}

export function span(seconds_shown) {
  width_s = seconds_shown;
  paint(marks);
}

export function add(trend) {
  if (trend.fleet !== data.fleet) data = { fleet: trend.fleet, t: [] };
  const last = data.t.at(-1) ?? 0;
  const from = trend.t.findIndex((t) => t > last);
  if (from < 0) return;
  for (const [name, values] of Object.entries(trend)) {
    if (name !== "fleet") data[name] = [...(data[name] ?? []), ...values.slice(from)].slice(-KEPT);
  }
}

export function paint(events) {
  marks = events.filter((e) => MARKED.has(e.kind));
  if (!data.t.length) return draw(h("p", { className: "none" }, "Nothing was measured yet."), root);
  if (!uPlot) return draw(plain(), root);
  if (!drawn.length) build();
  const now = data.t.at(-1);
  drawn.forEach(({ plot, chart, says }) => {
    plot.setData([data.t, ...chart.lines.map(([, name]) => data[name])], false);
    plot.setScale("x", { min: now - width_s, max: now });
    chart.lines.forEach(([name, column], i) => { says[i].textContent = `${name} ${chart.show(data[column].at(-1))}`; });
  });
}

function forget() {
  drawn.forEach(({ plot }) => plot.destroy());
  drawn = [];
  root.replaceChildren();
}

function build() {
  root.replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  drawn = CHARTS.map((chart) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("b");
    title.textContent = chart.title;
    caption.append(title);
    const says = chart.lines.map((_, i) => {
      const key = document.createElement("span");
      key.className = "key";
      const swatch = document.createElement("i");
      swatch.className = `k${i + 1}`;
      const text = document.createElement("span");
      key.append(swatch, text);
      caption.append(key);
      return text;
    });
    const box = document.createElement("div");
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${chart.title} over time; the caption tells the latest values`);
    figure.append(caption, box);
    root.append(figure);
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const plot = new uPlot({
      width: box.clientWidth, height: HEIGHT, legend: { show: false }, cursor: { y: false }, padding: [8, 8, 0, 0],
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, top(chart, high)] } },
      series: [{}, ...chart.lines.map(([name], i) => ({ label: name, stroke: colour(`--c${i + 1}`), width: 1.6, points: { show: false },
        paths: chart.whole ? uPlot.paths.stepped({ align: 1 }) : undefined }))],
      axes: [
        { ...axis, space: 70, size: 28, values: (_, ticks) => ticks.map((t) => clock(t)) },
        { ...axis, size: 62, incrs: chart.whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500] : undefined, values: (_, ticks) => ticks.map((t) => chart.show(t)) },
      ],
      hooks: { draw: [(u) => events(u, colour)] },
    }, [data.t, ...chart.lines.map(([, name]) => data[name])], box);
    return { chart, plot, box, says };
  });
}

// Upright lines at what happened, in the colour of its kind.
function events(u, colour) {
  const { ctx, bbox } = u;
  const colours = { eviction: "--bad", failure: "--bad", return: "--good", resume: "--good", scale: "--accent", rollout: "--accent" };
  ctx.save();
  ctx.setLineDash([3, 4]);
  for (const mark of marks) {
    const x = u.valToPos(mark.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour(colours[mark.kind]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function plain() {
  const now = data.t.at(-1);
  const ages = [0, 60, 300, 900, 3600].filter((age) => age === 0 || data.t[0] <= now - age);
  const at = (age) => data.t.findIndex((t) => t >= now - age);
  const heads = ages.map((age) => h("th", { scope: "col", className: "n" }, age ? `${seconds(age)} ago` : "now"));
  const rows = CHARTS.flatMap((chart) => chart.lines.map(([name, column]) => h("tr", { key: `${chart.title} ${name}` },
    h("td", { "data-label": "Number" }, `${chart.title}, ${name}`),
    ages.map((age) => h("td", { className: "n", "data-label": age ? `${seconds(age)} ago` : "now" }, chart.show(data[column][at(age)]))))));
  return h("table", null, h("caption", null, "The chart library was not fetched: the numbers as a table."),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Number"), heads)), h("tbody", null, rows));
}
