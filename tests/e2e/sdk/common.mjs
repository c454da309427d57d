// Runs the scenarios of one SDK, one after the other, and prints a JSON object: name → what the SDK gave, or the error that it raised.
const settings = JSON.parse(process.env.SLUICE_SDK);
export const { url, keys, provider } = settings;

export const sim = (words) => `[[sim ${words}]]`;

// Google's SDK leaves the body's JSON in the message, behind its own words for an error inside a stream.
function google(error) {
  const at = error.name === "ApiError" ? error.message.indexOf("{") : -1;
  const body = at < 0 ? {} : JSON.parse(error.message.slice(at)).error;
  const detail = (name) => body.details?.find((d) => d["@type"].endsWith(name)) ?? {};
  return { code: detail("ErrorInfo").reason?.toLowerCase(), type: body.status, request_id: detail("RequestInfo").requestId };
}

// What an error looks like to an application: the class by which it is caught, and what that class says.
export function told(error) {
  const chain = [], body = error.error?.error ?? {}, from_google = google(error);
  for (let p = Object.getPrototypeOf(error); p && p.constructor !== Object; p = Object.getPrototypeOf(p)) chain.push(p.constructor.name);
  return { error: chain[0], classes: chain, name: error.name, status: error.status ?? null, code: error.code ?? body.code ?? from_google.code ?? null,
           type: body.type ?? error.type ?? from_google.type ?? null, message: String(error.message).slice(0, 2000),
           request_id: error.requestID ?? from_google.request_id ?? null };
}

export async function run(scenarios) {
  const results = {};
  for (const [name, scenario] of Object.entries(scenarios)) {
    const began = Date.now();
    try {
      results[name] = { ...(await scenario()), ms: Date.now() - began };
    } catch (error) {
      results[name] = { ...told(error), ms: Date.now() - began };
    }
  }
  console.log(JSON.stringify(results));
}

export async function join(stream, piece) {
  let text = "", count = 0;
  for await (const event of stream) { text += piece(event) ?? ""; count++; }
  return { text, count };
}

// Makes the call of this nonce and aborts it once the provider has it: it, not one before it that is still being ended.
export async function leave(nonce, call) {
  const controller = new AbortController();
  const left = call(controller.signal);
  const has_it = async () => (await (await fetch(`${provider}/__sim/arrivals`)).json()).arrivals.some((call) => call.includes(nonce));
  while (!(await has_it())) await new Promise((later) => setTimeout(later, 10));
  controller.abort();
  return left;
}

export const picture = "A".repeat(5 * 1024 * 1024);
