// ioredis against a running cluster: plain, pipelined, in cluster mode, and through the death of a node.
// node check.js PORT…: prints a line for each step; after "ready" it writes until a line on stdin says that a node was killed,
// and goes on for a while. It exits with 1 at the first thing that is not as it should be.
const assert = require("node:assert");
const readline = require("node:readline");
const Redis = require("ioredis");

const ports = process.argv.slice(2).map(Number);
const KEYS = 300;
const AFTER_MS = 3000;

const step = (text) => console.log(text);

async function plain() {
  const one = new Redis(ports[0]);
  const other = new Redis(ports[1]);
  assert.equal(await one.set("node:greeting", "hello", "EX", 1000), "OK");
  assert.equal(await other.get("node:greeting"), "hello");
  assert.equal(await one.append("node:greeting", " there"), 11);
  assert.equal(await one.del("node:greeting"), 1);
  assert.equal(await other.get("node:greeting"), null);
  step("plain");

  const writes = one.pipeline();
  for (let n = 0; n < KEYS; n++) writes.set(`node:p:${n}`, `${n}`);
  for (const [error, reply] of await writes.exec()) assert.deepEqual([error, reply], [null, "OK"]);
  const names = Array.from({ length: KEYS }, (_, n) => `node:p:${n}`);
  assert.deepEqual(await other.mget(names), names.map((_, n) => `${n}`));
  const batch = await one.multi().set("node:m", "1").append("node:m", "2").get("node:m").exec();
  assert.deepEqual(batch, [[null, "OK"], [null, 2], [null, "12"]]);
  step("pipelined");
  one.disconnect();
  other.disconnect();
}

async function cluster() {
  const many = new Redis.Cluster([{ host: "127.0.0.1", port: ports[0] }], { clusterRetryStrategy: () => 50 });
  for (let n = 0; n < KEYS; n++) assert.equal(await many.set(`node:c:${n}`, `${n}`), "OK");
  for (let n = 0; n < KEYS; n++) assert.equal(await many.get(`node:c:${n}`), `${n}`);
  const sizes = await Promise.all(many.nodes("master").map((node) => node.dbsize()));
  const one = new Redis(ports[0]);
  assert.equal(sizes.reduce((sum, size) => sum + size, 0), await one.dbsize());
  one.disconnect();
  step("cluster mode");
  return many;
}

async function throughKill(many) {
  let killedAt = 0;
  readline.createInterface({ input: process.stdin }).once("line", () => (killedAt = Date.now()));
  const written = new Map();
  let errors = 0;
  let last = "";
  step("ready");
  for (let n = 0; !killedAt || Date.now() < killedAt + AFTER_MS; n++) {
    const key = `node:k:${n % 1000}`;
    try {
      await many.set(key, `${n}`);
      written.set(key, `${n}`);
    } catch (error) {
      errors += 1;
      last = `${error}`;
      written.delete(key); // its outcome is unknown
    }
  }
  for (const [key, value] of written) assert.equal(await many.get(key), value);
  assert.ok(written.size > 100, "it wrote");
  assert.ok(errors <= 5, `${errors} errors, the last: ${last}`);
  step(`survived: ${errors} errors`);
}

(async () => {
  await plain();
  const many = await cluster();
  await throughKill(many);
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
