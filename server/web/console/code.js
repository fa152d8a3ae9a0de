// A request of the playground as a command and as programs. Credentials are never written: a variable stands for them.

const shell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const quote = JSON.stringify;
const BY_HAND = new Set(["stream", "channel"]);

/** ask: { kind, route, data (text), format, mime, n, entries: [[mime, text]], hasAuth, file }; at: { uri (of the command), ws, origin }. */
export const LANGUAGES = [
  ["rsock", "rsock", command],
  ["js", "JavaScript", javascript],
  ["java", "Java", java],
  ["py", "Python", python],
];

function command({ kind, route, data, format, mime, n, entries, hasAuth, file }, { uri }) {
  const words = [`rsock ${kind} ${uri}`];
  if (kind !== "push") words.push(`-r ${shell(route)}`);
  if (kind !== "push") {
    if (format === "file") words.push(`-d @${shell(file || "FILE")}`);
    else if (format === "hex" || kind === "channel") words.push("-d -");
    else if (data) words.push(`-d ${shell(data)}`);
    if (mime) words.push(`--request-data-mime ${mime}`);
  }
  for (const [type, value] of entries) words.push(`-m ${shell(`${type}=${value}`)}`);
  if (BY_HAND.has(kind)) words.push(`--request-n ${n}`);
  if (hasAuth) words.push("--auth-bearer env:TOKEN");
  const before =
    format === "file" ? "" : format === "hex" ? `echo ${data} | xxd -r -p | ` : kind === "channel" ? `seq 5 | ` : "";
  return before + words.join(" \\\n  ");
}

function javascript({ kind, route, data, format, mime, n, entries, hasAuth }, { ws, origin }) {
  const value =
    format === "json" && data
      ? data
      : format === "hex"
        ? `Uint8Array.from([${(data.match(/../g) ?? []).map((x) => `0x${x}`)}])`
        : format === "file"
          ? "await file.bytes()"
          : quote(data);
  const all = mime ? [...entries, ["message/x.rsocket.mime-type.v0", mime]] : entries;
  const options = [
    all.length && `metadata: { ${all.map(([type, text]) => `${quote(type)}: ${quote(text)}`).join(", ")} }`,
    BY_HAND.has(kind) && `n: ${n}`,
  ].filter(Boolean);
  const args = [quote(route), value, options.length && `{ ${options.join(", ")} }`].filter(Boolean).join(", ");
  const call = {
    request: `const answer = await client.request(${args});\nconsole.log(answer?.text());`,
    fnf: `client.fireAndForget(${args});`,
    stream: `const items = client.stream(${args});\nitems.on({ next: (item) => console.log(item.text()), complete: () => console.log("complete") });\n// whenever it may send more:\nitems.request(8);`,
    channel: `const items = client.channel(${args});\nitems.on({ next: (item) => console.log(item.text()) });\nif (items.sendable > 0) items.send("one more");\nitems.request(8);`,
    push: `client.push({ ${entries.map(([type, text]) => `${quote(type)}: ${quote(text)}`).join(", ")} });`,
  }[kind];
  return `import { connect } from "${origin}/rsocket.mjs";\nconst client = await connect(${quote(ws)}${hasAuth ? ", { auth: { bearer: token } }" : ""});\n${call}`;
}

function java({ kind, route, data, n, entries }) {
  const steps = kind === "push" ? ["metadata(spec -> {})"] : [`route(${quote(route)})`];
  for (const [type, text] of entries) steps.push(`metadata(${quote(text)}, MimeType.valueOf(${quote(type)}))`);
  if (kind === "push")
    return `requester\n    .${steps.slice(1).join("\n    .") || "metadata(…)"}\n    .sendMetadata()\n    .subscribe();`;
  steps.push(kind === "channel" ? `data(Flux.just(${quote(data)}, "one more"))` : `data(${quote(data)})`);
  steps.push(
    ...({ request: ["retrieveMono(String.class)"], fnf: ["send()"] }[kind] ?? [
      "retrieveFlux(String.class)",
      `limitRate(${n})`,
    ]),
  );
  return `// Spring's RSocketRequester\nrequester\n    .${steps.join("\n    .")}\n    .subscribe(${kind === "fnf" ? "" : "System.out::println"});`;
}

function python({ kind, route, data, n, entries }) {
  const call = {
    request: "request_response",
    fnf: "fire_and_forget",
    stream: "request_stream",
    channel: "request_channel",
    push: "metadata_push",
  }[kind];
  const metadata = `composite(${[kind !== "push" && `route(${quote(route)})`, ...entries.map(([type, text]) => `metadata_item(${quote(text)}.encode(), ${quote(type)}.encode())`)].filter(Boolean).join(", ")})`;
  if (kind === "push") return `client.metadata_push(${metadata})`;
  const client = BY_HAND.has(kind) ? "AwaitableRSocket(client)" : "client";
  const wait = kind === "request" || BY_HAND.has(kind);
  return `from rsocket.extensions.helpers import composite, metadata_item, route\n\n${wait ? "answer = await " : ""}${client}.${call}(\n    Payload(${quote(data)}.encode(), ${metadata})${BY_HAND.has(kind) ? `,\n    limit_rate=${n}` : ""})`;
}
