import Anthropic from "@anthropic-ai/sdk";
import { join, keys, leave, picture, run, sim, url } from "./common.mjs";

const make = (key, more) => new Anthropic({ apiKey: key, baseURL: url, ...more });
const client = make(keys.good, { maxRetries: 0 });
const model = "claude-sonnet-4-5";
const ask = (words, more) => ({ model, max_tokens: 8000, messages: [{ role: "user", content: sim(words) }], ...more });
const tools = [{ name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];

await run({
  plain: async () => {
    const answer = await client.messages.create(ask("nonce=a tokens=5"));
    return { text: answer.content[0].text, usage: answer.usage.output_tokens, id: answer._request_id };
  },
  stream: async () => join(await client.messages.create(ask("nonce=a tokens=9", { stream: true })), (e) => e.delta?.text),
  stream_final: async () => ({ usage: (await client.messages.stream(ask("nonce=a tokens=9")).finalMessage()).usage.output_tokens }),
  helper: async () => ({ text: await client.messages.stream(ask("nonce=a tokens=9")).finalText() }),
  tools: async () => {
    const answer = await client.messages.create(ask("nonce=t tools=on", { tools }));
    const use = answer.content.find((b) => b.type === "tool_use");
    return { tool: use.name, input: use.input, finish: answer.stop_reason };
  },
  tools_stream: async () => {
    const answer = await client.messages.stream(ask("nonce=t tools=on", { tools })).finalMessage();
    const use = answer.content.find((b) => b.type === "tool_use");
    return { tool: use.name, input: use.input };
  },
  image: async () => {
    const content = [{ type: "image", source: { type: "base64", media_type: "image/png", data: picture } }, { type: "text", text: sim("nonce=a tokens=2") }];
    return { text: (await client.messages.create({ model, max_tokens: 100, messages: [{ role: "user", content }] })).content[0].text };
  },
  count: async () => ({ count: (await client.messages.countTokens({ model, messages: [{ role: "user", content: "x y z" }] })).input_tokens }),
  models: async () => {
    const names = [];
    for await (const m of client.models.list()) names.push(m.id);
    return { names, one: (await client.models.retrieve("listed-anthropic")).id };
  },
  abort: async () => {
    const stream = await client.messages.create(ask("nonce=abort-anthropic tokens=5000 rate=200", { stream: true }));
    let count = 0;
    for await (const _ of stream) if (++count === 5) stream.controller.abort();
    return { count };
  },
  leave: async () => leave("leave-anthropic", (signal) => client.messages.create(ask("nonce=leave-anthropic latency=30s"), { signal })),
  timeout: async () => client.messages.create(ask("latency=30s"), { timeout: 1000 }),
  wrong_key: async () => make("a-key-of-nobody", { maxRetries: 0 }).messages.create(ask("tokens=1")),
  unknown_model: async () => client.messages.create({ ...ask("tokens=1"), model: "no-such-model" }),
  forbidden: async () => make(keys.narrow, { maxRetries: 0 }).messages.create(ask("tokens=1")),
  bad_request: async () => client.messages.create({ model, max_tokens: "many", messages: [] }),
  limited: async () => {
    const limited = make(keys.limited_anthropic, { maxRetries: 0 });
    await limited.messages.create(ask("tokens=1"));
    return limited.messages.create(ask("tokens=1"));
  },
  limited_retry: async () => {
    const limited = make(keys.patient_anthropic, { maxRetries: 3 });
    for (let i = 0; i < 3; i++) await limited.messages.create(ask("tokens=1"));
    return { done: true };
  },
  provider_500: async () => client.messages.create(ask("status=500")),
  sent_once: async () => make(keys.retrying_anthropic).messages.create(ask("fault=reset")),
  provider_503: async () => client.messages.create(ask("status=503")),
  // of a model of its own: the gateway asks for no other call of it in that second
  provider_429: async () => client.messages.create({ ...ask("status=429 retry=1s"), model: "claude-opus-4-1" }),
  provider_529: async () => client.messages.create(ask("status=529")),
  upstream_broken: async () => client.messages.create(ask("fault=reset")),
  no_marker: async () => join(await client.messages.create(ask("tokens=9 fault=nomarker", { stream: true })), () => ""),
  stalled_stream: async () => join(await client.messages.create(ask("tokens=9 rate=0.1", { stream: true })), () => ""),
  provider_event: async () => join(await client.messages.create(ask("tokens=9 rate=2 fault=event@1", { stream: true })), () => ""),
  broken_stream: async () => join(await client.messages.create(ask("tokens=50 fault=reset@3000", { stream: true })), () => ""),
});
