//! Figures of speed and memory that the README says are those that were measured and stand in
//! `bench/results/latest.json` and `bench/icount/record.txt`. Who renews these is told the sentences.

use std::fs;

use serde_json::{Value, json};

use crate::root;

/// A sitting of a build with `--features tonic`, where one is kept.
const GRPC: &str = "bench/results/grpc.json";

/// Requests of `rsock-icount`'s scenario `request_response_64`, and items and requests of others.
const REQUESTS: f64 = 12_800.0;
const ITEMS: f64 = 10_000.0;

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// The row of a contender in a list of them.
fn row<'a>(rows: &'a Value, contender: &str, transport: &str) -> &'a Value {
    let rows = rows.as_array().expect("rows");
    let is_it = |row: &&Value| row["contender"] == contender && row["transport"] == transport;
    rows.iter().find(is_it).expect(contender)
}

/// The rows of a case in a mode.
fn case<'a>(sitting: &'a Value, case: &str, mode: &str) -> &'a Value {
    let results = sitting["results"].as_array().expect("results");
    let is_it = |result: &&Value| result["case"] == case && result["mode"] == mode;
    &results.iter().find(is_it).unwrap_or_else(|| panic!("{case} in {mode} was not measured"))["rows"]
}

fn over(sitting: &Value, name: &str, mode: &str, other: &str) -> f64 {
    row(case(sitting, name, mode), "rsock", "tcp")["over"][other].as_f64().expect(other)
}

