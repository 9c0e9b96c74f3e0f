// What each section shows. Pure: a state in, elements out.
import { h } from "./dom.js";
import { clock, count, dash, percent, seconds, times } from "./words.js";

function table(caption, heads, rows) {
  const head = heads.map(([name, kind]) => h("th", { scope: "col", className: kind ?? "" }, name));
  return h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, head)), h("tbody", null, rows));
}

function cell(label, content, kind = "") {
  const empty = content === "" || content === dash ? " empty" : "";
  return h("td", { "data-label": label, className: kind + empty }, content);
}

export function fleets(state, choose) {
  const { rows, total } = state.fleets;
  if (!rows.length) return h("p", { className: "none" }, "No fleet is configured.");
  const caption = total > rows.length ? `${rows.length} of ${total} fleets, those in trouble first` : "";
  return table(
    caption,
    [["Fleet"], ["Ready", "n"], ["In flight", "n"], ["Queued", "n"], ["TTFT p50", "n"], ["TTFT p95", "n"],
      ["Answered", "n"], ["Failed", "n"], ["Turned away", "n"], ["Resumed", "n"], ["Scale and rollout"]],
    rows.map((f) => {
      const wanted = f.wanted === null ? "" : ` of ${f.wanted}`;
      const range = f.lowest === null ? "" : ` (${f.lowest} to ${f.highest})`;
      const limit = f.limit ? ` of ${count(f.limit)}` : "";
      const why = [f.scale, f.rollout].filter(Boolean).join("; ");
      return h("tr", { key: f.name, className: f.name === state.chosen ? "chosen" : "" },
        cell("Fleet", h("button", { className: "link", type: "button", "data-key": `fleet ${f.name}`,
          "aria-pressed": String(f.name === state.chosen), onClick: () => choose(f.name) }, f.name)),
        cell("Ready", h("span", { className: f.wanted !== null && f.ready < f.wanted ? "phase starting" : "" },
          `${f.ready}${wanted}${range}`), "n"),
        cell("In flight", count(f.in_flight), "n"), cell("Queued", count(f.queued) + limit, "n"),
        cell("TTFT p50", seconds(f.ttft_p50), "n"), cell("TTFT p95", seconds(f.ttft_p95), "n"),
        cell("Answered", count(f.finished), "n"), cell("Failed", count(f.failed), "n"),
        cell("Turned away", count(f.rejected), "n"), cell("Resumed", count(f.resumed), "n"),
        cell("Scale, rollout", why, "why"));
    }));
}

export function replicas(state) {
  const { rows, found, total, phases } = state.replicas;
  const parts = Object.entries(phases).sort((a, b) => b[1] - a[1]).map(([p, n]) => `${count(n)} ${p}`).join(", ");
  if (!total) return h("p", { className: "none" }, "No replica is known.");
  const caption = `${count(found)} of ${count(total)} found: ${parts}`;
  if (!rows.length) return h("p", { className: "none" }, caption);
  return table(
    caption,
    [["Replica"], ["Phase"], ["For", "n"], ["In flight", "n"], ["Waiting", "n"], ["KV cache", "n"],
      ["Evicted", "n"], ["Place"], ["Why"]],
    rows.map((r) => h("tr", { key: r.name, "data-replica": r.name },
      cell("Replica", r.group === "canary" ? `${r.name} (canary)` : r.name),
      cell("Phase", h("span", { className: `phase ${r.phase}` }, r.phase || "unknown")),
      cell("For", r.since === null ? dash : seconds(Math.max(1, Math.round(state.at - r.since))), "n"),
      cell("In flight", count(r.in_flight), "n"), cell("Waiting", count(r.waiting), "n"),
      cell("KV cache", percent(r.kv_use), "n"), cell("Evicted", r.evictions ? times(r.evictions) : "", "n"),
      cell("Place", r.where), cell("Why", r.reason, "why"))));
}

export function timeline(state) {
  if (!state.events.length) return h("p", { className: "none" }, "Nothing has happened yet.");
  return h("ol", { className: "time" }, state.events.map((e) => h("li", { key: e.n, "data-kind": e.kind },
    h("time", { datetime: new Date(e.at * 1000).toISOString() }, clock(e.at)),
    h("span", { className: `kind ${e.kind}` }, e.kind), h("span", null, e.subject), h("span", null, e.text))));
}

export function streams(state) {
  if (!state.streams.length) return h("p", { className: "none" }, "None runs now.");
  return table("", [["Request"], ["Fleet"], ["Model"], ["Runs on"], ["Resumed", "n"], ["For", "n"], ["Tenant"]],
    state.streams.map((s) => h("tr", { key: s.id },
      cell("Request", s.id), cell("Fleet", s.fleet), cell("Model", s.model), cell("Runs on", s.replica),
      cell("Resumed", times(s.resumed), "n"), cell("For", seconds(s.for_s), "n"), cell("Tenant", s.tenant || dash))));
}

export function tenants(state) {
  const { rows, total } = state.tenants;
  if (!rows.length) return h("p", { className: "none" }, "Nobody has asked for anything yet.");
  const caption = total > rows.length ? `${rows.length} of ${total} tenants, those with the most tokens` : "";
  return table(caption,
    [["Tenant"], ["Requests", "n"], ["Answered", "n"], ["Tokens in", "n"], ["Tokens out", "n"], ["Cost", "n"]],
    rows.map((t) => h("tr", { key: t.name },
      cell("Tenant", t.name || "(without a key)"), cell("Requests", count(t.requests), "n"),
      cell("Answered", count(t.finished), "n"), cell("Tokens in", count(t.tokens_in), "n"),
      cell("Tokens out", count(t.tokens_out), "n"), cell("Cost", t.usd ? `$${t.usd.toFixed(4)}` : dash, "n"))));
}
