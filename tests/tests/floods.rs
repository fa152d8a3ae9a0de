//! Floods at a server process: what they make it hold, whether others go on, and which counter tells.
//!
//! With `RSOCK_TESTS_FULL` set they have the sizes of `docs/hostile.md`, best with `--release`; every day
//! they have a fiftieth of them. `--nocapture` shows the figures.
#![cfg(target_os = "linux")]

use std::time::Instant;

use rsock::Client;
use rsock_tests::{
    process::Process,
    script::{Peer, Tally},
    wire::{C, Frame, I, MAX_N, N, R, can, err, fnf, ka, mp, p, rc, rn, rr, rs, setup, u},
};

/// The sizes of the protocol's notes, or a part of them.
fn many(full: u32) -> u32 {
    if std::env::var_os("RSOCK_TESTS_FULL").is_some() { full } else { full / 50 }
}

async fn fixture(settings: &[&str]) -> Process {
    Process::fixture_with(env!("CARGO_BIN_EXE_rsock-fixture"), settings).await
}

/// Another connection, which must not suffer.
struct Witness(Client);

impl Witness {
    async fn new(uri: &str) -> Self {
        let witness = Self(Client::connect(uri).await.expect("a connection"));
        // What is measured later is growth and not the first use.
        for _ in 0..500 {
            witness.goes_on().await;
        }
        witness
    }

    async fn goes_on(&self) {
        let reply = self.0.request_response("still here").await;
        assert_eq!(reply.expect("the other connection works").data, "still here");
    }

    /// A figure of the server's meter.
    async fn figure(&self, name: &str) -> u64 {
        let reading = self.0.request_response("meter").await.expect("figures").data;
        let reading = String::from_utf8_lossy(&reading).into_owned();
        let (_, rest) = reading.split_once(&format!(" {name}: ")).expect(name);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }
}

/// The cost of a flood.
struct Cost {
    tally: Tally,
    /// The peak above what the process had before, in bytes.
    grown: u64,
    /// Time on a processor, in ticks of 10 ms.
    ticks: u64,
}

/// Sends frames from a connection of its own, while another goes on.
async fn flood(
    server: &Process,
    witness: &Witness,
    peer: &mut Peer,
    what: &str,
    frames: impl IntoIterator<Item = Frame>,
) -> Cost {
    let (before, ticks, start) = (server.memory(), server.cpu_ticks(), Instant::now());
    server.forget_peak();
    let mut round_trips = 0_u32;
    let tally = {
        let mut blast = std::pin::pin!(peer.blast(frames));
        loop {
            tokio::select! {
                biased;
                tally = &mut blast => break tally,
                () = witness.goes_on() => round_trips += 1,
            }
        }
    };
    witness.goes_on().await;
    let grown = server.peak_memory().saturating_sub(before);
    let ticks = server.cpu_ticks() - ticks;
    eprintln!(
        "{what}: {:?}, server {} ms on a processor, peak +{} KiB, {round_trips} round trips \
         elsewhere, {tally:?}",
        start.elapsed(),
        10 * ticks,
        grown >> 10
    );
    Cost { tally, grown, ticks }
}

fn assert_below(grown: u64, bound: u64, what: &str) {
    assert!(grown < bound, "{what}: the server grew by {} KiB", grown >> 10);
}

/// UNX-04, H050, H065, H066, H088, H106: what changes nothing is counted and costs no more than what is
/// served.
#[tokio::test]
async fn frames_that_are_ignored() {
    let server = fixture(&[]).await;
    let witness = Witness::new(&server.uris[0]).await;
    let count = many(1_000_000);
    for uri in &server.uris {
        let mut peer = Peer::established(uri).await;
        let echoes = (0..count).map(|n| rr(2 * n + 1, "x"));
        let served = flood(&server, &witness, &mut peer, "REQUEST_RESPONSE", echoes).await;
        assert_eq!(served.tally.count("P"), count as usize);
        peer.send(rs(1, 1, "never")).await;
        for (frame, counter) in [
            (rn(1, MAX_N), None),
            (rn(1, 1), None),
            (rn(7, 1), Some("ignored_unknown_stream")),
            (p(7, N, "x"), Some("ignored_unknown_stream")),
            (can(7), Some("ignored_unknown_stream")),
            (err(7, 0x201, ""), Some("ignored_unknown_stream")),
            (rr(1, "live"), Some("ignored_unknown_stream")),
            (setup(), Some("ignored_out_of_place")),
            (mp("stray").on(1), Some("ignored_out_of_place")),
            (u(0, 0x20, I), Some("ignored_on_request")),
            (ka(0, 0, "never asked for"), None),
        ] {
            let what = format!("{frame} × {count}");
            let before = match counter {
                Some(counter) => witness.figure(counter).await,
                None => 0,
            };
            let frames = std::iter::repeat_n(frame, count as usize);
            let cost = flood(&server, &witness, &mut peer, &what, frames).await;
            assert_eq!(cost.tally, Tally::default(), "{what}");
            assert_below(cost.grown, 2 << 20, &what);
            // Cheaper than the cheapest that is served: there is nothing for a limit to win.
            assert!(cost.ticks <= served.ticks + 20, "{what}: {} ticks", cost.ticks);
            if let Some(counter) = counter {
                let counted = witness.figure(counter).await - before;
                assert!(counted >= u64::from(count), "{what}: {counted} {counter}");
            }
        }
    }
}

