// ocpp-ws-io imports these names even where `logging: false` means that it never calls them.
function neverLogs() {
  throw new Error("logging is switched off");
}

export const consoleTransport = neverLogs;
export const createLogger = neverLogs;
export const prettyTransport = neverLogs;
