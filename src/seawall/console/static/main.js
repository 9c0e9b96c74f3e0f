// The page: what it asks for, what it was told, and which part is drawn when.
import * as charts from "./charts.js";
import { begin, draw } from "./dom.js";
import * as play from "./play.js";
import { follow, headers, keeper, why } from "./stream.js";
import * as views from "./views.js";
import { count } from "./words.js";

const EVENTS = 500;
const $ = (id) => document.getElementById(id);
const state = {
  at: 0, chosen: "", fleets: { rows: [], total: 0 }, replicas: { rows: [], found: 0, total: 0, page: 1, pages: 1, phases: {} },
  streams: [], tenants: { rows: [], total: 0 }, events: [], notes: {}, silent: "",
};
const wish = { fleet: "", phase: "", find: "", sort: "trouble", page: 1, kind: "" };
let leaving = null;

function asked() {
  const given = Object.entries(wish).filter(([, v]) => v !== "");
  return new URLSearchParams(given).toString();
}

function told(news) {
  const first = !state.at;
  Object.assign(state, Object.fromEntries(Object.entries(news).filter(([k]) => k !== "events" && k !== "trend")));
  if (news.events) state.events = [...news.events.reverse(), ...state.events].slice(0, EVENTS);
  state.chosen = news.trend?.fleet ?? state.chosen;
  if (news.trend) charts.add(news.trend);
  say("live", state.silent ? `live, but ${state.silent}` : "live");
  paint(news, first);
}

function paint(news, first) {
  if (news.fleets || news.trend || first) {
    draw(views.fleets(state, choose), $("fleets-body"));
    play.models(state.fleets.rows);
  }
  draw(views.replicas(state), $("replicas-body"));
  if (news.events || first) draw(views.timeline(state), $("timeline-body"));
  if (news.streams || first) draw(views.streams(state), $("streams-body"));
  if (news.tenants || first) draw(views.tenants(state), $("tenants-body"));
  if (news.events || news.trend) charts.paint(state.events.filter((e) => e.fleet === state.chosen));
  if (news.replicas) pager();
  $("numbers-fleet").textContent = $("tenants-fleet").textContent = state.chosen ? `of ${state.chosen}` : "";
  if (news.notes) $("foot").textContent = [`Seawall ${about.version}`, ...Object.entries(state.notes).map(([k, v]) => `${k} ${v}`)].join(" · ");
}

function pager() {
  const { page, pages, phases } = state.replicas;
  $("pager").hidden = pages < 2;
  $("page-of").textContent = `page ${count(page)} of ${count(pages)}`;
  $("back").disabled = page <= 1;
  $("next").disabled = page >= pages;
  const select = $("phase");
  for (const name of Object.keys(phases)) {
    if (![...select.options].some((o) => o.value === name)) select.add(new Option(name, name));
  }
}

function say(kind, text) {
  $("state").className = kind;
  if ($("state").textContent !== text) $("state").textContent = text;
}

function choose(fleet) {
  wish.fleet = wish.fleet === fleet && state.fleets.total > 1 ? "" : fleet;
  wish.page = 1;
  again();
}

function again() {
  state.events = [];
  state.at = 0;
  leaving?.abort();
}

async function keep() {
  let pause = 500;
  for (;;) {
    leaving = new AbortController();
    try {
      const end = await follow(asked(), (news) => { pause = 500; told(news); }, leaving.signal);
      if (end.status === 401) return ask(end.why);
      if (leaving.signal.aborted) continue;
      say("lost", `lost: ${end.why}`);
    } catch (error) {
      if (leaving.signal.aborted) continue;
      say("lost", "lost: the gateway cannot be reached; `seawall console` prints its present address");
    }
    state.events = [];
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(10_000, pause * 2);
  }
}

function ask(reason) {
  $("main").hidden = true;
  $("door").hidden = false;
  $("door-why").textContent = keeper.key ? reason : "";
  say("", "a key is needed");
  $("key").focus();
}

function open() {
  $("door").hidden = true;
  $("main").hidden = false;
  keep();
}

async function older() {
  const last = state.events.at(-1);
  const more = new URLSearchParams({ before: last?.n ?? 0, rows: 100, fleet: wish.fleet, kind: wish.kind });
  const answer = await fetch(`/console/api/events?${more}`, { headers: headers() });
  if (!answer.ok) return say("lost", await why(answer));
  const { events } = await answer.json();
  state.events = [...state.events, ...events];
  $("older").disabled = !events.length;
  draw(views.timeline(state), $("timeline-body"));
}

function listen() {
  let typing = 0;
  $("filter").addEventListener("submit", (e) => e.preventDefault());
  $("find").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { wish.find = $("find").value; wish.page = 1; again(); }, 250);
  });
  for (const name of ["phase", "sort", "kind"]) {
    $(name).addEventListener("change", () => { wish[name] = $(name).value; wish.page = 1; $("older").disabled = false; again(); });
  }
  $("back").addEventListener("click", () => { wish.page = state.replicas.page - 1; again(); });
  $("next").addEventListener("click", () => { wish.page = state.replicas.page + 1; again(); });
  $("older").addEventListener("click", older);
  $("span").addEventListener("change", () => charts.span(Number($("span").value)));
  $("door").addEventListener("submit", (e) => { e.preventDefault(); keeper.key = $("key").value.trim(); $("key").value = ""; open(); });
  document.addEventListener("keydown", (e) => {
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
    e.preventDefault();
    $("find").focus();
  });
}

const about = await (await fetch("/console/api/about")).json();
await begin(about.libraries);
await charts.begin(about.libraries, $("charts"));
$("place").textContent = about.place || location.host;
play.begin();
listen();
if (about.keys && !keeper.key) ask("");
else open();
