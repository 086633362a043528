// Writes abi/ from forge's output, or with --check says where abi/ differs from it.
"use strict";
const { createHash } = require("crypto");
const { existsSync, readFileSync, readdirSync, writeFileSync } = require("fs");
const { join } = require("path");

const out = join(__dirname, "../build/contracts/out");
const abi = join(__dirname, "abi");
const contracts = readdirSync(join(__dirname, "src"))
  .filter((name) => name.endsWith(".sol"))
  .map((name) => name.slice(0, -".sol".length));

function artefact(contract) {
  const built = JSON.parse(readFileSync(join(out, `${contract}.sol`, `${contract}.json`), "utf8"));
  const { optimizer, evmVersion, metadata, viaIR } = built.metadata.settings;
  const compiler = { version: built.metadata.compiler.version, optimizer, evmVersion, metadata, viaIR: viaIR === true };
  const settings = createHash("sha256").update(JSON.stringify(compiler)).digest("hex");
  const entries = built.abi.map((entry) => `  ${JSON.stringify(entry)}`).join(",\n");
  return `{\n"settings": "${settings}",\n"abi": [\n${entries}\n],\n"bytecode": "${built.bytecode.object}"\n}\n`;
}

const different = contracts.filter((contract) => {
  const path = join(abi, `${contract}.json`);
  return !existsSync(path) || readFileSync(path, "utf8") !== artefact(contract);
});
if (process.argv.includes("--check")) {
  for (const contract of different) console.error(`abi/${contract}.json differs from a fresh build: make contracts-abi`);
  process.exitCode = different.length ? 1 : 0;
} else {
  for (const contract of different) writeFileSync(join(abi, `${contract}.json`), artefact(contract));
  console.log(`abi/ holds ${contracts.length} contracts, ${different.length} of them changed`);
}
