//! Tables of what was measured of topics.

use std::fmt::Write;

use serde_json::Value;

use crate::{report, special::figure as shown};

/// A column of a table: its heading, the figure, and the digits behind its point, if it is not rounded.
type Column = (&'static str, &'static str, Option<usize>);

const CPU: Column = ("CPU ns each", "server_cpu_nanos", Some(0));
const PER_SECOND: Column = ("a second", "per_second", None);
const OF_NATS: Column = ("CPU of NATS", "cpu_of_nats", Some(2));
const OF_BARE: Column = ("of the floor", "cpu_of_bare", Some(2));
const SERVER_CPUS: Column = ("server CPUs", "server_cpus", Some(2));

/// The parts, what they are, and their columns.
const PARTS: [(&str, &str, &[Column]); 8] = [
    (
        "fan-out",
        "Topics: one message to many subscribers, closed loop, 200 B",
        &[CPU, OF_BARE, OF_NATS, PER_SECOND, SERVER_CPUS],
    ),
    (
        "room",
        "Topics: a room in which all speak and all hear, 200 B",
        &[CPU, OF_BARE, OF_NATS, PER_SECOND, SERVER_CPUS],
    ),
    (
        "growth",
        "Topics: a hundred subscribers a connection, the more there are",
        &[CPU, OF_NATS, PER_SECOND],
    ),
    (
        "latency",
        "Topics: latency at a fixed rate, µs, p50 and p99",
        &[
            ("answer", "answer_p50_micros", Some(0)),
            ("p99", "answer_p99_micros", Some(0)),
            ("other topic", "other_answer_p50_micros", Some(0)),
            ("p99", "other_answer_p99_micros", Some(0)),
            ("delivery", "delivery_p50_micros", Some(0)),
            ("p99", "delivery_p99_micros", Some(0)),
            ("server CPUs", "server_cpus", Some(2)),
        ],
    ),
    (
        "appends",
        "Topics: acknowledged publishes of 200 B to topics in turn, 256 in flight",
        &[CPU, PER_SECOND, SERVER_CPUS],
    ),
    (
        "catch-up",
        "Topics: catching up with a log of messages of 200 B",
        &[PER_SECOND, CPU, ("bytes kept a message", "bytes_a_message", Some(0))],
    ),
    (
        "memory",
        "Topics: memory of who waits",
        &[
            ("KiB a connection with one subscription", "connection_kib", Some(2)),
            ("bytes a further one", "subscription_bytes", Some(0)),
        ],
    ),
    (
        "slow",
        "Topics: connections that never read, beside others",
        &[CPU, PER_SECOND, ("growth MiB", "growth_mib", Some(1))],
    ),
];

/// Markdown tables of all parts that there are rows of.
pub(crate) fn text(rows: &[Value]) -> String {
    let mut text = String::new();
    for (part, title, columns) in PARTS {
        let mut lines = vec![vec!["case".to_owned(), "contender".to_owned()]];
        lines[0].extend(columns.iter().map(|(heading, ..)| (*heading).to_owned()));
        lines.extend(rows.iter().filter(|row| row["part"] == part).map(|row| line(row, columns)));
        if lines.len() > 1 {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n## {title}\n\n{}\n", report::table(&lines));
        }
    }
    text
}

fn line(row: &Value, columns: &[Column]) -> Vec<String> {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let cell = |&(_, key, digits): &Column| match digits {
        Some(digits) => shown(row, key, digits),
        None => row[key].as_f64().map_or_else(report::missing, report::rounded),
    };
    [text("name"), text("contender")].into_iter().chain(columns.iter().map(cell)).collect()
}

fn find<'a>(rows: &'a [Value], id: [&str; 3]) -> &'a Value {
    let is_it = |row: &&Value| ["part", "name", "contender"].map(|key| text_of(row, key)) == id;
    rows.iter().find(is_it).unwrap_or(&Value::Null)
}

