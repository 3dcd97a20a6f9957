// What a caller does with fetch. Prints the status and the body of every call. Usage: session.mjs BASE TOKEN

const [, , root, token] = process.argv;
const base = `${root}/v1/minimax`;
const headers = { Authorization: `Bearer ${token}` };
const json = { ...headers, "Content-Type": "application/json" };

function show(name, status, body) {
  process.stdout.write(Buffer.concat([Buffer.from(`== ${name} ${status}\n`), Buffer.from(body), Buffer.from("\n")]));
}

async function call(name, path, options = {}) {
  const answer = await fetch(`${base}/${path}`, { headers, ...options });
  const body = Buffer.from(await answer.arrayBuffer());
  show(name, answer.status, body);
  return body.length ? JSON.parse(body) : undefined;
}

const post = (name, path, body) => call(name, path, { method: "POST", headers: json, body: JSON.stringify(body) });

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return { method: "POST", body: data };
}

async function untilOver(name, path) {
  for (let turn = 0; turn < 600; turn++) {
    const answer = await fetch(`${base}/${path}`, { headers });
    const body = Buffer.from(await answer.arrayBuffer());
    const job = JSON.parse(body);
    if (job.statusFinal || ["completed", "failed"].includes(job.status)) return show(name, answer.status, body);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// Reads events as EventSource does, which can neither POST nor send a token.
async function stream(name, path, options) {
  const answer = await fetch(`${base}/${path}`, options);
  const decoder = new TextDecoder();
  const events = [];
  let text = "", whole = "";
  for await (const piece of answer.body) {
    const more = decoder.decode(piece, { stream: true });
    text += more;
    whole += more;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
      events.push(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
    }
  }
  show(name, answer.status, whole);
  return events;
}

let made = await post("video", "videos/create", { prompt: "a paper boat ✓", promptOptimization: true });
await untilOver("video-done", `videos/${made.videoId}`);
const mine = { replyUrl: "http://127.0.0.1:9/mine", replyRef: "boat ✓" };
made = await post("video-reply", "videos/create", { prompt: "a boat", ...mine });
await untilOver("video-reply-done", `videos/${made.videoId}`);
made = await call("video-form", "videos/create", { method: "POST", body: new URLSearchParams({ prompt: "a & b" }) });
await untilOver("video-form-done", `videos/${made.videoId}`);
made = await post("images", "images/create", { prompt: "kettle", quantity: 2 });
for (const image of made.imageIds) await untilOver("image-done", `images/${image}`);
await call("images-list", "images/?limit=1");

const png = { ...headers, "Content-Type": "image/png" };
await call("upload", "files/?account=730015522", { method: "POST", headers: png, body: new Uint8Array(1_000_000) });
const pieces = new ReadableStream({
  start(controller) {
    for (let turn = 0; turn < 8; turn++) controller.enqueue(new Uint8Array(65_536));
    controller.close();
  },
});
await call("upload-chunked", "files", { method: "POST", headers: png, body: pieces, duplex: "half" });

const rain = { prompt: "rain", models: "hailuo-2.3,kolors" };
const picture = new File([new Uint8Array(100_000)], "a.png", { type: "image/png" });
await call("agent", "agent", form({ ...rain, file: picture }));
made = await call("agent-async", "agent", form({ ...rain, async: "true", ...mine }));
await untilOver("agent-done", `agent/${made.jobId}`);

const template = JSON.stringify({ templateId: "610000000000000003", prompt: "sea" });
const events = await stream("stream", "videos/agent-create", { method: "POST", headers: json, body: template });
await untilOver("stream-done", `videos/${events.at(-1).videoId}`);
await stream("chat", "llm", { headers, ...form({ prompt: "tell me a joke", stream: "true" }) });
await call("song", "music/create?prompt=la%20la&styleId=21");
await post("speech", "audio/create-mp3", { text: "hello", voice_id: "1" });
await call("videos", "videos/?limit=30");
await call("scheduler", "scheduler");
await post("bad", "videos/create", {});
await call("missing", "videos/user:1-minimax:2-video:3");
await call("delete", "videos/user:1-minimax:2-video:3", { method: "DELETE" });
