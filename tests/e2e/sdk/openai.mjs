import OpenAI from "openai";
import { join, keys, leave, picture, run, sim, url } from "./common.mjs";

const make = (key, more) => new OpenAI({ apiKey: key, baseURL: `${url}/v1`, ...more });
const client = make(keys.good, { maxRetries: 0 });
const model = "gpt-4o-mini";
const chat = (words, more) => ({ model, messages: [{ role: "user", content: sim(words) }], ...more });
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];

await run({
  plain: async () => {
    const answer = await client.chat.completions.create(chat("nonce=o tokens=5"));
    return { text: answer.choices[0].message.content, usage: answer.usage.completion_tokens, id: answer._request_id };
  },
  stream: async () => join(await client.chat.completions.create(chat("nonce=o tokens=9", { stream: true })), (c) => c.choices[0]?.delta?.content),
  stream_usage: async () => {
    let usage = null;
    for await (const c of await client.chat.completions.create(chat("nonce=o tokens=9", { stream: true, stream_options: { include_usage: true } })))
      usage = c.usage ?? usage;
    return { usage: usage.completion_tokens };
  },
  tools: async () => {
    const answer = await client.chat.completions.create(chat("nonce=t tools=on", { tools }));
    const called = answer.choices[0].message.tool_calls[0].function;
    return { tool: called.name, input: JSON.parse(called.arguments), finish: answer.choices[0].finish_reason };
  },
  tools_stream: async () => {
    let name = "", args = "";
    for await (const c of await client.chat.completions.create(chat("nonce=t tools=on", { tools, stream: true }))) {
      const call = c.choices[0]?.delta?.tool_calls?.[0];
      name += call?.function?.name ?? "";
      args += call?.function?.arguments ?? "";
    }
    return { tool: name, input: JSON.parse(args) };
  },
  image: async () => {
    const content = [{ type: "text", text: sim("nonce=o tokens=2") }, { type: "image_url", image_url: { url: `data:image/png;base64,${picture}` } }];
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
    return { text: answer.choices[0].message.content };
  },
  embeddings: async () => {
    const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: ["one", "two"] });
    return { count: answer.data.length, length: answer.data[0].embedding.length, finite: answer.data[0].embedding.every(Number.isFinite) };
  },
  responses: async () => ({ text: (await client.responses.create({ model, input: sim("nonce=o tokens=4") })).output_text }),
  responses_stream: async () =>
    join(await client.responses.create({ model, input: sim("nonce=o tokens=4"), stream: true }), (e) => (e.type === "response.output_text.delta" ? e.delta : "")),
  responses_helper: async () => ({ text: (await client.responses.stream({ model, input: sim("nonce=o tokens=4") }).finalResponse()).output_text }),
  helper: async () => {
    const answer = await client.chat.completions.stream(chat("nonce=o tokens=9")).finalChatCompletion();
    return { text: answer.choices[0].message.content };
  },
  completions_stream: async () =>
    join(await client.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: sim("nonce=o tokens=3"), stream: true }), (c) => c.choices[0]?.text),
  completions: async () => ({ text: (await client.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: sim("nonce=o tokens=3") })).choices[0].text }),
  models: async () => {
    const names = [];
    for await (const m of client.models.list()) names.push(m.id);
    return { names, one: (await client.models.retrieve("listed-openai")).id };
  },
  abort: async () => {
    const stream = await client.chat.completions.create(chat("nonce=abort-openai tokens=5000 rate=200", { stream: true }));
    let count = 0;
    for await (const _ of stream) if (++count === 5) stream.controller.abort();
    return { count };
  },
  leave: async () => leave("leave-openai", (signal) => client.chat.completions.create(chat("nonce=leave-openai latency=30s"), { signal })),
  timeout: async () => client.chat.completions.create(chat("latency=30s"), { timeout: 1000 }),
  wrong_key: async () => make("a-key-of-nobody", { maxRetries: 0 }).chat.completions.create(chat("tokens=1")),
  unknown_model: async () => client.chat.completions.create({ ...chat("tokens=1"), model: "no-such-model" }),
  forbidden: async () => make(keys.narrow, { maxRetries: 0 }).chat.completions.create(chat("tokens=1")),
  bad_request: async () => client.chat.completions.create({ model, messages: [{ role: "user", content: "x" }], stream: "yes" }),
  limited: async () => {
    const limited = make(keys.limited_openai, { maxRetries: 0 });
    await limited.chat.completions.create(chat("tokens=1"));
    return limited.chat.completions.create(chat("tokens=1"));
  },
  limited_retry: async () => {
    const limited = make(keys.patient_openai, { maxRetries: 3 });
    for (let i = 0; i < 3; i++) await limited.chat.completions.create(chat("nonce=o tokens=1"));
    return { done: true };
  },
  provider_500: async () => client.chat.completions.create(chat("status=500")),
  sent_once: async () => make(keys.retrying_openai).chat.completions.create(chat("fault=reset")),
  provider_503: async () => client.chat.completions.create(chat("status=503")),
  // of a model of its own: the gateway asks for no other call of it in that second
  provider_429: async () => client.chat.completions.create({ ...chat("status=429 retry=1s"), model: "gpt-4.1" }),
  upstream_broken: async () => client.chat.completions.create(chat("fault=reset")),
  no_marker: async () => join(await client.chat.completions.create(chat("tokens=9 fault=nomarker", { stream: true })), () => ""),
  stalled_stream: async () => join(await client.chat.completions.create(chat("tokens=9 rate=0.1", { stream: true })), () => ""),
  stalled_responses: async () => join(await client.responses.create({ model, input: sim("tokens=9 rate=0.1"), stream: true }), () => ""),
  provider_event: async () => join(await client.chat.completions.create(chat("tokens=9 rate=2 fault=event@1", { stream: true })), () => ""),
  broken_stream: async () => join(await client.chat.completions.create(chat("tokens=50 fault=reset@3000", { stream: true })), () => ""),
});
