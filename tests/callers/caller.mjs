// Node's fetch: node caller.mjs URL
const [base] = process.argv.slice(2);
const json = { "Content-Type": "application/json" };

async function call(method, path, headers, body) {
  const answer = await fetch(base + path, { method, headers, body });
  console.log(`${await answer.text()}\n${answer.status} ${answer.headers.get("x-request-id")}`);
  // A call in the very step in which the one before ended would find its connection not free yet, whatever the server:
  // fetch then takes turns with two.
  await new Promise(setImmediate);
}

await call("PUT", "/v2/customer_sessions/cart%2F1", { ...json, "X-Request-Id": "from-caller" }, process.env.SESSION);
await call("GET", "/v2/customer_sessions/cart%2F1", {});
await call("POST", "/v2/events", json, process.env.EVENT);
