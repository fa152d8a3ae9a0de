//! Figures and tables out of the JSON of a sitting, for the documentation.

use std::{fmt::Write, fs, path::Path};

use serde_json::Value;

use crate::{
    Result, report, series, special,
    svg::{Figure, Group, Panel},
    topics,
};

/// The contender that the figures leave out, since nothing else could be read beside it. The tables
/// have it.
const LIMIT: &str = "raw";

/// Writes what `file` has figures for to `directory`: SVG files, and `tables.md`.
pub(crate) fn write(file: &Path, directory: &Path) -> Result<()> {
    let read = |error| format!("{}: {error}", file.display());
    let bytes = fs::read(file).map_err(|error| read(error.to_string()))?;
    let sitting: Value = serde_json::from_slice(&bytes).map_err(|error| read(error.to_string()))?;
    fs::create_dir_all(directory)?;
    let figures = [
        ("request-response-1cpu.svg", requests(&sitting, "1cpu", "one CPU for both processes")),
        ("request-response-2w.svg", requests(&sitting, "2w", "two workers each")),
        ("streams.svg", streams(&sitting)),
        ("memory.svg", memory(&sitting)),
        ("shaped.svg", shaped(&sitting)),
        ("additions.svg", additions(&sitting)),
        ("growth.svg", growth(&sitting)),
    ];
    let of_topics = topics::figures(text(&sitting, "machine"), &rows(&sitting, "topics"));
    for (name, figure) in figures.into_iter().chain(of_topics) {
        if figure.panels.is_empty() {
            eprintln!("{}: nothing for {name}", file.display());
            continue;
        }
        fs::write(directory.join(name), figure.svg())?;
        println!("{name}");
    }
    let rows = rows(&sitting, "topics");
    // The page about performance stands beside the directory of its figures.
    let page = directory.with_extension("md");
    if let Ok(text) = fs::read_to_string(&page)
        && !rows.is_empty()
        && let Some(text) = with_summary(&text, &topics::summary(&rows))
    {
        fs::write(&page, text)?;
        println!("{}", page.display());
    }
    for (name, tables) in
        [("tables.md", tables(&sitting)), ("topics.md", tables_of_topics(&sitting))]
    {
        // Of a sitting of topics alone, and of one without them.
        if tables.contains("\n## ") {
            fs::write(directory.join(name), tables)?;
            println!("{name}");
        }
    }
    Ok(())
}

/// The lines between which a page has the short form of what was measured of topics.
const SUMMARY: [&str; 2] =
    ["<!-- rsock-bench plot writes what follows -->\n", "\n<!-- up to here -->"];

