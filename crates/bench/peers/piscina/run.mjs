// node run.mjs THREADS KIND COUNT WINDOW REST_MS < signals and results
//
// Has Piscina do COUNT tasks, WINDOW of them submitted at once, and prints one line of JSON: tasks a second, the times
// from submission to start (nanoseconds), and the seconds of processor time used since it was started. Fails unless
// each task's result comes once and is right.
import { readFileSync } from "node:fs";
import { setTimeout as rest } from "node:timers/promises";
import { Piscina } from "piscina";

const SIGNALS = 16;
const SAMPLES = 1024;
const VALUES = 3;

const [threads, kind, count, window, restMs] = process.argv.slice(2).map((a) => (isNaN(a) ? a : Number(a)));
const [signals, expected] = kind === "transform" ? read(readFileSync(0)) : [[new Uint8Array(56).fill(7)], []];

/** The signals, and what must come of each. */
function read(input) {
  const numbers = new Float64Array(input.buffer.slice(input.byteOffset, input.byteOffset + input.byteLength));
  if (numbers.length !== SIGNALS * (SAMPLES + VALUES)) throw new Error(`${numbers.length} numbers on the input`);
  const parts = (from, size) =>
    Array.from({ length: SIGNALS }, (_, n) => numbers.slice(from + n * size, from + (n + 1) * size));
  return [parts(0, SAMPLES), parts(SIGNALS * SAMPLES, VALUES)];
}

const pool = new Piscina({
  filename: new URL("./task.mjs", import.meta.url).href,
  minThreads: threads,
  maxThreads: threads,
});

function check(number, wanted, { number: got, result }) {
  if (got !== number) throw new Error(`task ${number} has the result of task ${got}`);
  if (kind !== "transform") return;
  const near = (value, n) => Math.abs(value - wanted[n]) <= 1e-9 * Math.max(1, Math.abs(wanted[n]));
  if (!(result.length === VALUES && result.every(near))) throw new Error(`the result of task ${number} is not right`);
}

/** `tasks` tasks; the times from submission to start. */
async function drive(tasks, window, restMs) {
  const waits = new Float64Array(tasks).fill(-1);
  let next = 0;
  async function lane() {
    while (next < tasks) {
      const number = next++;
      if (restMs > 0) await rest(restMs);
      const payload = signals[number % signals.length];
      const submitted = Number(process.hrtime.bigint());
      const done = await pool.run({ kind, number, payload });
      check(number, expected[number % SIGNALS], done);
      if (waits[number] !== -1) throw new Error(`two results of task ${number}`);
      waits[number] = Math.max(0, done.started - submitted);
    }
  }
  await Promise.all(Array.from({ length: window }, lane));
  if (waits.includes(-1)) throw new Error("a task without a result");
  return waits;
}

await drive(Math.min(count, 2000), Math.max(window, threads), 0);
const start = process.hrtime.bigint();
const waits = await drive(count, window, restMs);
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
const { user, system } = process.cpuUsage();
console.log(JSON.stringify({ tasks_per_s: count / seconds, waits: Array.from(waits), cpu_s: (user + system) / 1e6 }));
await pool.destroy();
