// Runs an exported model in onnxruntime-web: node infer.mjs MODULES MODEL INPUTS OUTPUTS
// Inputs and outputs are JSON: {name: {type, dims, data}}, data being base64 of little-endian values.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";

const [modules, model, inputs, outputs] = process.argv.slice(2);
const ort = createRequire(`${modules}/`)("onnxruntime-web");
ort.env.wasm.numThreads = 1;

const kinds = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };
const feeds = {};
for (const [name, { type, dims, data }] of Object.entries(JSON.parse(readFileSync(inputs)))) {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  feeds[name] = new ort.Tensor(type, new kinds[type](bytes.buffer), dims);
}
const session = await ort.InferenceSession.create(readFileSync(model), { logSeverityLevel: 3 });
const found = await session.run(feeds);
const said = {};
for (const [name, { type, dims, data }] of Object.entries(found)) {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  said[name] = { type, dims, data: bytes.toString("base64") };
}
writeFileSync(outputs, JSON.stringify(said));
