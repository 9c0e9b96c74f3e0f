// The one stream of events. fetch(), not EventSource: a key goes into a header, never into an address.
export const keeper = {
  get key() { return sessionStorage.getItem("seawall-key") ?? ""; },
  set key(value) { sessionStorage.setItem("seawall-key", value); },
};

export function headers(more = {}) {
  return keeper.key ? { authorization: `Bearer ${keeper.key}`, ...more } : more;
}

// Calls told(event data) until the stream is left; -> the status of an answer that is no stream.
export async function follow(query, told, signal) {
  const answer = await fetch(`/console/api/stream?${query}`, { headers: headers(), signal, cache: "no-store" });
  if (!answer.ok) return { status: answer.status, why: await why(answer) };
  for await (const data of events(answer.body)) told(JSON.parse(data));
  return { status: 0, why: "the gateway has closed the stream" };
}

export async function why(answer) {
  try {
    const body = await answer.json();
    return body.error?.message ?? body.error ?? `status ${answer.status}`;
  } catch {
    return `status ${answer.status}`;
  }
}

export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
