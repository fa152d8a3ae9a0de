// Configuration: what is in force, from where, and when a change acts; a file that is loaded, or not; what is counted.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

let files = 0;
async function served(t, text) {
  const file = path.join(t.options.work, `rsockd-${process.pid}-${++files}.toml`);
  fs.writeFileSync(file, text);
  return { file, ...(await t.serve(["--config", file])) };
}
const setting = (page, name) => page.locator(".set tbody tr").filter({ has: page.locator("td:first-child code").getByText(name, { exact: true }) });

export default {
  async "what is set stands out, with where it is from"(t) {
    const { at, file } = await served(t, "# a comment\nmax_connections = 100\n\nmax_streams = 64\n");
    const page = await t.open("config", { at });
    const one = setting(page, "max_connections");
    await one.waitFor();
    const cells = await one.locator("td").allTextContents();
    t.ok(/^100/.test(cells[1]) && /100,?000/.test(cells[1]), `its value and the default: ${cells[1]}`);
    t.ok(cells[2].endsWith(`${path.basename(file)}:2`), `where it is from: ${cells[2]}`);
    t.ok((await setting(page, "setup_timeout").locator("code.def").count()) === 1, "a default is grey");
    await page.getByRole("switch", { name: "Changed ones only" }).check();
    t.is(await setting(page, "setup_timeout").count(), 0);
    await setting(page, "max_streams").waitFor();
    await page.getByRole("switch", { name: "Changed ones only" }).uncheck();
    await page.keyboard.press("Escape");
    await page.locator("h1").focus();
    await page.keyboard.press("/");
    await page.keyboard.type("max_stre");
    t.is(await page.locator(".set tbody tr").count(), 1);
    await page.keyboard.type("xyz");
    await page.getByText("None like that.").waitFor();
  },
  async "a file with a fault is not loaded, and what was in force stays"(t) {
    const { at, file } = await served(t, "max_connections = 100\n");
    const page = await t.open("config", { at, expects: /Failed to load resource/ });
    await setting(page, "max_connections").waitFor();
    fs.writeFileSync(file, 'max_conections = 200\nsetup_timeout = "30"\n');
    await page.getByRole("button", { name: "Reload" }).click();
    const fault = page.getByRole("alert").filter({ hasText: "The file is not loaded" });
    await fault.waitFor();
    t.ok((await fault.textContent()).includes("max_conections"), await fault.textContent());
    await t.shot(page, "config-fault");
    t.is(await t.axe(page), []);
    t.ok(/^100/.test(await setting(page, "max_connections").locator("td").nth(1).textContent()), "the value");
    fs.writeFileSync(file, "max_connections = 300\n");
    await page.getByRole("button", { name: "Reload" }).click();
    await page.getByText(/^Loaded at/).waitFor();
    await setting(page, "max_connections").locator("td").nth(1).getByText("300").waitFor();
    t.is(await fault.count(), 0);
  },
  async "figures with what they mean, and how fast they rise"(t) {
    const { at } = await t.serve();
    const page = await t.open("config/metrics", { at });
    const figure = (name) => page.locator(".fig tbody tr").filter({ has: page.locator("code").getByText(name, { exact: true }) });
    await figure("bytes_out_total").getByText("Bytes written, with the transport's prefixes.").waitFor();
    await figure("bytes_out_total").getByText(/^\+/).waitFor();
    t.is(await figure("violations_total").count(), 0, "those that are 0");
    await page.getByRole("switch", { name: "Without those that are 0" }).uncheck();
    const all = await page.locator(".fig tbody tr").count();
    t.ok(all > 100, `${all} figures`);
    await page.getByRole("searchbox").fill("REQUEST_N");
    await figure("credit_stalls_total").waitFor();
    t.ok((await page.locator(".fig tbody tr").count()) < 10, "found by what it means");
    await page.getByRole("tab", { name: "Metrics" }).focus();
    await page.keyboard.press("ArrowLeft");
    await page.locator(".set").waitFor();
    t.ok(page.url().endsWith("#/config"), page.url());
  },
  async "a page of metrics is read as it is written"(t) {
    const { parse } = await import(pathToFileURL(path.join(t.options.source, "console/metrics.js")));
    const all = parse(`# HELP a_total One \\\\ two\\nthree.
# TYPE a_total counter
a_total{kind="x\\"y",of="z"} 3
a_total{kind="w"} 1e3
# HELP b_seconds How long.
# TYPE b_seconds histogram
b_seconds_bucket{le="1"} 1
b_seconds_sum 2.5
b_seconds_count 5
c_count 7
`);
    t.is(all.map(({ name, kind, about }) => [name, kind, about]), [["a_total", "counter", "One \\ two three."], ["b_seconds", "histogram", "How long."], ["c_count", "untyped", ""]]);
    t.is(all[0].series.map(({ labels, value }) => [labels, value]), [['x"y · z', 3], ["w", 1000]]);
    t.is([all[1].series[0].sum, all[1].series[0].count], [2.5, 5]);
    t.is(all[2].series[0].value, 7);
  },
  async "on a phone and a desk"(t) {
    const { at } = await served(t, 'max_connections = 100\nlisten = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"]\n');
    for (const [width, scheme] of [[1440, "light"], [390, "dark"]]) {
      const page = await t.open("config", { at, width, scheme });
      await setting(page, "max_connections").waitFor();
      // Of rows that are all alike some are enough.
      await page.getByRole("searchbox").fill("connections");
      if (scheme === "light") t.is(await t.axe(page), [], `settings, ${width}`);
      t.is(await t.overflow(page), [], `settings, ${width}`);
      await page.getByRole("searchbox").fill("");
      await t.shot(page, `config-${width}-${scheme}`);
      await page.getByRole("tab", { name: "Metrics" }).click();
      await page.locator(".fig tbody tr").first().waitFor();
      if (scheme === "dark") t.is(await t.axe(page), [], `metrics, ${width}`);
      t.is(await t.overflow(page), [], `metrics, ${width}`);
      await t.shot(page, `metrics-${width}-${scheme}`);
      await page.context().close();
    }
  },
};
