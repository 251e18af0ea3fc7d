// Calls methods of the published client's `sessions` service, one after the other, and prints the
// result or the error of each.
//
// node call.mjs <the client's bundle> <base URL> '[["getSession", "<id>"], …]' [<apiKey>]
// {"Date": "<ISO 8601>"} among the arguments stands for a Date.

import { pathToFileURL } from "node:url";

const [bundle, baseUrl, calls, apiKey] = process.argv.slice(2);
const { ApiError, ElizaClient } = await import(pathToFileURL(bundle));
const { sessions } = ElizaClient.create({ baseUrl, apiKey });

const revived = (_, value) => (value?.Date ? new Date(value.Date) : value);
const outcomes = [];
for (const [method, ...given] of JSON.parse(calls, revived)) {
  try {
    outcomes.push({ returned: await sessions[method](...given) });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { code, status, message, details } = error;
    outcomes.push({ thrown: { code, status, message, details } });
  }
}
console.log(JSON.stringify(outcomes));
