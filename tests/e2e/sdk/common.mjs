// Runs the scenarios of one SDK, one after the other, and prints a JSON object: name → what the SDK gave, or the error that it raised.
const settings = JSON.parse(process.env.SLUICE_SDK);
export const { url, keys, nonce } = settings;

export const sim = (words) => `[[sim ${words}]]`;

// What an error looks like to an application: the class by which it is caught, and what that class says.
function told(error) {
  const chain = [];
  for (let p = Object.getPrototypeOf(error); p && p.constructor !== Object; p = Object.getPrototypeOf(p)) chain.push(p.constructor.name);
  return { error: chain[0], classes: chain, name: error.name, status: error.status ?? null, code: error.code ?? error.error?.error?.code ?? null,
           message: String(error.message).slice(0, 2000), request_id: error.requestID ?? error.request_id ?? null };
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

export const picture = "A".repeat(5 * 1024 * 1024);
