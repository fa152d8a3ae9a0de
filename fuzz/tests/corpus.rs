//! Replays the corpus, without a fuzzer and on any toolchain.

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the target has a corpus") {
        let path = entry.expect("the corpus can be listed").path();
        let input = fs::read(&path).expect("the corpus can be read");
        // Shown if the replay fails.
        println!("{}", path.display());
        run(&input);
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn access() {
    replay("access", rsock_fuzz::access);
}

#[test]
fn decode() {
    replay("decode", rsock_fuzz::decode);
}

#[test]
fn deframe() {
    replay("deframe", rsock_fuzz::deframe);
}

#[test]
fn metadata() {
    replay("metadata", rsock_fuzz::metadata);
}

#[test]
fn topics() {
    replay("topics", rsock_fuzz::topics);
}

#[test]
fn members() {
    replay("members", rsock_fuzz::members);
}

#[test]
fn connection() {
    replay("connection", rsock_fuzz::connection);
}

#[test]
fn world() {
    replay("world", rsock_fuzz::world);
}

#[test]
fn proxy_header() {
    replay("proxy_header", rsock_fuzz::proxy_header);
}

#[test]
fn certificate() {
    replay("certificate", rsock_fuzz::certificate);
}

#[test]
fn plain_json() {
    replay("plain_json", rsock_fuzz::plain_json);
}
