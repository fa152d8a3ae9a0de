// A member of a room by Node.js's ws.

import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { talk } from "./talk.mjs";

const tell = (it) => console.log(JSON.stringify(it));
const { say, leave } = talk(WebSocket, ...process.argv.slice(2), tell);
createInterface({ input: process.stdin }).on("line", say).on("close", leave);
