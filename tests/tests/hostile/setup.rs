//! SETUP.

use std::time::Duration;

use rsock::{Config, ResumeLimits, Server};
use rsock_tests::{
    script::Peer,
    wire::{
        C, Frame, I, L, MAX_N, N, R, can, err, ext, fnf, hex, ka, lease, mp, p, resume, resume_ok,
        rn, rr, setup, setup_of, u,
    },
};

use crate::{INVALID_SETUP, Stage, Then};

/// H034, H035: nothing may come before SETUP.
#[tokio::test]
async fn other_frames_first() {
    let mut stage = Stage::start().await;
    for frame in [
        rr(1, "d"),
        fnf(1, "too early"),
        ka(R, 0, "x"),
        lease(1, 1),
        mp("too early"),
        p(1, N, "d"),
        err(0, 0x101, ""),
        err(1, 0x201, ""),
        resume_ok(0),
        can(1),
        rn(1, 1),
        ext(0, I, 1),
        u(0, 0x20, I),
        u(0, 0x20, 0),
        setup().on(1),
    ] {
        let row = format!("H034 {frame}");
        stage.first_frames(&row, &[frame.encode()], INVALID_SETUP).await;
    }
    // RESUME without sessions, and RESUME on a stream.
    let unknown = resume(b"token").encode();
    stage.first_frames("RESUME-16", &[unknown], Then::Error(&[4])).await;
    let misplaced = resume(b"token").on(1).encode();
    stage.first_frames("SETUP-03", &[misplaced], INVALID_SETUP).await;
    let saw = &stage.served.fixture.recorder;
    assert_eq!(saw.count("fnf too early") + saw.count("push too early"), 0);
}

/// H036 to H040, H045, H046, SETUP-09, SETUP-12, LEASE-16.
#[tokio::test]
async fn the_fields_of_setup() {
    let mut stage = Stage::start().await;
    let of = |version, interval, lifetime| setup_of(version, interval, lifetime, b"a/b", b"c/d");
    let version = Then::Error(&[1, 2]);
    for (row, frame, then) in [
        ("H036", of((0, 0), 1, 1), version.clone()),
        ("H036", of((0, 2), 1, 1), version.clone()),
        ("H036", of((1, 1), 1, 1), version.clone()),
        ("H036", of((2, 0), 1, 1), version.clone()),
        ("H036", of((65_535, 65_535), 1, 1), version),
        ("H037", of((1, 0), 0, 1), INVALID_SETUP),
        ("H037", of((1, 0), 0x8000_0000, 1), INVALID_SETUP),
        ("H037", of((1, 0), u32::MAX, 1), INVALID_SETUP),
        ("H038", of((1, 0), 1, 0), INVALID_SETUP),
        ("H038", of((1, 0), 1, 0x8000_0000), INVALID_SETUP),
        ("H038", of((1, 0), 1, u32::MAX), INVALID_SETUP),
        ("H040", of((1, 0), MAX_N, MAX_N), Then::Alive),
        ("SETUP-32", of((1, 0), 60_000, 1000), Then::Alive),
        ("H045", setup_of((1, 0), 9999, 9999, &[0xff; 255], &[0xff; 255]), Then::Alive),
        ("H046", setup_of((1, 0), 9999, 9999, b"", b""), Then::Alive),
        ("SETUP-12", setup_of((1, 0), 9999, 9999, &[b'x'; 128], &[b'x'; 127]), Then::Alive),
        ("LEASE-16", setup().flags(L), Then::Error(&[2])),
        ("SETUP-15", setup().metadata("m").data("d"), Then::Alive),
        ("H048", setup().data(vec![0; 100_000]), Then::Alive),
        ("SETUP-16", setup().data("reject"), Then::Error(&[3])),
    ] {
        stage.first_frames(row, &[frame.encode()], then).await;
    }
    // With a token: there is nothing to resume here.
    let token = hex("00000000 0480 0001 0000 000001f4 000005dc 0002 aabb 01 78 01 78");
    stage.first_frames("SETUP-09", &[token], Then::Error(&[3])).await;
    let empty = hex("00000000 0480 0001 0000 000001f4 000005dc 0000 01 78 01 78");
    stage.first_frames("H043", &[empty], Then::Error(&[3])).await;
    let long = hex("00000000 0480 0001 0000 000001f4 000005dc ffff aabb 01 78 01 78");
    stage.first_frames("H042", &[long], INVALID_SETUP).await;
}