/// The short form of all of it, for the page about performance.
pub(crate) fn summary(rows: &[Value]) -> String {
    let rate =
        |row: &Value| row["per_second"].as_f64().map_or_else(report::missing, report::rounded);
    let mut text = String::new();
    let mut add = |title: &str, heading: &[&str], lines: Vec<Vec<String>>| {
        if !lines.is_empty() {
            let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
            let table = report::table(&[vec![heading], lines].concat());
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{title}\n\n{table}\n");
        }
    };
    let ours = |part: &'static str| of(rows, part).filter(|row| row["contender"] == "rsock");
    let fan_out = ours("fan-out").map(|row| {
        let name = text_of(row, "name");
        let cpu =
            |contender| shown(find(rows, ["fan-out", name, contender]), "server_cpu_nanos", 0);
        let ratio = |key| shown(row, key, 2);
        vec![
            name.to_owned(),
            cpu("bare"),
            cpu("rsock"),
            cpu("nats"),
            ratio("cpu_of_bare"),
            ratio("cpu_of_nats"),
            rate(row),
        ]
    });
    add(
        "A delivery of 200 bytes, in nanoseconds of the server's CPU; subscribers of one topic on so many \
         connections:",
        &["subscribers", "floor", "rsock", "NATS", "of the floor", "of NATS", "rsock, a second"],
        fan_out.collect(),
    );
    let with_peers = |part: &'static str, name: &'static str| {
        let rows = of(rows, part).filter(move |row| row["name"] == name);
        rows.map(move |row| {
            let figures =
                [shown(row, "server_cpu_nanos", 0), shown(row, "cpu_of_bare", 2), rate(row)];
            [vec![name.to_owned(), text_of(row, "contender").to_owned()], figures.to_vec()].concat()
        })
    };
    let peers = with_peers("fan-out", "1000 on 1000").chain(with_peers("room", "320 clients"));
    add(
        "One subscriber a connection, and a room of 320 in which all speak and all hear; `rsock-ws`, \
         `socketioxide` and `bun` over WebSocket:",
        &["case", "contender", "CPU ns", "of the floor", "a second"],
        peers.collect(),
    );
    let millis = |row: &Value, key: &str| {
        row[key].as_f64().map_or_else(report::missing, |micros| format!("{:.2}", micros / 1e3))
    };
    let latency = of(rows, "latency").map(|row| {
        let times = ["answer", "other_answer", "delivery"].map(|what| {
            let time = |tail| millis(row, &format!("{what}_{tail}_micros"));
            format!("{} / {}", time("p50"), time("p99"))
        });
        let begin = [text_of(row, "name").to_owned(), text_of(row, "contender").to_owned()];
        [begin.to_vec(), times.to_vec(), vec![shown(row, "server_cpus", 2)]].concat()
    });
    add(
        "Three million deliveries a second, in milliseconds, median and 99th percentile:",
        &["case", "contender", "acknowledgement", "of another topic", "delivery", "server's CPUs"],
        latency.collect(),
    );
    let growth = of(rows, "growth").map(|row| {
        let begin = ["subscribers, a hundred a connection", text_of(row, "name")];
        (begin, text_of(row, "contender"), shown(row, "server_cpu_nanos", 0) + " ns a delivery")
    });
    let appends = of(rows, "appends").map(|row| {
        let cpu = shown(row, "server_cpu_nanos", 0);
        let begin = ["acknowledged publishes", text_of(row, "name")];
        (begin, text_of(row, "contender"), format!("{cpu} ns each, {} a second", rate(row)))
    });
    let catch_up = of(rows, "catch-up").map(|row| {
        let begin = ["catching up with a log", text_of(row, "name")];
        (begin, text_of(row, "contender"), format!("{} a second", rate(row)))
    });
    let memory = of(rows, "memory").map(|row| {
        let (one, further) = (shown(row, "connection_kib", 1), shown(row, "subscription_bytes", 0));
        let said = format!("{one} KiB a connection with one, {further} B a further one");
        (["subscriptions that wait", text_of(row, "name")], text_of(row, "contender"), said)
    });
    let slow = of(rows, "slow").map(|row| {
        let cpu = shown(row, "server_cpu_nanos", 0);
        let said = format!("{} MiB more, {cpu} ns a delivery", shown(row, "growth_mib", 1));
        (["connections that never read", text_of(row, "name")], text_of(row, "contender"), said)
    });
    let others = growth.chain(appends).chain(catch_up).chain(memory).chain(slow);
    add(
        "Growth, logs and memory:",
        &["", "case", "contender", "measured"],
        others
            .map(|([what, name], contender, said)| {
                vec![what.to_owned(), name.to_owned(), contender.to_owned(), said]
            })
            .collect(),
    );
    text
}

pub(super) fn of<'a>(rows: &'a [Value], part: &'a str) -> impl Iterator<Item = &'a Value> {
    rows.iter().filter(move |row| row["part"] == part)
}

pub(super) fn text_of<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_part_has_a_table_and_each_layout_a_panel() {
        let row = |part: &str, name: &str, contender: &str| json!({ "part": part, "name": name, "contender": contender, "server_cpu_nanos": 120.4 });
        let rows = [
            row("fan-out", "10 on 1", "rsock"),
            row("fan-out", "10 on 1", "nats"),
            row("fan-out", "20 on 1", "rsock"),
            row("growth", "100 on 1", "rsock"),
            row("growth", "100 on 1", "nats"),
        ];
        let text = text(&rows);
        assert!(
            text.contains("## Topics: one message to many") && text.contains(" 120 "),
            "{text}"
        );
        assert!(!text.contains("catching up"), "{text}");
        let summary = summary(&rows);
        assert!(summary.contains("| 10 on 1 "), "{summary}");
    }

    /// `rsock-bench plot` writes it there.
    #[test]
    fn the_page_says_what_was_measured() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let read = |file: &str| std::fs::read_to_string(format!("{root}/{file}")).expect(file);
        let sitting: Value =
            serde_json::from_str(&read("bench/results/topics.json")).expect("JSON");
        let rows = sitting["topics"].as_array().expect("rows");
        let said = crate::plot::with_summary(&read("docs/performance.md"), &summary(rows));
        let is_said = said.is_some_and(|said| said == read("docs/performance.md"));
        assert!(is_said, "rsock-bench plot bench/results/topics.json docs/performance");
    }
}
