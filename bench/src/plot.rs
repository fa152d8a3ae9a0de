//! Figures and tables out of the JSON of a sitting, for the documentation.

use std::{fmt::Write, fs, path::Path};

use serde_json::Value;

use crate::{
    Result, report, special,
    svg::{Figure, Group, Panel},
};

/// The contender that the figures leave out, since nothing else could be read beside it. The tables
/// have it.
const LIMIT: &str = "raw";

/// Writes what `file` has figures for to `directory`: SVG files, and `tables.md`.
pub(crate) fn write(file: &Path, directory: &Path) -> Result<()> {
    let read = |error| format!("{}: {error}", file.display());
    let text = fs::read(file).map_err(|error| read(error.to_string()))?;
    let sitting: Value = serde_json::from_slice(&text).map_err(|error| read(error.to_string()))?;
    fs::create_dir_all(directory)?;
    let figures = [
        ("request-response-1cpu.svg", requests(&sitting, "1cpu", "one CPU for both processes")),
        ("request-response-2w.svg", requests(&sitting, "2w", "two workers each")),
        ("streams.svg", streams(&sitting)),
        ("memory.svg", memory(&sitting)),
        ("shaped.svg", shaped(&sitting)),
    ];
    for (name, figure) in figures {
        if figure.panels.is_empty() {
            eprintln!("{}: nothing for {name}", file.display());
            continue;
        }
        fs::write(directory.join(name), figure.svg())?;
        println!("{name}");
    }
    fs::write(directory.join("tables.md"), tables(&sitting))?;
    println!("tables.md");
    Ok(())
}

// ---- figures ----------------------------------------------------------------------------------

fn requests(sitting: &Value, mode: &str, explained: &str) -> Figure {
    let is_wanted = |case: &str| case.starts_with("request-response/");
    rates(sitting, mode, is_wanted, format!("Request-response, {explained} ({mode})"))
}

fn streams(sitting: &Value) -> Figure {
    let is_wanted = |case: &str| !case.starts_with("request-response/");
    rates(sitting, "2w", is_wanted, "Streams, channels and fire-and-forget (2w)".to_owned())
}

/// A panel for each case.
fn rates(sitting: &Value, mode: &str, is_wanted: impl Fn(&str) -> bool, title: String) -> Figure {
    let results = entries(sitting, "results")
        .filter(|result| result["mode"] == mode && is_wanted(text(result, "case")));
    let panels = results
        .map(|result| Panel {
            title: readable(text(result, "case")),
            unit: "per second",
            series: vec![],
            groups: groups(entries(result, "rows"), &["per_second"]),
        })
        .filter(|panel| !panel.groups.is_empty())
        .collect();
    let note = format!(
        "{}. Longer is better; each panel has a scale of its own. mux: a bare multiplexer.",
        text(sitting, "machine")
    );
    Figure { title, note, panels }
}

fn memory(sitting: &Value) -> Figure {
    let both = vec!["client", "server"];
    let mut panels = Vec::new();
    let idle = entries(sitting, "idle");
    let count = entries(sitting, "idle").next().and_then(|row| row["connections"].as_u64());
    panels.push(Panel {
        title: format!("Each of {} idle connections", count.unwrap_or(0)),
        unit: "KiB",
        series: both.clone(),
        groups: groups(idle, &["client_kib", "server_kib"]),
    });
    panels.push(Panel {
        title: "Growth while a consumer is slow".to_owned(),
        unit: "MiB",
        series: both.clone(),
        groups: groups(entries(sitting, "slow"), &["client_growth_mib", "server_growth_mib"]),
    });
    let mut cases: Vec<&str> = entries(sitting, "memory").map(|row| text(row, "case")).collect();
    cases.dedup();
    panels.extend(cases.into_iter().map(|case| {
        let rows = entries(sitting, "memory").filter(|row| text(row, "case") == case);
        let mut groups = groups(rows, &["client_peak_kib", "server_peak_kib"]);
        for figure in groups.iter_mut().flat_map(|group| group.figures.iter_mut().flatten()) {
            *figure /= 1024.0;
        }
        Panel { title: readable(case), unit: "peak MiB", series: both.clone(), groups }
    }));
    panels.retain(|panel| !panel.groups.is_empty());
    Figure {
        title: "Resident memory".to_owned(),
        note: format!("{}. Shorter is better; client above server.", text(sitting, "machine")),
        panels,
    }
}

fn shaped(sitting: &Value) -> Figure {
    let rows = || entries(sitting, "shaped");
    let mut panels = vec![
        Panel {
            title: "A small request beside it".to_owned(),
            unit: "ms",
            series: vec!["p50", "p99"],
            groups: groups(rows(), &["small_beside_p50_ms", "small_beside_p99_ms"]),
        },
        Panel {
            title: "The large answers".to_owned(),
            unit: "MB/s",
            series: vec!["alone", "beside small"],
            groups: groups(rows(), &["bulk_alone_mb_s", "bulk_beside_mb_s"]),
        },
    ];
    panels.retain(|panel| !panel.groups.is_empty());
    Figure {
        title: "Small requests beside endless answers of 16 MiB, 500 Mbit/s".to_owned(),
        note: format!("{}. One connection for both.", text(sitting, "machine")),
        panels,
    }
}