/// H043, H048, FRAME-03: the largest of what SETUP may hold. A resume is not on offer here, and what is
/// refused is read for all that.
#[tokio::test]
async fn large_setups() {
    let mut stage = Stage::start().await;
    let mut token = hex("00000000 0480 0001 0000 00004e20 00015f90 ffff");
    token.extend([0xff; 0xffff]);
    token.extend(hex("01 78 01 78"));
    stage.first_frames("H043", &[token.clone()], Then::Error(&[3])).await;
    let mut config = Config::default();
    config.resume = Some(ResumeLimits::default());
    // What a stranger may make us hold is little; a server may allow more.
    let bare = setup().encode().len();
    let largest = Config::default().max_setup_bytes - bare;
    stage.first_frames("H048", &[setup().data(vec![0; largest]).encode()], Then::Alive).await;
    let beyond = setup().data(vec![0; largest + 1]).encode();
    // A WebSocket refuses it as a message, before it knows of frames.
    stage.first_frames("H048", &[beyond], Then::Error(&[1, 0x101])).await;
    let mut generous = config.clone();
    generous.max_setup_bytes = 0xff_ffff;
    let mut generous = Stage::with(Server::builder().config(generous)).await;
    let whole = setup().data(vec![0; 0xff_ffff - bare]).encode();
    generous.first_frames("H048", &[whole], Then::Alive).await;
    let mut resuming = Stage::with(Server::builder().config(config)).await;
    // A session each: the one before is kept for a while.
    for uri in resuming.served.uris.clone() {
        let mut peer = Peer::connect(&uri).await;
        let last = token.len() - 5;
        token[last] ^= 1;
        peer.send_bytes(&token).await;
        peer.send(rr(1, "taken")).await;
        peer.expect(p(1, N | C, "taken")).await;
        resuming.nobody_noticed("H043").await;
    }
}

/// H039: the shortest times there are: no busy loop, no overflow, and an end by KA-10.
#[tokio::test]
async fn the_shortest_lifetime() {
    let mut stage = Stage::start().await;
    let shortest = setup_of((1, 0), 1, 1, b"", b"").encode();
    stage.first_frames("H039", &[shortest], Then::Error(&[0x101])).await;
}

/// H041, H044, H047: cut anywhere.
#[tokio::test]
async fn setup_cut_at_every_offset() {
    let mut stage = Stage::start().await;
    let whole = setup_of((1, 0), 20_000, 90_000, b"a/b", b"c/d").metadata("metadata").encode();
    for cut in 6..whole.len() {
        let row = format!("H041 at {cut}");
        let cut = whole[..cut].to_vec();
        stage.first_frames(&row, &[cut], Then::Error(&[1, 0x101])).await;
    }
    stage.first_frames("whole", &[whole], Then::Alive).await;
}

/// H049, H050, SETUP-17, SETUP-26, RESUME-25.
#[tokio::test]
async fn setup_again() {
    let mut stage = Stage::start().await;
    let again = setup().encode();
    let other = setup_of((1, 0), 1, 1, b"x", b"y").flags(L).encode();
    let wrong_version = setup_of((9, 9), 1, 1, b"x", b"y").encode();
    let on_a_stream = setup().on(7).encode();
    stage.frames("H049", &[again.clone(), other, wrong_version, on_a_stream], Then::Alive).await;
    stage.frames("H050", &vec![again; 1000], Then::Alive).await;
    let errors: Vec<_> =
        [1, 2, 3, 4, 0x201, 0x301, 0].map(|code| err(0, code, "x").encode()).into();
    stage.frames("H056, H126", &errors, Then::Alive).await;
    let resumes = [resume(b"token").encode()];
    stage.frames_to_server("H116", &resumes, Then::Error(&[0x101])).await;
    let unasked = [resume_ok(9).encode(), lease(1, 1).encode(), lease(1, 1).on(1).encode()];
    stage.frames("H107", &unasked, Then::Alive).await;
}

/// H051: what follows a refused SETUP is not looked at.
#[tokio::test]
async fn requests_behind_a_refusal() {
    let mut stage = Stage::start().await;
    let refused = setup().data("reject").encode();
    let told = (0..1000).map(|n| fnf(2 * n + 1, "behind a refusal").encode());
    let frames: Vec<_> = std::iter::once(refused).chain(told).collect();
    stage.first_frames("H051", &frames, Then::Error(&[3])).await;
    assert_eq!(stage.served.fixture.recorder.count("fnf behind a refusal"), 0);
    let frames: Vec<Frame> = vec![setup(), fnf(1, "x"), rr(3, "d")];
    let frames: Vec<_> = frames.iter().map(Frame::encode).collect();
    let answers = Then::Answers(vec![p(3, N | C, "d")]);
    stage.first_frames("SETUP-20", &frames, answers).await;
}

/// H052: many that stop half way.
#[tokio::test]
async fn many_halves_of_setup() {
    let mut config = Config::default();
    config.setup_timeout = Duration::from_millis(200);
    let mut stage = Stage::with(Server::builder().config(config)).await;
    let mut peers = Vec::new();
    for n in 0..400 {
        let mut peer = Peer::connect(&stage.served.uris[n % 2]).await;
        let half = peer.framed(&setup().encode());
        peer.raw(&half[..half.len() / 2]).await;
        peers.push(peer);
    }
    stage.nobody_noticed("H052").await;
    for mut peer in peers {
        while peer.next_or_end().await.is_some() {}
    }
    stage.nobody_noticed("H052").await;
}
