//! The cost of one frame of a peer, for every type in every state, beside few streams and beside as
//! many as may be open: no frame makes work that its bytes do not pay for (DOS-04).
//!
//! A server's driver is polled by hand over memory. What is counted is all it does for the frames: reading,
//! decoding, the engine, handlers, answers and their writing.

mod stage;
mod table;
mod wire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use rsock::Payload;
use rsock_proto::{
    Connection, Interaction, SendBuf,
    frame::{Setup, VERSION},
};
use tokio::{io::AsyncWriteExt, runtime::Builder};

use crate::Result;
use stage::{Stage, begin, collected, end};
pub(crate) use table::check;
use wire::{ENDS, F, N, OF_THE_CONNECTION, ON_STREAM, OPENING, OnStream, R, RC, RR, RS, frame};

/// Streams a peer may have open.
const MAX_STREAMS: u32 = 4_096;
/// Frames of a kind that are counted together: a list that grows now and then is not one frame's doing.
const FRAMES: u32 = 64;
/// Places that the frames counted may take, of the peer's streams.
const SPARE: u32 = 1_600;

/// The state in which the frames arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No stream that frames could name.
    Idle,
    /// Streams of the peer's that run.
    Response,
    Stream,
    Channel,
    /// Streams of ours.
    OwnResponse,
    OwnStream,
    OwnChannel,
    /// Requests of the peer's, and items on streams of ours, of which more fragments are to come.
    HalfRequest,
    HalfItem,
    /// The peer has said that it will close.
    Draining,
    /// A session that can be resumed.
    Resumable,
    /// The peer may ask only under leases, and asks us under its own.
    Leased,
    /// The peer reads nothing, and as many replies wait as may.
    Replies,
}

const STATES: [State; 13] = [
    State::Idle,
    State::Response,
    State::Stream,
    State::Channel,
    State::OwnResponse,
    State::OwnStream,
    State::OwnChannel,
    State::HalfRequest,
    State::HalfItem,
    State::Draining,
    State::Resumable,
    State::Leased,
    State::Replies,
];

/// The streams that are open besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Few,
    /// As many streams as the peer may have, but for those that are counted.
    Full,
    /// The same, and their ids have all low bits in common.
    Colliding,
}

impl Beside {
    fn stride(self) -> u32 {
        // Twice as far apart as a table of so many streams is long.
        if self == Self::Colliding { 8 * MAX_STREAMS } else { 2 }
    }
}

/// A cell of the table: these frames in this state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    state: String,
    beside: Beside,
    frame: String,
}

impl Cell {
    fn line(&self, frames: usize, bytes: usize) -> String {
        format!("{} {:?} {frames} {bytes} {}", self.state, self.beside, self.frame)
    }
}

/// Frames in a state, in one connection; those that end streams have streams of their own.
async fn count_state(state: State, beside: Beside) -> Result<()> {
    let mut stage = Stage::new(state, beside.stride()).await?;
    let is_own = matches!(
        state,
        State::OwnResponse | State::OwnStream | State::OwnChannel | State::HalfItem
    );
    if beside != Beside::Few {
        if is_own {
            stage.ask(RR, MAX_STREAMS - SPARE).await?;
        } else {
            stage.open(RS, 0, MAX_STREAMS - SPARE).await?;
        }
    }
    let wanted = FRAMES * ON_STREAM.len() as u32;
    // The tables have grown before anything is counted: that is paid for by all streams they have room
    // for. One stream stays, or they would be given back.
    for kind in [RR, RC] {
        let ids = stage.open(kind, 0, SPARE).await?;
        let cancels = ids.iter().skip(1).flat_map(|id| frame(*id, 0x09, 0, b"", b""));
        let cancels: Vec<u8> = cancels.collect();
        stage.send(&cancels).await?;
    }
    let targets = match state {
        State::Response => stage.open(RR, 0, wanted).await?,
        State::Channel => stage.open(RC, 0, wanted).await?,
        State::HalfRequest => stage.open(RR, F, wanted).await?,
        State::OwnResponse => stage.ask(RR, wanted).await?,
        State::OwnStream => stage.ask(RS, wanted).await?,
        State::OwnChannel => stage.ask(RC, wanted).await?,
        State::HalfItem => {
            let ids = stage.ask(RS, wanted).await?;
            let parts: Vec<u8> =
                ids.iter().flat_map(|id| frame(*id, 0x0A, N | F, b"", b"part")).collect();
            stage.send(&parts).await?;
            ids
        }
        // There is nothing with these ids, or not any more.
        State::Idle => (0..wanted).map(|turn| 1 + stage.stride * (MAX_STREAMS + turn)).collect(),
        State::Stream | State::Draining | State::Resumable | State::Leased | State::Replies => {
            stage.open(RS, 0, wanted).await?
        }
    };
    match state {
        State::Draining => {
            stage.send(&frame(0, 0x0B, 0, &0x102_u32.to_be_bytes(), b"going")).await?;
        }
        State::Replies => {
            stage.is_deaf = true;
            let asks = frame(0, 0x03, R, &[0; 8], b"are you there?");
            // As many as may wait, and as many as fit the buffers before them.
            for _ in 0..40 {
                stage.send(&asks.repeat(100)).await?;
            }
        }
        _ => {}
    }
    let cell = |frame: &str| Cell { state: format!("{state:?}"), beside, frame: frame.to_owned() };
    // What is not read has little room.
    let fits = |name: &str| state != State::Replies || !name.contains("KiB");
    for ((name, make), ids) in ON_STREAM.iter().zip(targets.chunks(FRAMES as usize)) {
        if fits(name) {
            let frames: Vec<_> = ids.iter().map(|id| make(*id)).collect();
            stage.count(&cell(name), &frames).await?;
        }
    }
    for (name, make) in OF_THE_CONNECTION.iter().filter(|(name, _)| fits(name)) {
        let frames: Vec<_> = (0..FRAMES).map(make).collect();
        stage.count(&cell(name), &frames).await?;
    }
    for (name, make) in OPENING {
        let frames: Vec<_> = (0..FRAMES).map(|_| make(stage.id())).collect();
        stage.count(&cell(name), &frames).await?;
    }
    if beside != Beside::Few && !is_own {
        stage.open(RS, 0, SPARE).await?;
        for (name, make) in OPENING {
            let frames: Vec<_> = (0..FRAMES).map(|_| make(stage.id())).collect();
            stage.count(&cell(&format!("{name}, refused")), &frames).await?;
        }
    }
    Ok(())
}

