// npm ocpp-rpc, strict: every CALL and answer in both directions is checked against its own schemas.
import rpc from "ocpp-rpc";
import { play, schemaError, station, subprotocol } from "./station.mjs";

const client = new rpc.RPCClient({
  endpoint: station.url,
  identity: station.identity,
  password: station.password,
  protocols: [subprotocol],
  strictMode: true,
  reconnect: false,
});
client.on("strictValidationFailure", ({ method, error }) => schemaError(method, error));
client.on("badMessage", ({ error }) => schemaError("frame", error));

await play({
  call: (action, payload) => client.call(action, payload),
  handle: (action, answer) => client.handle(action, ({ params }) => answer(params)),
  connect: () => client.connect(),
  protocol: () => client.protocol,
  close: () => client.close(),
});
