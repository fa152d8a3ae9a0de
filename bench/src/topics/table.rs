//! Tables and a figure of what was measured of topics.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    report,
    special::figure as shown,
    svg::{Figure, Group, Panel},
};

/// A column of a table: its heading, the figure, and the digits behind its point, if it is not rounded.
type Column = (&'static str, &'static str, Option<usize>);

const CPU: Column = ("CPU ns each", "server_cpu_nanos", Some(0));
const PER_SECOND: Column = ("a second", "per_second", None);
const OF_NATS: Column = ("CPU of NATS", "cpu_of_nats", Some(2));

/// The parts, what they are, and their columns.
const PARTS: [(&str, &str, &[Column]); 6] = [
    (
        "fan-out",
        "Topics: one message to many subscribers, closed loop, 200 B",
        &[CPU, OF_NATS, PER_SECOND, ("server CPUs", "server_cpus", Some(2))],
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

/// The cost of a delivery: a panel for each layout, and one for growth.
pub(crate) fn figure(machine: &str, rows: &[Value]) -> Figure {
    let mut panels: Vec<Panel> = Vec::new();
    for row in rows.iter().filter(|row| row["part"] == "fan-out") {
        let title = format!("{} connections", row["name"].as_str().unwrap_or_default());
        if panels.last().is_none_or(|panel| panel.title != title) {
            panels.push(Panel { title, unit: "CPU ns", series: vec![], groups: vec![] });
        }
        if let Some(panel) = panels.last_mut() {
            panel.groups.push(group(row, "contender"));
        }
    }
    let grown = |row: &&Value| row["part"] == "growth" && row["contender"] == "rsock";
    let groups: Vec<_> = rows.iter().filter(grown).map(|row| group(row, "name")).collect();
    if !groups.is_empty() {
        let title = "A hundred subscribers a connection".to_owned();
        panels.push(Panel { title, unit: "CPU ns", series: vec![], groups });
    }
    Figure {
        title: "One message of 200 B to many: what a delivery costs the server".to_owned(),
        note: format!(
            "{machine}. Subscribers of one topic on so many connections. bare: one send a connection. \
             Shorter is better."
        ),
        panels,
    }
}

fn group(row: &Value, name: &str) -> Group {
    Group {
        name: row[name].as_str().unwrap_or_default().to_owned(),
        is_ours: row["contender"] == "rsock",
        figures: vec![row["server_cpu_nanos"].as_f64()],
    }
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
        let panels = figure("", &rows).panels;
        let groups: Vec<_> = panels.iter().map(|panel| panel.groups.len()).collect();
        assert_eq!(groups, [2, 1, 1]);
    }
}
