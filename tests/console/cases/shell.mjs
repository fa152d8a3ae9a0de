// What is around the screens: languages, colours, keys, the state of the line, signing in, draining; and all screens to look at.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const SCREENS = ["overview", "playground", "rooms", "topics", "connections", "config"];
const sources = ({ options }) => {
  const folder = path.join(options.source, "console");
  return fs.readdirSync(folder).map((name) => path.join(folder, name));
};
async function settled(page) {
  await page.locator("main h1").waitFor();
  await page.waitForFunction(() => !document.querySelector("[aria-busy=true]"));
}

const cases = {
  "no text in it goes over several lines, which are served without their indentation"(t) {
    for (const file of sources(t).filter((name) => name.endsWith(".js"))) {
      fs.readFileSync(file, "utf8").split("\n").forEach((text, i) => {
        const isComment = /^\s*(\/\/|\/?\*)/.test(text);
        t.ok(isComment || text.split("`").length % 2, `${path.basename(file)}:${i + 1}: ${text.trim()}`);
      });
    }
  },
  async "every text is there in Korean and in Japanese"(t) {
    const all = sources(t).filter((file) => file.endsWith(".js")).map((file) => fs.readFileSync(file, "utf8"));
    const known = new Map();
    for (const text of all) {
      for (const [, list] of text.matchAll(/^words\((\{[\s\S]*?\n\})\);/gm)) {
        for (const [key, others] of Object.entries(new Function(`return ${list}`)())) known.set(key, others);
      }
    }
    const missing = new Set();
    for (const text of all) {
      for (const [, string] of text.matchAll(/\bt{1,2}\(\s*("(?:[^"\\]|\\.)*")/g)) if (!known.has(JSON.parse(string))) missing.add(string);
      for (const [, a, b] of text.matchAll(/\bt{1,2}\([^"()]*\? ("(?:[^"\\]|\\.)*")\s*: ("(?:[^"\\]|\\.)*")/g)) for (const string of [a, b]) if (!known.has(JSON.parse(string))) missing.add(string);
    }
    t.is([...missing], [], "texts without a translation");
    const names = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    for (const [key, others] of known) {
      t.ok(others.length === 2 && others.every(Boolean), `“${key}” has ${others.length} translations`);
      for (const other of others) t.is(names(other), names(key), `what is filled in, in “${other}”`);
    }
  },
  "nothing in it reads markup or runs text"(t) {
    const WRONG = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.style\.cssText|setAttribute\("style|\son[a-z]+="|https?:\/\/(?!www\.w3\.org|\$)/;
    for (const file of sources(t)) {
      for (const text of fs.readFileSync(file, "utf8").split("\n")) t.ok(!WRONG.test(text) || text.trim().startsWith("//") || text.includes("ws://") , `${path.basename(file)}: ${text.trim().slice(0, 120)}`);
    }
  },
  async "keys lead to every screen, and the focus goes with them"(t) {
    const page = await t.open("overview");
    await settled(page);
    for (const [key, name] of [["p", "Playground"], ["t", "Topics"], ["c", "Connections"], ["s", "Configuration"], ["r", "Rooms"], ["o", "Overview"]]) {
      await page.keyboard.press("g");
      await page.keyboard.press(key);
      await page.locator(`nav [aria-current]`, { hasText: name }).waitFor();
      await page.waitForFunction(() => document.activeElement.tagName === "H1");
    }
    await page.keyboard.press("?");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    await page.evaluate(() => document.activeElement.blur());
    await page.reload();
    await page.keyboard.press("Tab");
    t.is(await page.evaluate(() => document.activeElement.id), "skip", "the first stop");
    await page.keyboard.press("Enter");
    t.is(await page.evaluate(() => document.activeElement.id), "main", "behind the navigation");
  },
  async "the colours and the language that were chosen stay"(t) {
    const page = await t.open("overview", { locale: "ja-JP" });
    await page.getByRole("heading", { name: "概要" }).waitFor();
    await page.locator("#lang").selectOption("ko");
    await page.getByRole("heading", { name: "개요" }).waitFor();
    await page.locator("#theme").selectOption("dark");
    await page.reload();
    await page.getByRole("heading", { name: "개요" }).waitFor();
    t.is(await page.evaluate(() => [document.documentElement.lang, getComputedStyle(document.body).colorScheme, document.documentElement.dataset.theme]), ["ko", "dark", "dark"]);
  },
  async "a lost line is said, waited for, and found again"(t) {
    const page = await t.open("playground/stream/clock", { expects: /Failed to load|WebSocket|ERR_/ });
    await page.locator("#send:enabled").click();
    await page.locator(".cells .d").first().waitFor();
    page.tapped.cut();
    await page.getByText("The connection is lost.").waitFor();
    await page.getByText(/Trying again/).waitFor();
    await page.locator('.gauge[data-s="failed"]').waitFor();
    t.is(await page.locator("#send").isDisabled(), true, "whether Send is off");
    await page.goto(`${page.url().split("#")[0]}#/overview`);
    await t.shot(page, "lost-1440-light");
    t.is(await t.axe(page), []);
    await page.getByRole("button", { name: "Try now" }).click();
    await page.getByText("The connection is lost.").waitFor();
    page.tapped.mend();
    await page.locator(".foot").getByText("Connected").waitFor();
    await page.getByText("The connection is lost.").waitFor({ state: "detached" });
    const before = await page.locator(".strip .fig b").first().textContent();
    t.ok(Number(before) >= 1, `connections: ${before}`);
  },
  async "who has to sign in does, and what was typed stays in the page"(t) {
    const secret = "correct horse battery staple";
    const users = path.join(t.options.work, `users-${process.pid}.toml`);
    const access = path.join(t.options.work, `access-${process.pid}.toml`);
    execFileSync(t.options.rsockd, ["user", "add", users, "ann", "--roles", "ops"], { input: `${secret}\n` });
    const grant = ["[[grant]]", 'roles = ["ops"]', 'allow = ["console", "metrics", "admin"]', "[[grant]]", 'roles = ["ops"]', 'allow = ["request"]', 'routes = [">"]'];
    fs.writeFileSync(access, ["[auth.users]", `file = "${users}"`, ...grant].join("\n"), { mode: 0o600 });
    const { at } = await t.serve(["--access", access]);
    const page = await t.open("overview", { at, expects: /401/ });
    await page.getByText("This service asks who you are.").waitFor();
    await t.shot(page, "sign-in-1440-light");
    t.is(await t.axe(page), []);
    await page.getByLabel("Name", { exact: true }).fill("ann");
    await page.getByLabel("Password", { exact: true }).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("authentication failed").waitFor();
    await page.getByLabel("Password", { exact: true }).fill(secret);
    await page.keyboard.press("Enter");
    await page.locator(".strip").first().waitFor();
    t.is(await page.locator(".who span").first().textContent(), "ann");
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    t.ok(!/ann|horse|YW5u/.test(kept), kept);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("This service asks who you are.").waitFor();
  },
  async "draining is said on every screen"(t) {
    const { service, at } = await t.serve(["--drain-limit", "20s"]);
    const page = await t.open("overview", { at, expects: /Failed to load|WebSocket|ERR_/ });
    await settled(page);
    service.signal("SIGTERM");
    await page.getByText("Draining.").waitFor();
    await t.shot(page, "draining-1440-light");
    t.is(await t.axe(page), []);
    await page.locator("nav a").nth(1).click();
    await page.getByText("Draining.").waitFor();
  },
};

const LOOKS = [
  ["light", 1440],
  ["dark", 1440],
  ["dark", 390],
  ["light", 390],
];
const sized = (page, width) => page.setViewportSize({ width, height: width < 500 ? 844 : 900 });

for (const screen of SCREENS) {
  cases[`${screen} in both schemes and widths`] = async (t) => {
    const page = await t.open(screen);
    await settled(page);
    if (screen === "playground") {
      await page.locator("#send:enabled").click();
      await page.locator('.gauge[data-s="holding"]').waitFor();
    } else if (screen === "overview") await page.waitForTimeout(2200); // for a line to be one
    const found = [];
    for (const [scheme, width] of LOOKS) {
      await page.emulateMedia({ colorScheme: scheme });
      await sized(page, width);
      await page.evaluate(() => scrollTo(0, 0));
      await t.shot(page, `${screen}-${width}-${scheme}`, width < 500);
      found.push(...(await t.axe(page)), ...(await t.overflow(page)));
    }
    // As wide as the narrowest phone, or a page at four times its size.
    await sized(page, 320);
    found.push(...(await t.overflow(page)).filter((what) => what.startsWith("the page")));
    t.is(found, []);
  };
  cases[`${screen} in Korean and Japanese`] = async (t) => {
    const page = await t.open(screen, { locale: "ko" });
    for (const language of ["ko", "ja"]) {
      await page.locator("#lang").selectOption(language);
      await settled(page);
      for (const width of [1440, 390]) {
        await sized(page, width);
        await t.shot(page, `${screen}-${width}-${language}`, width < 500);
        t.is(await t.overflow(page), [], `${language}, ${width}`);
      }
    }
  };
}
export default cases;