/// The page with this summary in its place; none if it has no such place.
pub(crate) fn with_summary(page: &str, summary: &str) -> Option<String> {
    let [begin, end] = SUMMARY;
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some([before, begin, summary, end, after].concat())
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

/// Routing and sessions: a panel for each interaction, beside what is without.
fn additions(sitting: &Value) -> Figure {
    let mut panels = Vec::new();
    for key in ["routing", "resume"] {
        panels.extend(series_of(sitting, key).into_iter().map(|(title, rows)| {
            let group = |row: &&Value| Group {
                name: text(row, "name").to_owned(),
                is_ours: row["contender"] != "rsock",
                figures: vec![nanos(row)],
            };
            let groups = rows.iter().map(group).collect();
            Panel { title: title.to_owned(), unit: CPU_EACH, series: vec![], groups }
        }));
    }
    Figure {
        title: "A bare connection, and with routing or a session that can be resumed".to_owned(),
        note: format!(
            "{}. Both processes on one CPU, client and server together. Shorter is better.",
            text(sitting, "machine")
        ),
        panels,
    }
}

/// The cost of one, the more there are: a panel for each kind, a bar for each contender.
fn growth(sitting: &Value) -> Figure {
    let panel = |(title, rows): (&str, Vec<&Value>)| {
        let takes_part = |contender: &&str| rows.iter().any(|row| row["contender"] == **contender);
        let contenders: Vec<_> = ["rsock", "mux"].into_iter().filter(takes_part).collect();
        let names = distinct(rows.iter().map(|row| text(row, "name")));
        let of = |name: &str, contender: &str| {
            let row = rows.iter().find(|row| row["name"] == name && row["contender"] == contender);
            row.and_then(|row| nanos(row))
        };
        let group = |name: &str| Group {
            name: name.to_owned(),
            is_ours: true,
            figures: contenders.iter().map(|contender| of(name, contender)).collect(),
        };
        let groups = names.into_iter().map(group).collect();
        Panel { title: title.to_owned(), unit: CPU_EACH, series: contenders.clone(), groups }
    };
    Figure {
        title: "What one costs, the more there are".to_owned(),
        note: format!(
            "{}. 32 B, both processes on one CPU, client and server together. Shorter is better.",
            text(sitting, "machine")
        ),
        panels: series_of(sitting, "growth").into_iter().map(panel).collect(),
    }
}

/// A second a million is a thousand of them.
const CPU_EACH: &str = "CPU ns each";

fn nanos(row: &Value) -> Option<f64> {
    Some(row["cpu_seconds_per_million"].as_f64()? * 1e3)
}

/// The rows of each of a series' groups.
fn series_of<'a>(sitting: &'a Value, key: &str) -> Vec<(&'a str, Vec<&'a Value>)> {
    let groups = distinct(entries(sitting, key).map(|row| text(row, "group")));
    let rows = |group: &str| entries(sitting, key).filter(|row| row["group"] == *group).collect();
    groups.into_iter().map(|group| (group, rows(group))).collect()
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
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
    for (key, title, table) in series::TABLES.into_iter().chain(special::TABLES) {
        let rows = rows(sitting, key);
        if !rows.is_empty() {
            let _ = write!(out, "\n## {title}\n\n{}\n", table(&rows));
        }
    }
    out
}

fn tables_of_topics(sitting: &Value) -> String {
    let rows = rows(sitting, "topics");
    let rounds = rows.iter().filter_map(|row| row["rounds"].as_array()).map(Vec::len).max();
    format!(
        "# Measured of topics\n\n{}.\nMedians of {} rounds; a ratio is the median of the rounds' ratios. CPU \
         time is the server's.\n{}",
        text(sitting, "machine"),
        rounds.unwrap_or(0),
        topics::tables(&rows)
    )
}

fn rows(sitting: &Value, key: &str) -> Vec<Value> {
    entries(sitting, key).cloned().collect()
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
    fn a_series_has_a_panel_for_each_group_and_a_bar_for_each_contender() {
        let row = |group: &str, name: &str, contender: &str, cpu: f64| json!({ "group": group, "name": name, "contender": contender, "cpu_seconds_per_million": cpu });
        let sitting = json!({
            "machine": "a machine",
            "growth": [
                row("streams", "1", "rsock", 0.125),
                row("in flight", "1", "mux", 17.0),
                row("in flight", "1", "rsock", 19.0),
            ],
            "routing": [row("routing", "bare", "rsock", 0.7), row("routing", "a route", "rsock-route", 0.8)],
        });
        let figure = growth(&sitting);
        let titles: Vec<_> = figure.panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, ["streams", "in flight"]);
        assert_eq!(figure.panels[1].series, ["rsock", "mux"]);
        assert_eq!(figure.panels[1].groups[0].figures, [Some(19_000.0), Some(17_000.0)]);
        let additions = additions(&sitting);
        let ours: Vec<_> = additions.panels[0].groups.iter().map(|group| group.is_ours).collect();
        assert_eq!(ours, [false, true]);
    }

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
        assert!(growth(&sitting).panels.is_empty());
        let tables = tables(&sitting);
        assert!(tables.contains("## 1cpu") && tables.contains("raw/tcp"), "{tables}");
    }
}
