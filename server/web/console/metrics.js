// The page of metrics, as Prometheus writes it.

const plain = (text) => text.replace(/\\(.)/g, (_, c) => (c === "n" ? " " : c));

/** Its figures: { name, about, kind, series: [{ labels, value }] }; of a histogram { labels, sum, count }. */
export function parse(text) {
  const families = new Map();
  const of = (name) =>
    families.get(name) ?? families.set(name, { name, about: "", kind: "untyped", series: [] }).get(name);
  for (const line of text.split("\n")) {
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (comment) of(comment[2])[comment[1] === "HELP" ? "about" : "kind"] = plain(comment[3]);
    const [, name, list = "", value] = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    const [, whole, part] = /^(.*)_(bucket|sum|count)$/.exec(name) ?? [];
    const isHistogram = families.get(whole)?.kind === "histogram";
    if (!name || (isHistogram && part === "bucket")) continue;
    const { series } = isHistogram ? families.get(whole) : of(name);
    const labels = [...list.matchAll(/\w+="((?:\\.|[^"\\])*)"/g)].map((label) => plain(label[1])).join(" · ");
    let known = series.find((s) => s.labels === labels);
    if (!known) series.push((known = { labels }));
    known[isHistogram ? part : "value"] = Number(value);
  }
  return [...families.values()];
}
