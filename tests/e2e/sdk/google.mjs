import { GoogleGenAI } from "@google/genai";
import { join, keys, leave, picture, run, sim, url } from "./common.mjs";

const make = (key, more) => new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url, ...more } });
const client = make(keys.good);
const model = "gemini-2.5-flash";
const ask = (words, config) => ({ model, contents: sim(words), config });
const tools = [{ functionDeclarations: [{ name: "weather", parameters: { type: "OBJECT", properties: { city: { type: "STRING" } } } }] }];

await run({
  plain: async () => {
    const answer = await client.models.generateContent(ask("nonce=g tokens=5"));
    return { text: answer.text, usage: answer.usageMetadata.candidatesTokenCount };
  },
  stream: async () => join(await client.models.generateContentStream(ask("nonce=g tokens=9")), (c) => c.text),
  stream_usage: async () => {
    let usage = null;
    for await (const c of await client.models.generateContentStream(ask("nonce=g tokens=9"))) usage = c.usageMetadata ?? usage;
    return { usage: usage.candidatesTokenCount };
  },
  helper: async () => join(await client.chats.create({ model }).sendMessageStream({ message: sim("nonce=g tokens=9") }), (c) => c.text),
  tools: async () => {
    const answer = await client.models.generateContent(ask("nonce=t tools=on", { tools }));
    return { tool: answer.functionCalls[0].name, input: answer.functionCalls[0].args };
  },
  tools_stream: async () => {
    let tool = "", input = null;
    for await (const c of await client.models.generateContentStream(ask("nonce=t tools=on", { tools }))) {
      tool += c.functionCalls?.[0]?.name ?? "";
      input = c.functionCalls?.[0]?.args ?? input;
    }
    return { tool, input };
  },
  image: async () => {
    const contents = [{ role: "user", parts: [{ inlineData: { mimeType: "image/png", data: picture } }, { text: sim("nonce=g tokens=2") }] }];
    return { text: (await client.models.generateContent({ model, contents })).text };
  },
  embeddings: async () => {
    const answer = await client.models.embedContent({ model: "gemini-embedding-001", contents: ["one", "two"] });
    return { count: answer.embeddings.length, length: answer.embeddings[0].values.length };
  },
  count: async () => ({ count: (await client.models.countTokens({ model, contents: "x y z" })).totalTokens }),
  models: async () => {
    const names = [];
    for await (const m of await client.models.list({ config: { queryBase: true } })) names.push(m.name);
    return { names, one: (await client.models.get({ model: "listed-gemini" })).name };
  },
  abort: async () => {
    const controller = new AbortController();
    let count = 0;
    try {
      for await (const _ of await client.models.generateContentStream(ask("nonce=abort-gemini tokens=5000 rate=200", { abortSignal: controller.signal })))
        if (++count === 5) controller.abort();
    } catch (error) {
      return { count, aborted: error.name };
    }
    return { count };
  },
  leave: async () => leave("leave-gemini", (abortSignal) => client.models.generateContent(ask("nonce=leave-gemini latency=30s", { abortSignal }))),
  bad_request: async () => client.models.generateContent(ask("tokens=1", { maxOutputTokens: "many" })),
  timeout: async () => make(keys.good, { timeout: 1000 }).models.generateContent(ask("latency=30s")),
  wrong_key: async () => make("a-key-of-nobody").models.generateContent(ask("tokens=1")),
  unknown_model: async () => client.models.generateContent({ ...ask("tokens=1"), model: "no-such-model" }),
  forbidden: async () => make(keys.narrow).models.generateContent(ask("tokens=1")),
  limited: async () => {
    const limited = make(keys.limited_gemini);
    await limited.models.generateContent(ask("tokens=1"));
    return limited.models.generateContent(ask("tokens=1"));
  },
  limited_retry: async () => {
    const limited = make(keys.patient_gemini, { retryOptions: { attempts: 5 } });
    for (let i = 0; i < 3; i++) await limited.models.generateContent(ask("tokens=1"));
    return { done: true };
  },
  provider_500: async () => client.models.generateContent(ask("status=500")),
  provider_503: async () => client.models.generateContent(ask("status=503")),
  // of a model of its own: the gateway asks for no other call of it in that second
  provider_429: async () => client.models.generateContent({ ...ask("status=429 retry=1s"), model: "gemini-2.5-pro" }),
  upstream_broken: async () => client.models.generateContent(ask("fault=reset")),
  no_marker: async () => join(await client.models.generateContentStream(ask("tokens=9 fault=nomarker")), () => ""),
  stalled_stream: async () => join(await client.models.generateContentStream(ask("tokens=9 rate=0.1")), () => ""),
  provider_event: async () => join(await client.models.generateContentStream(ask("tokens=9 rate=2 fault=event@1")), () => ""),
  broken_stream: async () => join(await client.models.generateContentStream(ask("tokens=50 fault=reset@3000")), () => ""),
});
