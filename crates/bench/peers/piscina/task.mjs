// What a worker thread does: nothing, or window, FFT and search of the peak; the same as `transform` in
// crates/bench/src/pool/task.rs. The FFT is a plain radix-2 one.

/** What is kept from one transform to the next of the same length. */
function plan(samples) {
  const bits = Math.log2(samples);
  if (!Number.isInteger(bits)) throw new Error(`${samples} samples are no power of two`);
  const window = new Float64Array(samples);
  const cos = new Float64Array(samples / 2);
  const sin = new Float64Array(samples / 2);
  const reversed = new Uint32Array(samples);
  for (let n = 0; n < samples; n++) {
    window[n] = 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / samples);
    reversed[n] = (reversed[n >> 1] >> 1) | ((n & 1) << (bits - 1));
  }
  for (let n = 0; n < samples / 2; n++) {
    cos[n] = Math.cos((2 * Math.PI * n) / samples);
    sin[n] = -Math.sin((2 * Math.PI * n) / samples);
  }
  return { samples, window, cos, sin, reversed, re: new Float64Array(samples), im: new Float64Array(samples) };
}

let kept;

function transform(signal) {
  const samples = signal.length;
  if (kept?.samples !== samples) kept = plan(samples);
  const { window, cos, sin, reversed, re, im } = kept;
  for (let n = 0; n < samples; n++) re[reversed[n]] = signal[n] * window[n];
  im.fill(0);
  for (let half = 1; half < samples; half *= 2) {
    const step = samples / (2 * half);
    for (let start = 0; start < samples; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const a = start + k;
        const b = a + half;
        const c = cos[k * step];
        const s = sin[k * step];
        const x = re[b] * c - im[b] * s;
        const y = re[b] * s + im[b] * c;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
  let index = 0;
  let power = -1;
  for (let n = 0; n <= samples / 2; n++) {
    const here = re[n] * re[n] + im[n] * im[n];
    if (here >= power) [index, power] = [n, here];
  }
  return Float64Array.of(index, (4 * Math.sqrt(power)) / samples, Math.atan2(im[index], re[index]));
}

export default function ({ kind, number, payload }) {
  // CLOCK_MONOTONIC, the same in all threads.
  const started = Number(process.hrtime.bigint());
  return { number, started, result: kind === "transform" ? transform(payload) : undefined };
}