/// Two digits, as far as they say something.
pub(crate) fn two_digits(figure: f64) -> String {
    match figure {
        10.0.. => format!("{figure:.0}"),
        // 9.96 is 10 and not 10.0.
        9.95.. => "10".to_owned(),
        1.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A number with a comma before its thousands.
pub(crate) fn with_comma(number: f64) -> String {
    let number = number.round() as u64;
    match number {
        1_000.. => format!("{},{:03}", number / 1_000, number % 1_000),
        _ => number.to_string(),
    }
}

/// The cases that the README shows, as it says them and as the benchmark does.
const CASES: [(&str, &str); 7] = [
    ("request-response 32 B, 64 in flight", "request-response/64/32B"),
    ("the same, 1,024 in flight", "request-response/1024/32B"),
    ("request-stream 32 B", "request-stream/32B"),
    ("request-stream 1 KiB", "request-stream/1024B"),
    ("channel echo 32 B", "request-channel/32B"),
    ("channel echo 1 KiB", "request-channel/1024B"),
    ("fire-and-forget 32 B", "fire-and-forget/32B"),
];

/// The README's table of our rates over another's, without these cases.
fn table(sitting: &Value, title: &str, other: &str, without: &str) -> String {
    let mut table = format!("| {title} | one CPU | two workers each |\n|---|--:|--:|\n");
    for (shown, name) in CASES.into_iter().filter(|(shown, _)| *shown != without) {
        let [one, two] = ["1cpu", "2w"].map(|mode| two_digits(over(sitting, name, mode, other)));
        table.push_str(&format!("| {shown} | {one}× | {two}× |\n"));
    }
    table
}

/// The passages about gRPC, which is measured in a sitting of its own. Until one is kept, the README says
/// when it was.
fn of_grpc(sitting: Option<&Value>) -> Vec<String> {
    let Some(sitting) = sitting else {
        let said = "for a sitting of its own; this one is of 25 November 2026, and was not kept:";
        return vec![said.to_owned()];
    };
    let said = format!("for [a sitting of its own]({GRPC}):");
    let title = "rate, as a multiple of gRPC's";
    vec![said, table(sitting, title, "tonic", "fire-and-forget 32 B")]
}

/// The passages about a sitting that the README has.
fn of_sitting(sitting: &Value) -> Vec<String> {
    let title = "rate, as a multiple of `rsocket_rust`'s";
    let table = table(sitting, title, "rsocket_rust", "channel echo 1 KiB");
    let rate = |transport| {
        let rows = case(sitting, "request-response/64/32B", "1cpu");
        row(rows, "rsock", transport)["per_second"].as_f64().expect("a rate")
    };
    let alone = format!(
        "A single request at a time reaches {:.2} of what the sockets allow, and WebSocket {:.2} of TCP.",
        over(sitting, "request-response/1/32B", "1cpu", "raw"),
        rate("ws") / rate("tcp"),
    );
    let mux = format!(
        "A bare multiplexer without credit, cancellation or limits does {} times as many requests at \
         64 in flight.",
        two_digits(1.0 / over(sitting, "request-response/64/32B", "1cpu", "mux")),
    );
    let [ours, theirs] =
        ["rsock", "rsocket_rust"].map(|contender| row(&sitting["shaped"], contender, "tcp"));
    let ms = |row: &Value, key: &str| row[key].as_f64().expect(key);
    let shaped = format!(
        "Beside answers of 16 MiB on the same connection, over 500 Mbit/s, a small request takes \
         {:.1} ms in the median and {:.1} at the 99th percentile (`rsocket_rust`: {:.0} and {:.0})",
        ms(ours, "small_beside_p50_ms"),
        ms(ours, "small_beside_p99_ms"),
        ms(theirs, "small_beside_p50_ms"),
        ms(theirs, "small_beside_p99_ms"),
    );
    let [ours, theirs] =
        ["rsock", "rsocket_rust"].map(|contender| row(&sitting["slow"], contender, "tcp"));
    let mib = |row: &Value, side: &str| row[format!("{side}_growth_mib")].as_f64().expect(side);
    let slow = format!(
        "A consumer that takes an item of 1 KiB a millisecond makes its client grow by {:.1} MiB and \
         the server by {:.1} (`rsocket_rust`: {} and {} MiB).",
        mib(ours, "client"),
        mib(ours, "server"),
        with_comma(mib(theirs, "client")),
        with_comma(mib(theirs, "server")),
    );
    let kib = |transport, side: &str| {
        row(&sitting["idle"], "rsock", transport)[format!("{side}_kib")].as_f64().expect(side)
    };
    let idle = format!(
        "An idle connection takes {:.1} KiB of the server and {:.1} of the client; over WebSocket \
         {:.1} and {:.1}.",
        kib("tcp", "server"),
        kib("tcp", "client"),
        kib("ws", "server"),
        kib("ws", "client"),
    );
    vec![table, alone, mux, shaped, slow, idle]
}

/// Instructions of one unit of a scenario.
fn instructions(record: &str, scenario: &str, units: f64) -> f64 {
    let is_it = |line: &&str| line.split_whitespace().next() == Some(scenario);
    let line = record.lines().find(is_it).expect(scenario);
    let count: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a count");
    count / units
}

fn to_nearest(step: f64, number: f64) -> String {
    with_comma((number / step).round() * step)
}

/// A document's words, wherever its lines end.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn missing(document: &str, passages: &[String]) -> Vec<String> {
    let document = words(document);
    passages.iter().filter(|passage| !document.contains(&words(passage))).cloned().collect()
}

#[test]
fn the_readme_says_what_was_measured() {
    let sitting = serde_json::from_str(&read("bench/results/latest.json")).expect("JSON");
    let record = read("bench/icount/record.txt");
    let request = to_nearest(100.0, instructions(&record, "request_response_64", REQUESTS));
    let mut passages = of_sitting(&sitting);
    let grpc = fs::read_to_string(root().join(GRPC)).ok();
    let grpc: Option<Value> = grpc.map(|text| serde_json::from_str(&text).expect("JSON"));
    passages.extend(of_grpc(grpc.as_ref()));
    passages.push(format!("A request and its answer cost some {request} instructions"));
    let missing = missing(&read("README.md"), &passages);
    assert!(missing.is_empty(), "README.md should say:\n\n{}", missing.join("\n\n"));
}

#[test]
fn the_changelog_says_what_is_recorded() {
    let record = read("bench/icount/record.txt");
    let of_request = |scenario| instructions(&record, scenario, REQUESTS);
    let of_item = |scenario| to_nearest(100.0, instructions(&record, scenario, ITEMS));
    let bare = of_request("request_response_64");
    let websocket = of_request("request_response_64_ws") / of_request("request_response_64_tcp");
    let passages = [
        format!(
            "A request and its answer cost {} instructions at 64 in flight, both sides together, where \
             they cost 7,150, and no allocation; an item of a stream {} (1,915), a fire-and-forget {} \
             (4,030). WebSocket adds {:.0} %.",
            to_nearest(100.0, bare),
            of_item("request_stream"),
            of_item("fire_and_forget"),
            (websocket - 1.0) * 100.0,
        ),
        format!(
            "A request for a route costs {} instructions more than one without a router (it was 3,230), \
             one for a pattern behind a hundred others {} (it was 27,800)",
            to_nearest(10.0, of_request("request_routed") - bare),
            to_nearest(10.0, of_request("request_pattern") - bare),
        ),
    ];
    let missing = missing(&read("CHANGELOG.md"), &passages);
    assert!(missing.is_empty(), "CHANGELOG.md should say:\n\n{}", missing.join("\n\n"));
}

#[test]
fn figures_are_written_alike() {
    for (figure, shown) in
        [(9.96, "10"), (9.26, "9.3"), (33.2, "33"), (0.749, "0.75"), (5.0, "5.0")]
    {
        assert_eq!(two_digits(figure), shown);
    }
    let rows = json!([{ "contender": "rsock", "transport": "tcp", "over": { "tonic": 1.84 } }]);
    let results = CASES.iter().flat_map(|(_, name)| {
        ["1cpu", "2w"].map(|mode| json!({ "case": name, "mode": mode, "rows": rows }))
    });
    let sitting = json!({ "results": results.collect::<Vec<_>>() });
    assert!(of_grpc(Some(&sitting))[1].ends_with("| channel echo 1 KiB | 1.8× | 1.8× |\n"));
    assert_eq!(with_comma(1308.2), "1,308");
    assert_eq!(with_comma(185.3), "185");
    assert_eq!(to_nearest(100.0, instructions("a 1 0\nb 48936786 9", "b", REQUESTS)), "3,800");
    assert_eq!(missing("a\n b c", &["a b".to_owned(), "b d".to_owned()]), ["b d"]);
}
