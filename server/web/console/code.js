// A request of the playground as a command and as programs. Credentials are never written: a variable stands for them.
// `ask` is { kind, route, data: text, format, file: its name, mime, n, entries: [[mime, text]], hasAuth },
// `at` is { uri: of the command, ws, origin }.

const quote = (text) => JSON.stringify(text);
/** A word of a shell as it is read back. */
const word = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const joined = (parts, by) => parts.filter(Boolean).join(by);
const isByHand = (kind) => kind === "stream" || kind === "channel";

export const LANGUAGES = [
  ["rsock", "rsock", command],
  ["js", "JavaScript", javascript],
  ["java", "Java", java],
  ["py", "Python", python],
];

function command({ kind, route, data, format, file, mime, n, entries, hasAuth }, { uri }) {
  const isPush = kind === "push";
  const isPiped = !isPush && (format === "hex" || kind === "channel");
  const content = format === "file" ? `@${file || "FILE"}` : isPiped ? "-" : data;
  const words = [
    `rsock ${kind} ${uri}`,
    !isPush && `-r ${word(route)}`,
    !isPush && content && `-d ${word(content)}`,
    !isPush && mime && `--request-data-mime ${mime}`,
    ...entries.map(([type, text]) => `-m ${word(`${type}=${text}`)}`),
    isByHand(kind) && `--request-n ${n}`,
    hasAuth && "--auth-bearer env:TOKEN",
  ];
  const before = !isPiped || format === "file" ? "" : format === "hex" ? `echo ${data} | xxd -r -p | ` : "seq 5 | ";
  return before + joined(words, " \\\n  ");
}

function javascript({ kind, route, data, format, file, mime, n, entries, hasAuth }, { ws, origin }) {
  const bytes = (data.match(/../g) ?? []).map((pair) => `0x${pair}`).join(", ");
  const read = `new Uint8Array(await (await fetch(${quote(file || "FILE")})).arrayBuffer())`;
  const value = { hex: `Uint8Array.of(${bytes})`, file: read, json: data || quote("") }[format] ?? quote(data);
  const metadata = entries.map(([type, text]) => `${quote(type)}: ${quote(text)}`);
  if (mime) metadata.push(`"message/x.rsocket.mime-type.v0": ${quote(String.fromCharCode(mime.length - 1) + mime)}`);
  const options = joined(
    [metadata.length > 0 && `metadata: { ${metadata.join(", ")} }`, isByHand(kind) && `n: ${n}`],
    ", ",
  );
  const args = joined([quote(route), value, options && `{ ${options} }`], ", ");
  const next = "next: (item) => console.log(item.text())";
  const call = {
    request: `const answer = await client.request(${args});\nconsole.log(answer?.text());`,
    fnf: `client.fireAndForget(${args});`,
    stream: `const items = client.stream(${args});\nitems.on({ ${next} });\nitems.request(8); // whenever more may come`,
    channel: `const items = client.channel(${args});\nitems.on({ ${next} });\nif (await items.ready()) items.send("one more");`,
    push: `client.push(metadata); // composite metadata, as bytes`,
  }[kind];
  const auth = hasAuth ? ", { auth: { bearer: token } }" : "";
  return `import { connect } from "${origin}/rsocket.mjs";\nconst client = await connect(${quote(ws)}${auth});\n${call}`;
}

function java({ kind, route, data, format, file, n, entries, hasAuth }) {
  const read = `Files.readAllBytes(Path.of(${quote(file || "FILE")}))`;
  const value = { hex: `HexFormat.of().parseHex(${quote(data)})`, file: read }[format] ?? quote(data);
  const token = '.metadata(new BearerTokenMetadata(token), MimeType.valueOf("message/x.rsocket.authentication.v0"))';
  const answer = { request: ".retrieveMono(String.class)", fnf: ".send()", push: ".sendMetadata()" }[kind];
  const steps = [
    "// Spring's RSocketRequester\nrequester",
    kind !== "push" && `.route(${quote(route)})`,
    hasAuth && kind !== "push" && token,
    ...entries.map(([type, text]) => `.metadata(${quote(text)}, MimeType.valueOf(${quote(type)}))`),
    kind !== "push" && `.data(${kind === "channel" ? `Flux.just(${value}, ${value})` : value})`,
    answer ?? `.retrieveFlux(String.class)\n    .limitRate(${n})`,
    `.subscribe(${kind === "fnf" || kind === "push" ? "" : "System.out::println"});`,
  ];
  return joined(steps, "\n    ");
}

function python({ kind, route, data, format, file, n, entries, hasAuth }) {
  const read = `open(${quote(file || "FILE")}, "rb").read()`;
  const value = { hex: `bytes.fromhex(${quote(data)})`, file: read }[format] ?? `${quote(data)}.encode()`;
  const items = joined(
    [
      kind !== "push" && `route(${quote(route)})`,
      hasAuth && kind !== "push" && "authenticate_bearer(token)",
      ...entries.map(([type, text]) => `metadata_item(${quote(text)}.encode(), ${quote(type)}.encode())`),
    ],
    ", ",
  );
  const imports = "from rsocket.extensions.helpers import authenticate_bearer, composite, metadata_item, route\n";
  if (kind === "push") return `${imports}\nawait client.metadata_push(composite(${items}))`;
  const payload = `Payload(${value}, composite(${items}))`;
  const call = {
    request: "request_response",
    fnf: "fire_and_forget",
    stream: "request_stream",
    channel: "request_channel",
  };
  const limit = isByHand(kind) ? `, limit_rate=${n}` : "";
  const head = `from rsocket.awaitable.awaitable_rsocket import AwaitableRSocket\n${imports}from rsocket.payload import Payload\n`;
  return `${head}\nanswer = await AwaitableRSocket(client).${call[kind]}(\n    ${payload}${limit})`;
}
