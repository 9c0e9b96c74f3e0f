// The playground: a conversation with a served model, through the gateway like any other client's.
import { events, headers, keeper, why } from "./stream.js";
import { amount, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
let said = [];
let leaving = null;
let known = "";

export function begin() {
  $("play").addEventListener("submit", (e) => { e.preventDefault(); ask(); });
  $("ask").addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); $("play").requestSubmit(); } });
  $("play-key").addEventListener("change", () => { keeper.key = $("play-key").value.trim(); });
  $("stop").addEventListener("click", () => leaving?.abort());
  $("anew").addEventListener("click", () => { leaving?.abort(); said = []; $("talk").replaceChildren(); $("told").textContent = ""; });
}

export function models(fleets) {
  const names = fleets.flatMap((f) => f.models.length ? f.models : [f.name]);
  if (names.join("\n") === known) return;
  known = names.join("\n");
  const before = $("model").value;
  $("model").replaceChildren(...names.map((n) => new Option(n, n)));
  if (names.includes(before)) $("model").value = before;
}

function line(who, text, kind) {
  const p = document.createElement("p");
  p.className = kind;
  const name = document.createElement("b");
  name.textContent = who;
  const body = document.createTextNode(text);
  p.append(name, body);
  $("talk").append(p);
  $("talk").scrollTop = $("talk").scrollHeight;
  return body;
}

async function ask() {
  const text = $("ask").value.trim();
  if (!text || leaving) return;
  const model = $("model").value;
  $("ask").value = "";
  line("you", text, "you");
  const mine = said;  // "New conversation" makes another one, which this answer is no part of
  mine.push({ role: "user", content: text });
  const answer = line(model, "", "model");
  leaving = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("told").textContent = "waiting for the first token";
  const began = performance.now();
  try {
    $("told").textContent = await read(model, answer, began);
  } catch (error) {
    $("told").textContent = leaving.signal.aborted ? "stopped" : "the connection was lost";
  }
  if (answer.data) mine.push({ role: "assistant", content: answer.data });
  else if (mine === said) unsay(text);
  leaving = null;
  $("send").disabled = false;
  $("stop").disabled = true;
}

// What got no answer stands in the field again, and not in the conversation.
function unsay(text) {
  said.pop();
  $("talk").lastChild?.remove();
  $("talk").lastChild?.remove();
  if (!$("ask").value) $("ask").value = text;
}

async function read(model, answer, began) {
  const body = {
    model, messages: said, stream: true, max_tokens: Number($("most").value) || 200, temperature: Number($("heat").value),
    stream_options: { include_usage: true },
  };
  const got = await fetch("/console/v1/chat/completions", {
    method: "POST", headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body), signal: leaving.signal,
  });
  if (got.status === 401) {  // a cluster's page does not know beforehand which gateway asks for a key
    $("play-door").hidden = false;
    $("play-key").focus();
  }
  if (got.ok) $("play-door").hidden = true;
  if (!got.ok) return `refused: ${await why(got)}`;
  let first = 0;
  let tokens = 0;
  for await (const data of events(got.body)) {
    if (data === "[DONE]") break;
    const event = JSON.parse(data);
    if (event.error) return `failed: ${event.error.message}`;
    tokens = event.usage?.completion_tokens ?? tokens;
    const piece = event.choices?.[0]?.delta?.content ?? "";
    if (!piece) continue;
    if (!first) first = performance.now();
    answer.data += piece;
    $("talk").scrollTop = $("talk").scrollHeight;
  }
  if (!first) return "an empty answer";
  const rate = tokens > 1 ? `, ${amount((tokens - 1) / ((performance.now() - first) / 1000))} tokens/s` : "";
  return `first token after ${seconds((first - began) / 1000)}${rate}`;
}