fn groups<'a>(rows: impl Iterator<Item = &'a Value>, keys: &[&str]) -> Vec<Group> {
    rows.filter(|row| text(row, "contender") != LIMIT)
        .map(|row| Group {
            name: special::name(row),
            is_ours: text(row, "contender") == "rsock",
            figures: keys.iter().map(|key| row[*key].as_f64()).collect(),
        })
        .filter(|group| group.figures.iter().any(Option::is_some))
        .collect()
}

/// `request-response/64/32B` for people.
fn readable(case: &str) -> String {
    let parts: Vec<_> = case.split('/').collect();
    let size = |size: &str| match size.trim_end_matches('B').parse::<usize>() {
        Ok(bytes) if bytes >= 1024 && bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        Ok(bytes) => format!("{bytes} B"),
        Err(_) => size.to_owned(),
    };
    match parts[..] {
        ["request-response", in_flight, bytes] => format!("{in_flight} in flight, {}", size(bytes)),
        [interaction, bytes] => format!("{interaction}, {}", size(bytes)),
        _ => case.to_owned(),
    }
}

// ---- tables -----------------------------------------------------------------------------------

fn tables(sitting: &Value) -> String {
    let mut out = format!("# Measured\n\n{}.\n", text(sitting, "machine"));
    // Writing to a string cannot fail.
    if let Some(rounds) = sitting["rounds"].as_u64() {
        let _ = writeln!(
            out,
            "Medians of {rounds} rounds; a ratio is the median of the rounds' ratios. CPU s/M: CPU \
             seconds a million messages, both sides."
        );
    }
    if let (Some(disturbed @ 1..), Some(all)) =
        (sitting["disturbed"].as_u64(), sitting["measurements"].as_u64())
    {
        let _ = writeln!(
            out,
            "\n**{disturbed} of {all} measurements were made while others used the machine: trust \
             neither rates nor latencies of this sitting.**"
        );
    }
    for mode in ["1cpu", "split", "2w"] {
        let mut lines = vec![
            [
                "case",
                "contender",
                "per second",
                "CPU s/M",
                "p50 µs",
                "p99 µs",
                "of mux",
                "of rsocket_rust",
            ]
            .map(str::to_owned),
        ];
        for result in entries(sitting, "results").filter(|result| result["mode"] == mode) {
            lines.extend(entries(result, "rows").map(|row| {
                let over = |name: &str| special::figure(&row["over"], name, 2);
                [
                    text(result, "case").to_owned(),
                    special::name(row),
                    row["per_second"].as_f64().map_or_else(report::missing, report::rounded),
                    special::figure(row, "cpu_seconds_per_million", 3),
                    special::figure(row, "p50_micros", 1),
                    special::figure(row, "p99_micros", 1),
                    over("mux"),
                    over("rsocket_rust"),
                ]
            }));
        }
        if lines.len() > 1 {
            let _ = write!(out, "\n## {mode}\n\n{}\n", report::table(&lines));
        }
    }
    for (key, title, table) in special::TABLES {
        let rows: Vec<_> = entries(sitting, key).cloned().collect();
        if !rows.is_empty() {
            let _ = write!(out, "\n## {title}\n\n{}\n", table(&rows));
        }
    }
    out
}

fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_has_a_panel_for_each_case_of_its_mode() {
        let row = |contender: &str, rate: f64| json!({ "contender": contender, "transport": "tcp", "per_second": rate, "over": {} });
        let rows = json!([row("raw", 9e6), row("rsock", 1e6), row("rsocket_rust", 2e5)]);
        let result = |case: &str, mode: &str| json!({ "case": case, "mode": mode, "rows": rows });
        let sitting = json!({
            "machine": "a machine",
            "rounds": 3,
            "results": [
                result("request-response/64/1024B", "1cpu"),
                result("request-response/64/1024B", "2w"),
                result("request-stream/32B", "2w"),
            ],
        });
        let figure = requests(&sitting, "1cpu", "");
        assert_eq!(figure.panels.len(), 1);
        assert_eq!(figure.panels[0].title, "64 in flight, 1 KiB");
        let names: Vec<_> = figure.panels[0].groups.iter().map(|group| &group.name).collect();
        assert_eq!(names, ["rsock/tcp", "rsocket_rust/tcp"]);
        assert_eq!(streams(&sitting).panels[0].title, "request-stream, 32 B");
        assert!(memory(&sitting).panels.is_empty());
        let tables = tables(&sitting);
        assert!(tables.contains("## 1cpu") && tables.contains("raw/tcp"), "{tables}");
    }
}