/// The end of a connection, poll by poll.
async fn count_end(beside: Beside, (name, make): &OnStream) -> Result<()> {
    let mut stage = Stage::new(State::Stream, beside.stride()).await?;
    if beside != Beside::Few {
        stage.open(RS, 0, MAX_STREAMS).await?;
        stage.ask(RR, MAX_STREAMS).await?;
    }
    let bytes = make(0);
    stage.peer.write_all(&bytes).now_or_never().ok_or("the driver does not read")??;
    if bytes.is_empty() {
        stage.peer.shutdown().await?;
    }
    let cell = Cell { state: "End".to_owned(), beside, frame: (*name).to_owned() };
    let mut polls = 0;
    loop {
        polls += 1;
        begin();
        let more = stage.poll().await;
        end(&cell.line(1, bytes.len()));
        match more {
            Some(true) => {}
            // It waits for the peer to close its side.
            Some(false) => stage.peer.shutdown().await?,
            None => break,
        }
        if polls > 1_000 {
            return Err(format!("{name}: a connection that does not end").into());
        }
    }
    // And what is left of it.
    begin();
    let Stage { serving, .. } = stage;
    let mut serving = Some(serving);
    collected(&mut || drop(serving.take()));
    end(&cell.line(1, bytes.len()));
    Ok(())
}

/// A client that waits for the answer to its RESUME, with all its streams open.
fn count_resuming(beside: Beside) -> Result<()> {
    let frames: [OnStream; 4] = [
        ("KEEPALIVE", |_| frame(0, 0x03, R, &[0; 8], b"")),
        ("EXT", |_| frame(0, 0x3F, 0, &[0; 4], b"")),
        ("PAYLOAD", |_| frame(1, 0x0A, N, b"", b"item")),
        ("ERROR CONNECTION_ERROR", |_| frame(0, 0x0B, 0, &0x101_u32.to_be_bytes(), b"later")),
    ];
    for (name, make) in frames {
        let (mut now, mut out) = (Instant::now(), SendBuf::length_prefixed());
        let setup = Setup {
            version: VERSION,
            keepalive_interval_ms: 1 << 20,
            max_lifetime_ms: 1 << 20,
            resume_token: Some(Bytes::from_static(b"token")),
            lease: false,
            metadata_mime: Bytes::from_static(b"m"),
            data_mime: Bytes::from_static(b"d"),
            payload: Payload::default(),
        };
        let mut client = Connection::client(setup, Arc::default(), now);
        let open = if beside == Beside::Few { 1 } else { MAX_STREAMS };
        for _ in 0..open {
            client
                .request(Interaction::RequestStream, "ask".into(), 1)
                .map_err(|misuse| misuse.to_string())?;
        }
        let mut transmit = |client: &mut Connection| {
            while client.wants_output() {
                client.poll_transmit(&mut out);
                out.advance(out.len());
            }
        };
        transmit(&mut client);
        // Whose server has said nothing has no session yet.
        let sign_of_life = frame(0, 0x03, 0, &[0; 8], b"");
        client.handle_frame(Bytes::copy_from_slice(&sign_of_life[3..]), now);
        client.handle_disconnect(None, now);
        client.resume(now).map_err(|misuse| misuse.to_string())?;
        transmit(&mut client);
        while client.poll_event().is_some() {}
        let bytes = make(0);
        let mut received = Some(Bytes::copy_from_slice(&bytes[3..]));
        now += Duration::from_millis(1);
        begin();
        collected(&mut || {
            if let Some(frame) = received.take() {
                client.handle_frame(frame, now);
            }
            while client.poll_event().is_some() {}
            transmit(&mut client);
        });
        let cell = Cell { state: "Resuming".to_owned(), beside, frame: name.to_owned() };
        end(&cell.line(1, bytes.len()));
    }
    Ok(())
}

/// All of it, under the counter or not.
pub(crate) fn run() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    for state in STATES {
        for beside in [Beside::Few, Beside::Full, Beside::Colliding] {
            let ids_are_theirs = matches!(
                state,
                State::Idle | State::Response | State::Channel | State::HalfRequest | State::Stream
            );
            if beside != Beside::Colliding || ids_are_theirs {
                runtime.block_on(count_state(state, beside))?;
            }
        }
    }
    for beside in [Beside::Few, Beside::Full] {
        for what in ENDS {
            runtime.block_on(count_end(beside, what))?;
        }
        count_resuming(beside)?;
    }
    Ok(())
}
