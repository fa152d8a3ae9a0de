//! The table of the ways in, in `docs/choosing.md`, is that of `bench/results/ways.json`. `bench/ways/run --plot FILE` writes it.

use serde_json::{Value, json};

use crate::figures::{read, two_digits, with_comma};

/// The ways as the table names them and as the benchmark does.
const WAYS: [(&str, &str); 7] = [
    ("polling, once a second", "polling"),
    ("long polling", "long-polling"),
    ("server-sent events + POST", "sse"),
    ("WebSocket, with positions", "websocket"),
    ("WebSocket, text alone", "websocket-text"),
    ("RSocket over WebSocket", "rsocket-ws"),
    ("RSocket over TCP", "rsocket-tcp"),
];

const HEADING: &str = "\
| | bytes a message, busy | bytes a message, quiet | p50 ms | p99 ms | server CPU, busy | server CPU, quiet | KiB a reader |
|---|--:|--:|--:|--:|--:|--:|--:|
";

fn shown(figure: f64) -> String {
    if figure < 999.5 { two_digits(figure) } else { with_comma(figure) }
}

fn table(sitting: &Value) -> String {
    let rows = sitting["rows"].as_array().expect("rows");
    let row =
        |room: &str, way: &str| rows.iter().find(|row| row["room"] == room && row["way"] == way);
    let mut table = HEADING.to_owned();
    for (title, way) in WAYS {
        let (Some(busy), Some(quiet)) = (row("busy", way), row("quiet", way)) else { continue };
        // Memory that was given back in between is none.
        let of = |row: &Value, key: &str| shown(row[key].as_f64().expect(key).max(0.0));
        let cells = [
            of(busy, "bytes"),
            of(quiet, "bytes"),
            of(busy, "p50_ms"),
            of(busy, "p99_ms"),
            format!("{}×", of(busy, "cpu_of_sse")),
            format!("{}×", of(quiet, "cpu_of_sse")),
            of(busy, "kib_a_reader"),
        ];
        table.push_str(&format!("| {title} | {} |\n", cells.join(" | ")));
    }
    table
}

#[test]
fn the_ways_in_are_compared_as_they_were_measured() {
    let sitting: Value = serde_json::from_str(&read("bench/results/ways.json")).expect("JSON");
    let table = table(&sitting);
    assert!(table.lines().count() > 5, "few ways were measured:\n{table}");
    assert!(read("docs/choosing.md").contains(&table), "docs/choosing.md should have:\n\n{table}");
}

#[test]
fn a_row_of_the_ways_has_both_rooms() {
    let row = |room: &str, way: &str, bytes: f64| {
        json!({
            "room": room, "way": way, "bytes": bytes, "p50_ms": 0.5, "p99_ms": 12.4, "cpu_of_sse": 1.0,
            "kib_a_reader": -0.5,
        })
    };
    let rows =
        [row("busy", "sse", 162.4), row("quiet", "sse", 1_048.4), row("busy", "polling", 1.0)];
    let shown = table(&json!({ "rows": rows }));
    let row = "| server-sent events + POST | 162 | 1,048 | 0.50 | 12 | 1.0× | 1.0× | 0.00 |\n";
    assert_eq!(shown, format!("{HEADING}{row}"));
}
