//! Figures of what was measured of topics.

use serde_json::Value;

use super::table::{of, text_of};
use crate::svg::{Figure, Group, Panel};

/// The figures that there are rows for, by the names of their files.
pub(crate) fn figures(machine: &str, rows: &[Value]) -> Vec<(&'static str, Figure)> {
    let nats = "NATS acknowledges nothing.";
    let all = [
        (
            "topics-fan-out.svg",
            "One message of 200 B to many: what a delivery costs the server",
            "bare: one send a connection. Shorter is better.",
            by_contender(rows, "fan-out", CPU_NANOS, " connections"),
        ),
        (
            "topics-room.svg",
            "A room in which all speak and all hear: what a delivery costs the server",
            "200 B. bare: one send a connection. Shorter is better.",
            by_contender(rows, "room", CPU_NANOS, " on a connection each"),
        ),
        (
            "topics-growth.svg",
            "The more subscribers there are, and the more topics",
            "A hundred subscribers a connection; publishes are acknowledged. Shorter is better.",
            growth(rows),
        ),
        (
            "topics-latency.svg",
            "How long an acknowledgement and a delivery take, while 10,000 are served",
            nats,
            latency(rows),
        ),
        (
            "topics-readers.svg",
            "Readers that catch up, wait, or never read",
            "Of catching up longer is better, of memory shorter.",
            readers(rows),
        ),
    ];
    all.into_iter()
        .filter(|(.., panels)| !panels.is_empty())
        .map(|(file, title, note, panels)| {
            let (title, note) = (title.to_owned(), format!("{machine}. {note}"));
            (file, Figure { title, note, panels })
        })
        .collect()
}

/// The figures of a bar, and their unit.
type Bars = (&'static str, &'static [&'static str]);

const CPU_NANOS: Bars = ("CPU ns", &["server_cpu_nanos"]);
const SHOWN_IN_MILLIS: f64 = 1e-3;

fn group(row: &Value, name: &str, figures: &[&str], scale: f64) -> Group {
    Group {
        name: name.to_owned(),
        is_ours: text_of(row, "contender").starts_with("rsock"),
        figures: figures.iter().map(|key| row[*key].as_f64().map(|it| it * scale)).collect(),
    }
}

fn panel(title: String, (unit, _): Bars, groups: Vec<Group>) -> Option<Panel> {
    (!groups.is_empty()).then_some(Panel { title, unit, series: vec![], groups })
}

/// A panel for each case of a part, with a bar for each contender.
fn by_contender(rows: &[Value], part: &str, bars: Bars, behind: &str) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for row in of(rows, part) {
        let title = format!("{}{behind}", text_of(row, "name"));
        if panels.last().is_none_or(|panel| panel.title != title) {
            panels.push(Panel { title, unit: bars.0, series: vec![], groups: vec![] });
        }
        if let Some(panel) = panels.last_mut() {
            panel.groups.push(group(row, text_of(row, "contender"), bars.1, 1.0));
        }
    }
    panels
}

/// A panel of one contender's rows in a part, with a bar for each case.
fn by_case(
    rows: &[Value],
    part: &str,
    contender: &str,
    title: &str,
    bars: Bars,
    scale: f64,
) -> Option<Panel> {
    let is_its = |row: &&Value| row["contender"] == contender;
    let groups = of(rows, part).filter(is_its);
    let groups = groups.map(|row| group(row, text_of(row, "name"), bars.1, scale)).collect();
    panel(title.to_owned(), bars, groups)
}

fn growth(rows: &[Value]) -> Vec<Panel> {
    [
        by_case(rows, "growth", "rsock", "rsock: a delivery, by subscribers", CPU_NANOS, 1.0),
        by_case(rows, "growth", "nats", "nats: a delivery, by subscribers", CPU_NANOS, 1.0),
        by_case(rows, "appends", "rsock", "rsock: a publish, by topics", CPU_NANOS, 1.0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn latency(rows: &[Value]) -> Vec<Panel> {
    let of_both = |what: &str, contender: &str, keys: &'static [&'static str]| {
        let title = format!("{contender}: {what}");
        let mut panel = by_case(rows, "latency", contender, &title, ("ms", keys), SHOWN_IN_MILLIS)?;
        panel.series = vec!["p50", "p99"];
        Some(panel)
    };
    let answer = &["answer_p50_micros", "answer_p99_micros"];
    let other = &["other_answer_p50_micros", "other_answer_p99_micros"];
    let delivery = &["delivery_p50_micros", "delivery_p99_micros"];
    [
        of_both("an acknowledgement", "rsock", answer),
        of_both("one of another topic", "rsock", other),
        of_both("a delivery", "rsock", delivery),
        of_both("a delivery", "nats", delivery),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn readers(rows: &[Value]) -> Vec<Panel> {
    let catch_up = ("per second", &["per_second"][..]);
    let mut panels: Vec<_> =
        by_case(rows, "catch-up", "rsock", "Catching up", catch_up, 1.0).into_iter().collect();
    panels.extend(by_contender(
        rows,
        "memory",
        ("bytes", &["subscription_bytes"]),
        ": a further subscription",
    ));
    panels.extend(by_contender(
        rows,
        "memory",
        ("KiB", &["connection_kib"]),
        ": each, with one subscription",
    ));
    panels.extend(by_contender(rows, "slow", ("MiB", &["growth_mib"]), ": growth"));
    panels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_layout_has_a_panel_and_each_contender_a_bar() {
        let row = |part: &str, name: &str, contender: &str| json!({ "part": part, "name": name, "contender": contender, "server_cpu_nanos": 120.4 });
        let rows = [
            row("fan-out", "10 on 1", "rsock"),
            row("fan-out", "10 on 1", "nats"),
            row("fan-out", "20 on 1", "rsock"),
            row("growth", "100 on 1", "rsock"),
            row("growth", "100 on 1", "nats"),
        ];
        let figures = figures("", &rows);
        let panels: Vec<_> = figures
            .iter()
            .map(|(file, figure)| {
                let groups = figure.panels.iter().map(|panel| panel.groups.len());
                (*file, groups.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(panels, [("topics-fan-out.svg", vec![2, 1]), ("topics-growth.svg", vec![1, 1])]);
    }
}
