// Opens pages in Chromium and calls their functions. A line of JSON on standard input is
// {"url": "<page>", "scripts": ["<file>", …], "call": "<function of the page>", "with": [<argument>, …]},
// and its result on standard output {"returned": <value>} or {"thrown": "<message>"}.
//
// node browse.mjs <folder of playwright-core> <Chromium> <new folder for its profile>

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const [folder, executablePath, profile] = process.argv.slice(2);
const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");

const browser = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
  ],
});

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const page = await browser.newPage();
  let answer;
  try {
    await page.goto(asked.url);
    for (const path of asked.scripts) await page.addScriptTag({ path });
    const call = ([name, args]) => globalThis[name](...args);
    answer = { returned: await page.evaluate(call, [asked.call, asked.with]) };
  } catch (error) {
    answer = { thrown: error.message };
  }
  await page.close();
  console.log(JSON.stringify(answer));
}
await browser.close();
