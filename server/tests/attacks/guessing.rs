//! Ten thousand wrong passwords, and what others see of them.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use rsock::{Client, PayloadExt, metadata::Authentication};

use crate::support::{Directory, Running, to, within};

/// The times of requests, one each few milliseconds, until something is over.
async fn times(client: &Client, over: impl Fn() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over() {
        let began = Instant::now();
        within(client.request_response(to("echo"))).await.unwrap();
        times.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort_unstable();
    times
}

fn at(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// Processor time of this process, in clock ticks of a hundredth of a second.
fn ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Prints figures, which depend on the machine: run it alone, as
/// `cargo test -p rsock-server --test attacks guessing -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn ten_thousand_wrong_passwords_measured() {
    let directory = Directory::new("guessing");
    let service = Running::of(&directory).await;
    let (other, guest) = (service.try_as(None).await.unwrap(), service.try_as(None).await.unwrap());
    let until = |seconds| {
        let end = Instant::now() + Duration::from_secs(seconds);
        move || Instant::now() >= end
    };
    let before = times(&other, until(3)).await;
    // Guesses over 20 s, some of them at each moment, so that there is always one to be looked at.
    let (began, ticks_before) = (Instant::now(), ticks());
    let guess = |number: usize| {
        let wrong = Authentication::simple("ann", &format!("guess {number}"));
        let asked = to("echo").authentication(&wrong).unwrap();
        let guest = &guest;
        async move {
            tokio::time::sleep_until((began + Duration::from_millis(2 * number as u64)).into())
                .await;
            guest.request_response(asked).await.is_err()
        }
    };
    let guesses = stream::iter(0..10_000).map(guess).buffer_unordered(10_000).count();
    let (made, during) = tokio::join!(guesses, times(&other, until(20)));
    let (wall, busy) = (began.elapsed(), ticks() - ticks_before);
    println!(
        "{made} guesses in {wall:?}: p50 {:?} -> {:?}, p99 {:?} -> {:?}; {:.2} cores busy, of {}",
        at(&before, 50),
        at(&during, 50),
        at(&before, 99),
        at(&during, 99),
        busy as f64 / 100.0 / wall.as_secs_f64(),
        std::thread::available_parallelism().unwrap(),
    );
    service.end().await;
}

/// Whoever goes away before the answer has guessed as well.
#[tokio::test]
async fn a_guess_counts_although_nobody_waits_for_its_answer() {
    let directory = Directory::new("guessing-away");
    let service = Running::of(&directory).await;
    let (guest, ops) = (service.try_as(None).await.unwrap(), service.client("ops").await);
    let slowed = async || {
        let status = within(ops.request_response(to("status"))).await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.data).unwrap();
        status["access"]["slowed"].as_u64().unwrap()
    };
    let mut number = 0;
    within(async {
        while slowed().await == 0 {
            number += 1;
            let wrong = Authentication::simple("ann", &format!("guess {number}"));
            let asked = guest.request_response(to("echo").authentication(&wrong).unwrap());
            // It is under way by then, and canceled.
            let _ = tokio::time::timeout(Duration::from_millis(5), asked).await;
        }
    })
    .await;
    service.end().await;
}
