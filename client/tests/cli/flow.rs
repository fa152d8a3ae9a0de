//! Credit, as the server sees it.

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use crate::support::{Service, rsock, rsock_with, spawn};

fn numbers(to: u64) -> String {
    (0..to).map(|n| format!("{n}\n")).collect()
}

#[test]
fn never_more_than_request_n_are_outstanding() {
    for (options, n, refill) in [
        (["--request-n", "4", "--refill", "50"], 4, 2),
        (["--request-n", "4", "--refill", "75"], 4, 3),
        (["--request-n", "4", "--refill", "100"], 4, 4),
        (["--request-n", "1", "--delay", "1ms"], 1, 1),
    ] {
        let service = Service::start();
        let range = ["stream", &service.tcp, "-r", "range", "-d", "10"];
        rsock(&[range.as_slice(), &options].concat()).printed(&numbers(10));
        let (grants, most) = service.grants();
        assert_eq!(grants[0], n);
        // Two refills may leave as one.
        assert!(grants[1..].iter().all(|grant| grant % refill == 0), "{grants:?}");
        assert!(most <= n.into(), "{most}");
    }
}

#[test]
fn the_default_window_is_256() {
    let service = Service::start();
    rsock(&["stream", &service.ws, "-r", "range", "-d", "300"]).printed(&numbers(300));
    let (grants, most) = service.grants();
    assert_eq!((grants[0], grants[1] % 128), (256, 0));
    assert!(most <= 256);
}

#[test]
fn take_never_asks_for_more() {
    for (take, window, expected) in [("3", "256", 3), ("7", "4", 4), ("4", "4", 4)] {
        let service = Service::start();
        for arguments in [
            ["stream", &service.tcp, "-r", "range", "--request-n", window, "--take", take],
            ["--stream", &service.ws, "--route", "range", "--limitRate", window, "--take", take],
        ] {
            let done = rsock(&arguments);
            done.printed(&numbers(take.parse().unwrap()));
        }
        let (grants, most) = service.grants();
        assert_eq!(grants[0], expected);
        assert_eq!(grants.iter().sum::<u32>(), 2 * take.parse::<u32>().unwrap());
        assert!(most <= window.parse().unwrap());
        assert!(service.was_cancelled());
    }
}

#[test]
fn take_of_a_channel_ends_both_directions() {
    let service = Service::start();
    let input = numbers(1_000);
    let done = rsock_with(&["channel", &service.tcp, "--take", "2"], input.as_bytes());
    done.printed("0\n1\n");
    assert_eq!(service.grants().0, [2]);
    assert!(service.was_cancelled());
}

#[test]
fn ctrl_c_cancels() {
    let service = Service::start();
    let mut child = spawn(&["stream", &service.tcp, "-r", "silent"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -INT $0", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(service.was_cancelled());
}
