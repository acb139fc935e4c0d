// plainjob queues the lines of a file: `plainjob_peer.mjs one|bulk DIR FILE`; says how long the calls took.
//
// It sets `synchronous = NORMAL` itself, which syncs no commit: FULL is set after it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.PEERS, "npm", "package.json"));
const { better, defineQueue } = await import(require.resolve("plainjob"));
const Database = require("better-sqlite3");

const [part, dir, file] = process.argv.slice(2);
const database = new Database(join(dir, "plainjob.db"));
const silent = { error() {}, warn() {}, info() {}, debug() {} };
const queue = defineQueue({ connection: better(database), logger: silent });
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
const payloads = readFileSync(file, "utf8").split("\n").filter(Boolean);
const start = process.hrtime.bigint();
if (part === "bulk") queue.addMany("bench", payloads);
else for (const payload of payloads) queue.add("bench", payload);
console.log(`wall ${Number(process.hrtime.bigint() - start) / 1e9}`);
const jobs = queue.countJobs();
const synchronous = database.pragma("synchronous", { simple: true });
if (jobs !== payloads.length || synchronous !== 2) throw new Error(`${jobs} jobs, synchronous ${synchronous}`);
queue.close();
