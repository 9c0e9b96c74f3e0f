// A batch with OpenAI's own client for JavaScript, from the upload to the results: node openai_client.mjs URL FILE
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const [url, path] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

const file = await client.files.create({
  file: fs.createReadStream(path),
  purpose: "batch",
  expires_after: { anchor: "created_at", seconds: 3600 },
});
let batch = await client.batches.create({
  input_file_id: file.id,
  endpoint: "/v1/chat/completions",
  completion_window: "24h",
  metadata: { who: "me" },
});
const over = ["completed", "failed", "expired", "cancelled"];
while (!over.includes(batch.status)) {
  await sleep(100);
  batch = await client.batches.retrieve(batch.id);
}
const output = await (await client.files.content(batch.output_file_id)).text();

const listed = [];
for await (const found of client.batches.list({ limit: 1 })) listed.push(found.id);
const files = [];
for await (const found of client.files.list({ purpose: "batch", limit: 1 })) files.push(found.id);

let refused = "";
try {
  await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "5m",
  });
} catch (e) {
  refused = `${e.constructor.name} ${e.status} ${e.param}`;
}
let conflict = "";
try {
  await client.batches.cancel(batch.id);
} catch (e) {
  conflict = e.constructor.name;
}
const deleted = await client.files.delete(file.id);
let gone = "";
try {
  await client.files.retrieve(file.id);
} catch (e) {
  gone = e.constructor.name;
}
console.log(JSON.stringify({
  file, batch, output, refused, conflict, gone,
  listed: listed.includes(batch.id), files: files.includes(file.id), deleted: deleted.deleted,
}));
