// npm ocpp-ws-io, strict: every CALL and answer in both directions is checked against its own schemas.
import { readFileSync } from "node:fs";
import { OCPPClient } from "ocpp-ws-io";
import { play, schemaError, station, subprotocol } from "./station.mjs";

const isEncrypted = station.url.startsWith("wss:");
const client = new OCPPClient({
  endpoint: station.url,
  identity: station.identity,
  password: station.password,
  securityProfile: isEncrypted ? 2 : 1,
  ...(isEncrypted && { tls: { ca: readFileSync(process.env.NODE_EXTRA_CA_CERTS) } }),
  protocols: [subprotocol],
  strictMode: true,
  reconnect: false,
  logging: false,
});
client.on("strictValidationFailure", ({ message, error }) => schemaError(JSON.stringify(message), error));
client.on("badMessage", ({ error }) => schemaError("frame", error));

await play({
  call: (action, payload) => client.call(subprotocol, action, payload),
  handle: (action, answer) => client.handle(subprotocol, action, ({ params }) => answer(params)),
  connect: () => client.connect(),
  protocol: () => client.protocol,
  close: () => client.close(),
});
