// The program of Flutter's recipe for WebSockets, in JavaScript: connect, listen, sink.add, close. By Node.js's ws, or with
// a browser before the address in its page.

import { WebSocket } from "ws";

/** Says the texts, and closes when so many have been heard; gives these. */
function seeds(WebSocket, url, count, texts) {
  return new Promise((resolve, reject) => {
    const channel = new WebSocket(url);
    const heard = [];
    channel.onopen = () => texts.forEach((text) => channel.send(text));
    channel.onmessage = ({ data }) => {
      heard.push(data);
      if (heard.length === count) channel.close(1000);
    };
    channel.onclose = ({ code, reason }) => (code === 1000 ? resolve(heard) : reject(new Error(`${code} ${reason}`)));
  });
}

async function inPage(executablePath, url, ...rest) {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
  const page = await browser.newPage();
  await page.goto(`http://${new URL(url).host}/healthz`);
  const call = ([source, ...args]) => new Function(`return ${source}`)()(WebSocket, ...args);
  const heard = await page.evaluate(call, [String(seeds), url, ...rest]);
  await browser.close();
  return heard;
}

const [browser, url, count, ...texts] = process.argv.slice(2);
const heard = browser === "node" ? seeds(WebSocket, url, Number(count), texts) : inPage(browser, url, Number(count), texts);
console.log(JSON.stringify(await heard));
