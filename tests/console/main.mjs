// Runs the cases: each has a page of its own, and anything that its console is told of, or that breaks its policy, is a failure.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { start, tap } from "./service.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const names = ["rsockd", "browser", "shots", "source", "work", "only", "web"];
const { values: options } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: "string" }])) });
const LIMIT = 120_000;
const AXE = fs.readFileSync(path.join(HERE, "node_modules/axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: options.browser,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
let shared;

/** A case: what it is given. `open(hash, how)` gives a page; how: { width, scheme, locale, at: a tap }. */
class Case {
  #ends = [];
  #problems = [];
  options = options;

  /** The service that cases share. */
  async service() {
    // One for both workers, which ask at once.
    shared ??= start(options.rsockd);
    return shared;
  }
  /** The same with a tap of one's own. */
  async tap() {
    return this.#tapped(await this.service());
  }
  /** A service of one's own: { service, at }. */
  async serve(flags = []) {
    const service = await start(options.rsockd, flags);
    this.#ends.push(() => service.stop());
    return { service, at: await this.#tapped(service) };
  }
  async #tapped(service) {
    const at = await tap(service, options.web);
    this.#ends.push(() => at.close());
    return at;
  }
  async open(hash, { width = 1440, height = width < 500 ? 844 : 900, scheme = "light", locale = "en", at, expects = /^$/, motion = "no-preference" } = {}) {
    at ??= await this.tap();
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, locale, reducedMotion: motion });
    this.#ends.push(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const problem = (text) => expects.test(text) || this.#problems.push(text);
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && problem(`${message.text()} ${message.location().url}`));
    page.on("pageerror", (error) => problem(`${error.stack}`));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
    });
    await page.goto(`${at.origin}/#/${hash}`);
    return Object.assign(page, { tapped: at });
  }
  /** Serious findings of axe, as sentences. */
  async axe(page) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} (${node.any[0]?.message ?? node.html})`).join("; ")}`);
  }
  /** Finds what is wider than the page, or cut off although it should not be. */
  async overflow(page) {
    return page.evaluate(() => {
      const wide = document.documentElement.scrollWidth > innerWidth ? [`the page is ${document.documentElement.scrollWidth} wide`] : [];
      const isHidden = (e) => e.closest(".vh, .cells, .scroll, nav, .tape, [hidden]");
      for (const e of document.querySelectorAll("main button, main label, main h1, main h2, main th, main .tabs, nav a, .foot *, .state, .cap")) {
        if (e.clientWidth && e.scrollWidth > e.clientWidth + 1 && !isHidden(e) && e.tagName !== "SELECT") wide.push(`${e.tagName} "${e.textContent.slice(0, 30)}" has ${e.clientWidth} of ${e.scrollWidth}`);
      }
      return wide;
    });
  }
  async shot(page, name, full = false) {
    await page.screenshot({ path: path.join(options.shots, `${name}.png`), fullPage: full, animations: "disabled" });
  }
  is(actual, expected, what = "") {
    const [a, b] = [actual, expected].map((value) => JSON.stringify(value));
    if (a !== b) throw new Error(`${what} is ${a}, not ${b}`);
  }
  ok(holds, what) {
    if (!holds) throw new Error(what);
  }
  async end() {
    for (const end of this.#ends.reverse()) await end();
    if (this.#problems.length) throw new Error(`the page says: ${this.#problems.slice(0, 5).join("\n  ")}`);
  }
}

async function run(work) {
  const one = new Case();
  let timer;
  const limit = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`no end after ${LIMIT} ms`)), LIMIT)));
  const failures = [];
  await Promise.race([Promise.resolve(one).then(work), limit]).catch((error) => failures.push(error));
  clearTimeout(timer);
  await one.end().catch((error) => failures.push(error));
  if (failures.length) throw failures[0];
}

const cases = [];
for (const file of fs.readdirSync(path.join(HERE, "cases")).sort()) {
  const { default: list } = await import(pathToFileURL(path.join(HERE, "cases", file)));
  for (const [name, work] of Object.entries(list)) cases.push([`${path.basename(file, ".mjs")}: ${name}`, work]);
}
const counts = { ok: 0, FAIL: 0 };
const queue = cases.filter(([name]) => name.includes(options.only));
async function worker() {
  for (let next = queue.shift(); next; next = queue.shift()) {
    const [name, work] = next;
    const begun = Date.now();
    const error = await run(work).then(() => null, (error) => error);
    counts[error ? "FAIL" : "ok"] += 1;
    const time = `${((Date.now() - begun) / 1000).toFixed(1)} s`;
    console.log(error ? `FAIL ${name}, ${time}: ${error.stack.split("\n").filter((text) => !text.includes("node_modules")).slice(0, 14).join("\n  ")}` : `ok ${name}, ${time}`);
  }
}
await Promise.all([worker(), worker()]);
await browser.close();
await (await shared)?.stop();
console.log(`console: ${counts.ok} passed, ${counts.FAIL} failed, 0 skipped`);
process.exit(counts.FAIL ? 1 : 0);
