// A charging station's day in the words of words.json, carried by whatever client library speaks for it. What it does
// after the opening is what the CSMS asks; each phase it reaches is a line of JSON on stdout, the last one a report.
import { readFileSync } from "node:fs";

const [, , url, identity, password, version, card] = process.argv;
const words = JSON.parse(readFileSync(new URL("words.json", import.meta.url)))[version === "2.1" ? "2.0.1" : version];

export const subprotocol = `ocpp${version}`;
export const station = { url, identity, password };

const report = { sent: {}, answered: {}, schema_errors: [], refusals: [] };
const known = { $card: card };

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function count(tally, action) {
  tally[action] = (tally[action] ?? 0) + 1;
}

function tellTime(currentTime) {
  const minutesBefore = (minutes) => new Date(Date.parse(currentTime) - minutes * 60_000).toISOString();
  Object.assign(known, { $now: currentTime, $between: minutesBefore(30), $begin: minutesBefore(60) });
}

function said(payload) {
  return JSON.parse(JSON.stringify(payload), (_, value) => (value in known ? known[value] : value));
}

async function send(call, phrases) {
  for (const [action, payload] of phrases) {
    const answer = await call(action, said(payload));
    count(report.sent, action);
    if (action === "BootNotification") tellTime(answer.currentTime);
    if (action === "StartTransaction") known.$transaction = answer.transactionId;
  }
}

export function schemaError(where, error) {
  report.schema_errors.push(`${where}: ${error?.message ?? error} ${JSON.stringify(error?.details ?? "")}`);
}

// `client`: call(action, payload) → answer, handle(action, answer(params)), connect(), close()
export async function play(client) {
  if (version !== "1.6") known.$transaction = "tx-1";
  const ended = new Promise((resolve) => {
    for (const [action, answer] of Object.entries(words.answers)) {
      client.handle(action, () => {
        count(report.answered, action);
        setImmediate(() => follow(action).then((isLast) => isLast && resolve(), refused).catch(resolve));
        return answer;
      });
    }
  });
  const refused = (error) => {
    report.refusals.push(String(error));
    throw error;
  };
  async function follow(action) {
    const phrases = words.after[action] ?? [];
    await send(client.call, phrases);
    if (phrases.length) tell({ followed: action, transaction: known.$transaction });
    return action === words.end[0];
  }
  try {
    await client.connect();
    await send(client.call, words.opening);
    tell({ ready: client.protocol() });
    await ended;
  } catch (error) {
    report.refusals.push(String(error));
  }
  tell({ report });
  await client.close();
}
