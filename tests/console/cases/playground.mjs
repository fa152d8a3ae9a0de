// The playground: every interaction, every form of data, what is remembered, and that text is text.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const HOSTILE = `"><img src=x onerror="document.title='broken'"><script>document.title='broken'</script>\u202eevil\u202c'`;

async function open(t, hash, how) {
  const page = await t.open(`playground/${hash}`, how);
  await page.locator("#send:enabled").waitFor();
  // The routes are there, and the form is not drawn anew any more.
  await page.locator(".routes li, .routes p").first().waitFor({ state: "attached" });
  return page;
}
const frames = (page) => page.locator(".frames tbody tr:not([aria-hidden])").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText)));

export default {
  async "a request is answered, and says why nothing is granted"(t) {
    const page = await open(t, "request/echo");
    await page.locator("#data").fill('{"a":1}');
    await page.locator("#send").click();
    await page.locator('.gauge[data-s="ended"]').waitFor();
    t.is(await page.locator(".sum b").allTextContents(), ["1", "1", "0"]);
    const rows = await frames(page);
    t.is(rows.map((row) => row[2].trim().split(" ")[0]), ["REQUEST_RESPONSE", "PAYLOAD"]);
    t.is(rows[1][7], '{"a":1}');
    await page.getByText("A request carries its one credit with it").waitFor();
  },
  async "a fire-and-forget and a push have no answer"(t) {
    const page = await open(t, "fnf/echo");
    await page.locator("#send").click();
    await page.locator(".frames").getByText("REQUEST_FNF").waitFor();
    t.is(await page.locator(".sum b").allTextContents(), ["0", "0", "0"]);
    await page.getByRole("tab", { name: "Push" }).click();
    await page.getByRole("button", { name: "Add an entry" }).click();
    await page.getByLabel("Value").fill('{"level":"debug"}');
    await page.locator("#send").click();
    await page.locator(".frames").getByText("METADATA_PUSH").waitFor();
    await page.locator(".frames").getByText("debug").waitFor();
  },
  async "a refusal is shown in the words of the service, and a lost route as well"(t) {
    const page = await open(t, "request/no.such.route");
    await page.locator("#send").click();
    await page.locator('.gauge[data-s="failed"]').waitFor();
    const said = await page.locator(".cap").textContent();
    t.ok(/^REJECTED: /.test(said) && said.includes("no.such.route"), said);
    t.is((await frames(page)).at(-1)[2], "ERROR");
    t.is(await t.axe(page), []);
  },
  async "JSON is looked at while it is typed, and sent as it is"(t) {
    const page = await open(t, "request/echo");
    await page.locator("#data").fill('{"a":');
    await page.getByText(/^No JSON: /).waitFor();
    t.is(await page.locator("#data").getAttribute("aria-invalid"), "true");
    await page.locator("#data").fill("[1]");
    await page.getByText("JSON, 3 B").waitFor();
  },
  async "hexadecimal digits and files are sent as bytes"(t) {
    const page = await open(t, "request/echo");
    await page.getByRole("button", { name: "Hex" }).click();
    await page.locator("#data").fill("0f f");
    await page.getByText("Two hexadecimal digits a byte").waitFor();
    await page.locator("#data").fill("68 65 6c6c6f");
    await page.getByText("Bytes, 5 B").waitFor();
    await page.locator("#send").click();
    await page.locator('.gauge[data-s="ended"]').waitFor();
    t.is((await frames(page))[1][7], "hello");
    await page.getByRole("button", { name: "File" }).click();
    await page.locator("#data").setInputFiles({ name: "note.txt", mimeType: "text/plain", buffer: Buffer.from("of a file") });
    await page.getByText("Bytes, 9 B").waitFor();
    await page.locator("#send").click();
    await page.locator(".frames").getByText("of a file").nth(1).waitFor();
  },
  async "the same as a command and as programs, without a secret"(t) {
    const page = await open(t, "stream/range");
    await page.getByRole("button", { name: "Authentication" }).click();
    await page.locator("#token").fill("s3cret-token");
    const code = page.getByLabel("The request as code");
    for (const [name, word] of [["rsock", "--request-n 8"], ["JavaScript", "client.stream("], ["Java", "retrieveFlux"], ["Python", "request_stream"]]) {
      await page.getByRole("tab", { name, exact: true }).click();
      const text = await code.textContent();
      t.ok(text.includes(word) && !text.includes("s3cret"), text);
    }
  },
  async "commands and programs are right, whatever is in them"(t) {
    const { LANGUAGES } = await import(pathToFileURL(path.join(t.options.source, "console/code.js")));
    const { uris } = await t.service();
    const at = { uri: uris.tcp, ws: uris.ws, origin: "http://localhost" };
    const environment = { ...process.env, PATH: `${path.dirname(t.options.rsockd)}:${process.env.PATH}` };
    const odd = `it's "$HOME" \\ \`id\` é`;
    const asks = [];
    for (const kind of ["request", "stream", "fnf", "channel", "push"]) {
      for (const [format, data] of [["json", '{"a":[1,"x"]}'], ["text", odd], ["hex", "68656c6c6f"], ["file", ""]]) {
        for (const hasAuth of [false, true]) asks.push({ kind, route: "echo", data, format, file: `of "${kind}'s`, mime: format === "json" ? "" : "text/plain", n: 8, entries: [["application/json", odd]], hasAuth });
      }
    }
    const [shell, js, , python] = LANGUAGES.map(([, , write]) => write);
    const work = path.join(t.options.work, "code");
    fs.mkdirSync(work, { recursive: true });
    const programs = asks.map((ask) => python(ask, at).replace(/^/gm, "    "));
    fs.writeFileSync(path.join(work, "all.py"), programs.map((text, i) => `async def f${i}(client, token):\n${text}`).join("\n"));
    execFileSync("python3", ["-m", "py_compile", path.join(work, "all.py")]);
    const pages = asks.map((ask) => `async () => {\n${js(ask, at).replace(/^import .*\n/, "")}\n};`);
    fs.writeFileSync(path.join(work, "all.mjs"), pages.join("\n"));
    execFileSync(process.execPath, ["--check", path.join(work, "all.mjs")]);
    for (const ask of asks.filter(({ format, hasAuth }) => format !== "file" && !hasAuth)) {
      execFileSync("sh", ["-n", "-c", shell(ask, at)]);
      if (ask.kind !== "request" || !fs.existsSync(path.join(path.dirname(t.options.rsockd), "rsock"))) continue;
      const said = execFileSync("sh", ["-c", shell(ask, at)], { env: environment, encoding: "utf8" }).trim();
      t.is(said, ask.format === "hex" ? "hello" : ask.data, shell(ask, at));
    }
  },
  async "a hundred requests are remembered, without credentials"(t) {
    const page = await open(t, "request/echo");
    await page.evaluate(() => {
      const old = Array.from({ length: 100 }, (_, i) => ({ kind: "request", route: `old.${i}`, format: "json", n: 8, data: "", entries: [] }));
      localStorage.setItem("rsock.requests", JSON.stringify(old));
    });
    await page.getByRole("button", { name: "Authentication" }).click();
    await page.locator("#token").fill("s3cret-token");
    await page.getByRole("button", { name: "Add an entry" }).click();
    await page.getByLabel("Type").fill("application/x.token");
    await page.getByLabel("Value").fill("s3cret-entry");
    await page.locator("#send").click();
    await page.locator(".frames").getByText("REQUEST_RESPONSE").waitFor();
    const kept = await page.evaluate(() => localStorage.getItem("rsock.requests"));
    t.is([JSON.parse(kept).length, JSON.parse(kept)[0].route, kept.includes("s3cret")], [100, "echo", false]);
    await page.getByRole("tab", { name: "Stream" }).click();
    await page.getByText("Past requests").click();
    await page.getByRole("button", { name: /old\.7$/ }).click();
    t.is(await page.locator("#route").inputValue(), "old.7");
  },
  async "text is only ever text"(t) {
    const page = await open(t, "request/echo");
    await page.locator("#route").fill(HOSTILE);
    await page.locator("#data").fill(HOSTILE);
    await page.locator("#send").click();
    await page.locator('.gauge[data-s="failed"]').waitFor();
    await page.locator("#route").fill("echo");
    await page.locator("#send").click();
    await page.locator('.gauge[data-s="ended"]').waitFor();
    t.ok((await frames(page))[1][7].startsWith('"><img src=x'), "what came is shown as text");
    t.ok(!(await page.locator(".frames").textContent()).includes("\u202e"), "nothing turns the text around");
    await page.goto(`${page.url().split("#")[0]}#/playground/request/${encodeURIComponent(HOSTILE)}`);
    t.is(await page.locator("#route").inputValue(), HOSTILE);
    await page.goto(`${page.url().split("#")[0]}#/playground/%E0%A4%A/%`);
    await page.locator("main h1").waitFor();
    t.is(await page.evaluate(() => [document.querySelectorAll("main img, main script").length, document.title.includes("broken")]), [0, false]);
  },
  async "all of it by keyboard alone"(t) {
    const page = await t.open("overview");
    await page.locator("main h1").waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("p");
    await page.locator("#send:enabled").waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("range");
    t.is(await page.locator(".routes li:visible").count(), 1, "routes in sight");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.locator("#data").focus();
    await page.keyboard.press("Control+Enter");
    await page.locator('.gauge[data-s="holding"]').waitFor();
    for (let i = 0; i < 40 && !(await page.evaluate(() => document.activeElement.matches(".gauge"))); i++) await page.keyboard.press("Tab");
    t.is(await page.evaluate(() => document.activeElement.matches(".gauge")), true, "whether Tab comes to the gauge");
    await page.keyboard.press("8");
    await page.keyboard.press("1");
    await page.waitForFunction(() => document.querySelector(".sum .d b").textContent === "17");
    await page.locator("#say").getByText("17 of 17").waitFor();
    await page.keyboard.press("Escape");
    await page.locator('.gauge[data-s="ended"]').waitFor();
    await page.getByRole("tab", { name: "Stream" }).focus();
    t.is(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "solid", "the mark of the focus");
  },
  async "without motion the figures are the same"(t) {
    const page = await open(t, "stream/range", { motion: "reduce" });
    await page.locator("#data").fill('{"to":1000}');
    await page.locator("#send").click();
    await page.locator('.gauge[data-s="holding"]').waitFor();
    t.is(await page.locator(".sum b").allTextContents(), ["8", "8", "0"]);
    t.is(await page.evaluate(() => document.getAnimations().length), 0, "animations");
  },
  async "what runs looks as it should"(t) {
    for (const kind of ["channel", "request"]) {
      const page = await open(t, `${kind}/echo`);
      await page.locator("#send").click();
      if (kind === "channel") {
        for (let i = 0; i < 3; i++) await page.locator(".compose button[type=submit]:enabled").click();
      }
      await page.waitForTimeout(300);
      for (const width of [1440, 390]) {
        await page.setViewportSize({ width, height: width < 500 ? 844 : 900 });
        await page.evaluate(() => scrollTo(0, 0));
        await t.shot(page, `playground-${kind}-${width}-light`, width < 500);
        t.is([...(await t.axe(page)), ...(await t.overflow(page))], [], `${kind} ${width}`);
      }
    }
  },
};