/// H103, H130, KA-15, MDP-08: KEEPALIVE and METADATA_PUSH.
#[tokio::test]
async fn frames_of_the_connection() {
    let server = fixture(&[]).await;
    let witness = Witness::new(&server.uris[0]).await;
    let count = many(1_000_000) as usize;
    for uri in &server.uris {
        let mut peer = Peer::established(uri).await;
        let dropped = witness.figure("dropped_keepalive_replies").await;
        let frames = std::iter::repeat_n(ka(R, 0, "x"), count);
        let cost = flood(&server, &witness, &mut peer, "KEEPALIVE", frames).await;
        let dropped = witness.figure("dropped_keepalive_replies").await - dropped;
        assert_eq!(cost.tally.count("KA") + dropped as usize, count, "{:?}", cost.tally);
        assert_below(cost.grown, 2 << 20, "KEEPALIVE");
        let dropped = witness.figure("dropped_pushes").await;
        peer.send(mp("never")).await;
        let frames = std::iter::repeat_n(mp("x"), count);
        let cost = flood(&server, &witness, &mut peer, "METADATA_PUSH", frames).await;
        assert_eq!(cost.tally, Tally::default());
        assert_below(cost.grown, 2 << 20, "METADATA_PUSH");
        let dropped = witness.figure("dropped_pushes").await - dropped;
        assert_eq!(dropped as usize, count - 256);
    }
}

/// H102: replies of 16 MiB that nobody reads.
#[tokio::test]
async fn large_keepalives_that_nobody_reads_the_answer_of() {
    let server = fixture(&[]).await;
    let witness = Witness::new(&server.uris[0]).await;
    for uri in &server.uris {
        let before = server.memory();
        server.forget_peak();
        let mut peer = Peer::established(uri).await;
        let frame = [ka(R, 0, vec![0; (16 << 20) - 15])];
        let (mut taken, most) = (0, many(200));
        while taken < most && peer.flood(&frame).await.is_some() {
            taken += 1;
            witness.goes_on().await;
        }
        let grown = server.peak_memory().saturating_sub(before);
        eprintln!("KEEPALIVE of 16 MiB: {taken} taken, peak +{} KiB", grown >> 10);
        // One that is read, with the room to read it in, and one whose answer is written.
        assert_below(grown, 100 << 20, "KEEPALIVE of 16 MiB");
        drop(peer);
        witness.goes_on().await;
    }
}

