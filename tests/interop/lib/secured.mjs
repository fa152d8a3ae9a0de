// What the runner tells a peer about a service behind TLS that asks for credentials.

import { readFileSync } from "node:fs";

const { INTEROP_CA, INTEROP_AUTH } = process.env;

/** The authority to trust in place of those that Node.js knows. */
export const authority = INTEROP_CA && readFileSync(INTEROP_CA);

/** The kind of the credentials for SETUP and their parts, or undefined. */
export const credentials = INTEROP_AUTH?.split(":");

/** Whether a URI's scheme is one of TLS, and whether of WebSocket. */
export const isSecure = (uri) => /^(tls|wss):/.test(uri);
export const isWebSocket = (uri) => /^wss?:/.test(uri);
