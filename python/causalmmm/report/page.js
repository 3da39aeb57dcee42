"use strict";
// The store picker, hover and sorting. Without this script the page keeps every card but the
// pictures of single stores.

const setting = JSON.parse(document.getElementById("setting").textContent);

/* ---- sorting ---- */

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
}

function sort(table, head, column) {
  const descending = head.getAttribute("aria-sort") !== "descending";
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].dataset.at ?? row.cells[column].textContent;
  const rows = [...body.rows].map((row) => [key(row), row]);
  const numbers = rows.every(([at]) => at === "" || !Number.isNaN(Number(at)));
  rows.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
    const order = numbers ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return descending ? -order : order;
  });
  body.append(...rows.map(([, row]) => row));
}

/* ---- stores ---- */

const charts = ["parts", "ahead", "graph", "roi", "curves"];
let lines = [];
let current = null;

function bytes(id) {
  const text = atob(document.getElementById(id).textContent);
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

async function unpacked(id) {
  const stream = new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function start() {
  const [library, records] = await Promise.all([unpacked("plotly"), unpacked("records")]);
  const script = document.createElement("script");
  script.textContent = library;
  document.head.append(script);
  lines = records.split("\n");
  const picker = document.getElementById("store");
  const all = new Option("all stores", String(setting.stores));
  const names = lines.slice(0, setting.stores).map((line, k) => new Option(JSON.parse(line).n, String(k)));
  picker.append(...(names.length > 1 ? [all, ...names] : names));
  picker.addEventListener("change", () => show(Number(picker.value)));
  document.getElementById("explorer").hidden = false;
  show(Number(picker.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; draw(); });
  addEventListener("afterprint", () => { delete document.documentElement.dataset.theme; draw(); });
  document.documentElement.dataset.ready = "yes";
}

function show(position) {
  const record = JSON.parse(lines[position]);
  if (position < setting.stores) Object.assign(record, JSON.parse(lines[setting.stores + 1 + position]));
  current = { ...record, n: record.n || "all stores" };
  document.getElementById("store-said").textContent = said(current);
  draw();
}

function said(record) {
  const sum = (values) => values.reduce((a, b) => a + (b ?? 0), 0);
  const total = sum(record.y);
  const parts = record.p.map(sum).map((value, k) => [value, setting.components[k]]);
  const series = parts.slice(2).sort((a, b) => b[0] - a[0]);
  let text = `${record.n}: ${short(total)} ${setting.target}`;
  if (series.length && total > 0) {
    text += `, ${percent(series[0][0] / total)} of it from ${series[0][1]}, baseline ${percent(parts[0][0] / total)}`;
  }
  const all = record.r?.at(-1);
  if (all && all[4] !== null) text += `. Return on all spend ${short(all[4])} (90 %: ${short(all[5])} to ${short(all[6])})`;
  if (record.g) text += `. Group ${record.g} of similar graphs`;
  return `${text}.`;
}

function short(value) {
  if (value === null || !Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  for (const [unit, name] of [[1e12, " tn"], [1e9, " bn"], [1e6, " M"], [1e4, " k"]]) {
    if (size >= unit) return `${Number((value / (unit === 1e4 ? 1e3 : unit)).toPrecision(3))}${name}`;
  }
  return size >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/* ---- pictures ---- */

function theme() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

function seriesColour(colour, name) {
  const own = setting.colours[setting.nodes.indexOf(name)] ?? "--others";
  return own.startsWith("--") ? colour(own.slice(2)) : own;
}

function draw() {
  if (!current) return;
  const colour = theme();
  for (const name of charts) {
    const traces = { parts, ahead, graph, roi, curves }[name](current, colour);
    const box = document.getElementById(`chart-${name}`);
    box.parentElement.hidden = traces === null;
    if (traces === null) continue;
    const [data, extra] = traces;
    Plotly.react(box, data, layout(colour, extra), { displayModeBar: false, responsive: true });
  }
}

function layout(colour, { xaxis = {}, yaxis = {}, ...extra }) {
  const axis = { gridcolor: colour("grid"), zerolinecolor: colour("pale"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 50, r: 12, t: 10, b: 40 },
    // Of the whole picture, not of the plot: there it would stay where the last width had put it.
    legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top" },
    hoverlabel: { bgcolor: colour("card"), font: { color: colour("ink") } },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...extra,
  };
}

const perStep = () => `${setting.target} per ${setting.step}`;
const mean = (values) => values.map((value) => (value === null ? null : value / setting.span));

function parts(record, colour) {
  const dates = setting.dates.slice(record.s);
  const fill = (name, k) => (k === 0 ? colour("base") : k === 1 ? colour("past") : seriesColour(colour, name));
  const data = record.p.map((values, k) => ({
    type: "bar", name: setting.components[k], x: dates, y: mean(values), marker: { color: fill(setting.components[k], k), line: { width: 0 } },
    hovertemplate: "%{fullData.name}: %{y:.3s}<extra></extra>",
  }));
  data.push({ type: "scatter", mode: "lines", name: "observed", x: dates, y: mean(record.y), line: { color: colour("ink"), width: 1.3 }, hovertemplate: "observed: %{y:.3s}<extra></extra>" });
  return [data, { barmode: "relative", bargap: 0, hovermode: "x unified", yaxis: { title: { text: perStep() }, rangemode: "tozero" } }];
}

function ahead(record, colour) {
  const [middle, low80, high80, low95, high95] = record.f;
  const history = { x: setting.dates.slice(record.s), y: mean(record.y), name: "history", mode: "lines", line: { color: colour("ink"), width: 1.3 } };
  const band = (low, high, name, opacity) => [
    { x: setting.ahead, y: low, mode: "lines", line: { width: 0 }, showlegend: false, hoverinfo: "skip" },
    { x: setting.ahead, y: high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: faded(colour("target"), opacity), name, hoverinfo: "skip" },
  ];
  const label = setting.planned ? "forecast under the plan" : "forecast, spend as before";
  const data = [
    history, ...band(low95, high95, "95 % interval", 0.16), ...band(low80, high80, "80 % interval", 0.24),
    { x: setting.ahead, y: middle, mode: "lines", name: label, line: { color: colour("target"), width: 2 },
      customdata: low80.map((low, k) => [low, high80[k]]), hovertemplate: "%{y:.3s} (80 %: %{customdata[0]:.3s} to %{customdata[1]:.3s})<extra></extra>" },
  ];
  return [data, { yaxis: { title: { text: perStep() }, rangemode: "tozero" } }];
}

function faded(hex, opacity) {
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
}

function graph(record, colour) {
  if (!record.e.length) return null;
  const layer = setting.roles.map((role) => ({ mediator: 1, target: 2 })[role] ?? 0);
  const at = places(layer);
  const fill = setting.nodes.map((name, k) => (layer[k] === 2 ? colour("ink") : seriesColour(colour, name)));
  const [slots, tall] = landings(record.e, at);
  const shapes = [], heads = [], middles = { x: [], y: [], text: [] };
  for (const [i, j, probability, effect] of record.e) {
    const opacity = 0.12 + 0.8 * probability ** 2;
    const line = { color: fill[i], width: 0.5 + 3 * probability ** 2, dash: effect < 0 ? "dash" : "solid" };
    const [start, a, b, end] = arc(at[i], at[j], slots[`${i},${j}`]);
    shapes.push({ type: "path", layer: "below", opacity, line, path: `M ${start} C ${a} ${b} ${end}` });
    const from = end.map((v, k) => v + 0.12 * (b[k] - v));
    heads.push({ x: end[0], y: end[1], ax: from[0], ay: from[1], axref: "x", ayref: "y", text: "", showarrow: true, arrowhead: 2, arrowsize: 0.8, arrowwidth: Math.max(1, line.width), arrowcolor: fill[i], opacity });
    middles.x.push((start[0] + 3 * a[0] + 3 * b[0] + end[0]) / 8);
    middles.y.push((start[1] + 3 * a[1] + 3 * b[1] + end[1]) / 8);
    middles.text.push(`${setting.nodes[i]} → ${setting.nodes[j]}: ${percent(probability)}, effect ${short(effect)}`);
  }
  at.forEach(([x, y], k) => shapes.push({ type: "rect", x0: x - 0.025, x1: x + 0.025, y0: y - tall[k], y1: y + tall[k], fillcolor: fill[k], line: { width: 0 } }));
  const data = [
    { type: "scatter", mode: "markers", ...middles, hoverinfo: "text", marker: { size: 18, color: "rgba(0,0,0,0)" }, showlegend: false },
    { type: "scatter", mode: "text", x: at.map(([x], k) => x + [-0.06, 0, 0.06][layer[k]]), y: at.map(([, y], k) => y + (layer[k] === 1 ? tall[k] + 0.02 : 0)), text: setting.nodes, hoverinfo: "skip",
      textposition: layer.map((k) => ["middle left", "top center", "middle right"][k]), showlegend: false, cliponaxis: false },
  ];
  const hidden = { visible: false, fixedrange: true };
  const reach = Math.max(0.75, ...at.map(([, y], k) => Math.abs(y) + tall[k])) + 0.15;
  return [data, { shapes, annotations: heads, xaxis: { ...hidden, range: [-0.75, 2.6] }, yaxis: { ...hidden, range: [-reach, reach] }, margin: { l: 0, r: 0, t: 0, b: 0 } }];
}

// Channels in a column, mediators above and below the way to the target.
function places(layer) {
  const rows = [0, 1, 2].map((k) => layer.filter((l) => l === k).length);
  const seen = [0, 0, 0];
  return layer.map((k) => {
    const place = seen[k]++;
    if (k === 1) return [1, (0.66 - 0.13 * Math.floor(place / 2)) * (place % 2 ? -1 : 1)];
    return [k, rows[k] > 1 ? 0.55 - (1.1 * place) / (rows[k] - 1) : 0];
  });
}

// Every arrow from an earlier layer ends at a height of its own; nodes are tall enough for them.
function landings(edges, at) {
  const slots = {};
  const tall = at.map((own, j) => {
    const before = edges.filter(([i, to]) => to === j && at[i][0] < own[0]).map(([i]) => i);
    before.sort((a, b) => at[a][1] - at[b][1]);
    const room = Math.min(0.5, 0.05 * before.length);
    before.forEach((i, k) => { slots[`${i},${j}`] = own[1] + room * ((k + 0.5) / before.length - 0.5); });
    return room / 2 + 0.025;
  });
  return [slots, tall];
}

function arc([x0, y0], [x1, y1], slot) {
  if (x0 < x1) {
    const [from, to] = [x0 + 0.03, x1 - 0.04], bend = 0.5 * (to - from);
    return [[from, y0], [from + bend, y0], [to - bend, slot], [to, slot]];
  }
  if (x0 === x1) { // beside each other: an arc on the left
    const out = x0 - 0.12 - 0.3 * Math.abs(y1 - y0);
    return [[x0 - 0.03, y0], [out, y0], [out, y1], [x1 - 0.04, y1]];
  }
  return [[x0, y0 - 0.05], [x0, -1.1], [x1 + 0.4, Math.min(y1, 0) - 0.9], [x1 + 0.04, y1 - 0.01]];
}

function roi(record, colour) {
  if (!record.r?.length) return null;
  const known = record.r.map((row, k) => [row, setting.paid[k]]).filter(([row]) => row[4] !== null).reverse();
  const of = (k) => known.map(([row]) => row[k]);
  const names = known.map(([, name]) => name);
  const fill = names.map((name) => (name === "all channels" ? colour("ink") : seriesColour(colour, name)));
  const upper = of(6).map((high, k) => high - of(4)[k]);
  const lower = of(4).map((middle, k) => middle - of(5)[k]);
  const data = [
    { type: "scatter", mode: "markers", name: "ROI, 90 % interval", x: of(4), y: names, marker: { size: 9, color: fill },
      error_x: { type: "data", symmetric: false, array: upper, arrayminus: lower, color: colour("pale"), thickness: 1.5 },
      customdata: known.map(([row]) => [short(row[0]), short(row[5]), short(row[6])]), hovertemplate: "%{y}: %{x:.3s} (%{customdata[1]} to %{customdata[2]}), spend %{customdata[0]}<extra></extra>" },
    { type: "scatter", mode: "markers", name: "marginal ROI", x: of(7), y: names, marker: { size: 8, symbol: "diamond-open", color: fill }, hovertemplate: "%{y}: last per cent returns %{x:.3s}<extra></extra>" },
  ];
  const one = { type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: colour("pale"), dash: "dot", width: 1 } };
  return [data, { shapes: [one], xaxis: { title: { text: "incremental outcome / spend" }, rangemode: "tozero" } }];
}

function curves(record, colour) {
  const data = record.c.flatMap(([most, expected], k) => {
    if (!most) return [];
    const name = setting.curves[k], points = expected.length - 1;
    const amount = expected.map((_, p) => `${short((most * p) / points)} ${setting.measured[name] ?? "amount"}`);
    return [{ mode: "lines", name, x: expected.map((_, p) => (2 * p) / points), y: expected, line: { color: seriesColour(colour, name), width: 2 }, customdata: amount, hovertemplate: "%{fullData.name}, %{customdata}: %{y:.3s}<extra></extra>" }];
  });
  if (!data.length) return null;
  return [data, { xaxis: { title: { text: `amount per ${setting.step} / most ever used` }, tickformat: ".0%" }, yaxis: { title: { text: perStep() }, rangemode: "tozero" } }];
}

start();
