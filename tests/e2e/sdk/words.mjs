// What the SDKs make of a status and of the fields that speak of retrying, without any gateway: Sluice's choice of both rests on it, and a
// newer SDK that reads them in another way is seen here. Each case has a server of its own, which answers once as told and then well.
import http from "node:http";
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";
import { told } from "./common.mjs";

const messages = [{ role: "user", content: "x" }];
const calls = {
  openai: (baseURL, maxRetries) => new OpenAI({ apiKey: "k", baseURL, maxRetries }).chat.completions.create({ model: "m", messages }),
  anthropic: (baseURL, maxRetries) => new Anthropic({ apiKey: "k", baseURL, maxRetries }).messages.create({ model: "m", max_tokens: 9, messages }),
  google: (baseUrl, retries) => {
    const retryOptions = retries > 0 ? { attempts: retries + 1 } : undefined;
    return new GoogleGenAI({ apiKey: "k", httpOptions: { baseUrl, retryOptions } }).models.generateContent({ model: "m", contents: "x" });
  },
};
const good = JSON.stringify({ choices: [], content: [], candidates: [] });

async function meet(sdk, { status, fields, retries }) {
  const times = [], told_once = { "Content-Type": "application/json", Connection: "close", ...fields };
  const server = http.createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      times.push(Date.now());
      const first = times.length === 1;
      response.writeHead(first ? status : 200, first ? told_once : { "Content-Type": "application/json", Connection: "close" });
      response.end(first ? JSON.stringify({ type: "error", error: { code: status, message: "no", type: "t", status: "S" } }) : good);
    });
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const outcome = await calls[sdk](`http://127.0.0.1:${server.address().port}`, retries).then(() => ({ good: true }), told);
  await new Promise((closed) => server.close(closed));
  return { ...outcome, times: times.length, waited: times.length > 1 ? times[1] - times[0] : null };
}

const cases = JSON.parse(process.env.SLUICE_SDK).cases;
const results = await Promise.all(cases.map((each) => meet(each.sdk, each)));
console.log(JSON.stringify(results));