/// H079, H080, H081, H082, DOS-02, DOS-03: streams, open and over.
#[tokio::test]
async fn streams_by_the_million() {
    let server = fixture(&[]).await;
    let witness = Witness::new(&server.uris[0]).await;
    let (count, most) = (many(1_000_000), 4_096);
    for uri in &server.uris {
        let mut peer = Peer::established(uri).await;
        let pairs = (0..count).flat_map(|n| [rr(2 * n + 1, "never"), can(2 * n + 1)]);
        let cost = flood(&server, &witness, &mut peer, "H079", pairs).await;
        assert_eq!(cost.tally, Tally::default());
        assert_below(cost.grown, 4 << 20, "H079");
        assert_eq!(witness.figure("open_streams").await, 0, "H079");

        let refused = witness.figure("refused_streams").await;
        let never = (0..count).map(|n| rr(2 * n + 1, "never"));
        let cost = flood(&server, &witness, &mut peer, "H080", never).await;
        assert_eq!(cost.tally.count("ERR 0x202"), (count - most) as usize, "{:?}", cost.tally);
        assert_below(cost.grown, 16 << 20, "H080");
        let refused = witness.figure("refused_streams").await - refused;
        // And the two questions whether it is over.
        assert_eq!(refused, u64::from(count - most) + 2);
        peer.send_all((0..most).map(|n| can(2 * n + 1))).await;
        peer.fence().await;

        let dropped = witness.figure("dropped_fire_and_forget").await;
        let mut slow = Peer::established(uri).await;
        let told = (0..count).map(|n| fnf(2 * n + 1, "never"));
        let cost = flood(&server, &witness, &mut slow, "H081", told).await;
        assert_eq!(cost.tally, Tally::default());
        assert_below(cost.grown, 16 << 20, "H081");
        let dropped = witness.figure("dropped_fire_and_forget").await - dropped;
        assert_eq!(dropped, u64::from(count - most));
        drop(slow);

        let count = many(65_536);
        let refused = witness.figure("refused_streams").await;
        let channels = (0..count).map(|n| rc(2 * n + 1, 1, "x").flags(C));
        let cost = flood(&server, &witness, &mut peer, "H082", channels).await;
        let refused = witness.figure("refused_streams").await - refused;
        assert!(cost.tally.count("ERR 0x202") as u64 <= refused);
        assert!(cost.tally.count("P") as u64 >= u64::from(count) - refused, "{:?}", cost.tally);
        assert_below(cost.grown, 16 << 20, "H082");
        peer.fence().await;
    }
}

/// The cost of 200,000 open streams where as many may be open.
#[tokio::test]
async fn many_open_streams() {
    let count = many(200_000);
    let server = fixture(&[&format!("max_streams={}", count + 10)]).await;
    let witness = Witness::new(&server.uris[0]).await;
    let mut peer = Peer::established(&server.uris[0]).await;
    let never = (0..count).map(|n| rr(2 * n + 1, "never"));
    let cost = flood(&server, &witness, &mut peer, "open streams", never).await;
    assert_eq!(cost.tally, Tally::default());
    assert_eq!(witness.figure("open_streams").await, u64::from(count));
    let each = cost.grown / u64::from(count);
    eprintln!("{each} bytes a stream");
    assert_below(cost.grown, (2 << 20) + u64::from(count) * 2048, "open streams");
    peer.send_all((0..count).map(|n| can(2 * n + 1))).await;
    peer.fence().await;
    assert_eq!(witness.figure("open_streams").await, 0);
}

/// H052, SETUP-30, DOS-06: connections that stop half way through SETUP, or announce much and send little.
#[tokio::test]
async fn connections_that_never_set_up() {
    let server = fixture(&["setup_timeout_ms=3000"]).await;
    // Two files of each in all: half of what a process may have is ours.
    let count = many(9_000);
    let (memory, space) = (server.memory(), server.address_space());
    let witness = Witness::new(&server.uris[0]).await;
    let mut peers = Vec::new();
    for n in 0..count as usize {
        let mut peer = Peer::connect(&server.uris[n % 2]).await;
        let half = match n % 3 {
            0 => Vec::new(),
            // The largest frame there is, of which a few bytes come.
            1 if n % 2 == 0 => b"\xff\xff\xff\0\0\0\0\x04\0\0\x01".to_vec(),
            1 => b"\x82\xff\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\0\0\0\x04\0\0\x01".to_vec(),
            _ => {
                let whole = peer.framed(&setup().encode());
                whole[..whole.len() / 2].to_vec()
            }
        };
        peer.raw(half).await;
        peers.push(peer);
    }
    let opened = witness.figure("open_connections").await;
    for _ in 0..100 {
        witness.goes_on().await;
    }
    let (grown, asked) = (server.memory() - memory, server.address_space() - space);
    eprintln!(
        "{count} halves of SETUP: {opened} open, +{} KiB, address space +{} KiB",
        grown >> 10,
        asked >> 10
    );
    // A read buffer each, the kernel's and the runtime's apart; never what was announced.
    assert_below(grown, (4 << 20) + u64::from(count) * (48 << 10), "halves of SETUP");
    assert_below(asked, (256 << 20) + u64::from(count) * (64 << 10), "the address space");
    for mut peer in peers {
        while peer.next_or_end().await.is_some() {}
    }
    assert_eq!(witness.figure("open_connections").await, 1);
    // What announces more than SETUP may have is told so at once.
    assert_eq!(witness.figure("setup_timeouts").await, u64::from(count - count / 3));
}
