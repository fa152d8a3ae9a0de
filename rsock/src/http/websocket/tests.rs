use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{
    http::HttpLimits,
    memory::MemoryBudget,
    transport::websocket::{MaskKeys, Opcode, apply_mask, encode_header},
};

// ----- messages

#[tokio::test(start_paused = true)]
async fn messages_of_both_kinds_go_both_ways() {
    let mut peer = Peer::of(WebSocketOptions::default(), echo);
    peer.say(Opcode::Text, "grüße".as_bytes()).await;
    assert_eq!(peer.hear().await, (TEXT, "grüße".as_bytes().to_vec()));
    peer.say(Opcode::Binary, &[0, 255]).await;
    assert_eq!(peer.hear().await, (BINARY, vec![0, 255]));
    let long = vec![b'x'; 64 << 10];
    peer.say(Opcode::Text, &long).await;
    assert_eq!(peer.hear().await, (TEXT, long));
    peer.say(Opcode::Close, b"\x0f\xa0done").await;
    assert_eq!(peer.hear().await, (CLOSE, b"\x0f\xa0".to_vec()));
    assert_eq!(
        peer.end().await,
        WebSocketEnd::Peer { code: Some(4000), reason: "done".to_owned() }
    );
}

#[tokio::test(start_paused = true)]
async fn text_in_fragments_may_end_within_a_character_and_not_at_its_end() {
    let mut peer = Peer::of(WebSocketOptions::default(), echo);
    peer.raw(&[0x01, 0x80 | 1, 0, 0, 0, 0, 0xc3]).await;
    peer.say(Opcode::Ping, b"between").await;
    peer.raw(&[0x80, 0x80 | 1, 0, 0, 0, 0, 0xbc]).await;
    assert_eq!(peer.hear().await, (PONG, b"between".to_vec()));
    assert_eq!(peer.hear().await, (TEXT, "ü".as_bytes().to_vec()));
    peer.raw(&[0x01, 0x80 | 1, 0, 0, 0, 0, 0xc3]).await;
    peer.raw(&[0x80, 0x80 | 1, 0, 0, 0, 0, b'u']).await;
    let (opcode, body) = peer.hear().await;
    assert_eq!((opcode, &body[..2]), (CLOSE, &1007_u16.to_be_bytes()[..]));
    assert!(matches!(peer.end().await, WebSocketEnd::Here { code: 1007, .. }));
}

#[tokio::test(start_paused = true)]
async fn what_goes_beyond_the_rules_is_told_by_a_code() {
    let options = || WebSocketOptions::default().max_message_bytes(10);
    for (bytes, code) in [
        (&[0x81, 0x80 | 1, 0, 0, 0, 0, 0xff][..], 1007_u16),
        (&[0x81, 0x80 | 11, 0, 0, 0, 0], 1009),
        (&[0x82, 0x80 | 127, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
        (&[0x81, 1, b'x'], 1002),
        (&[0xc1, 0x80, 0, 0, 0, 0], 1002),
        (&[0x88, 0x80 | 2, 0, 0, 0, 0, 0x03, 0xed], 1002),
    ] {
        let mut peer = Peer::of(options(), echo);
        peer.raw(bytes).await;
        let (opcode, body) = peer.hear().await;
        assert_eq!((opcode, &body[..2]), (CLOSE, &code.to_be_bytes()[..]), "{bytes:x?}");
        peer.say(Opcode::Text, b"unheard").await;
        assert!(matches!(peer.end().await, WebSocketEnd::Here { code: told, .. } if told == code));
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_farewell_is_received() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        while socket.receive().await.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            counter.fetch_add(1, Relaxed);
        }
        socket
    });
    for _ in 0..20 {
        peer.say(Opcode::Text, b"one more").await;
    }
    peer.say(Opcode::Close, b"\x03\xe8").await;
    assert!(matches!(peer.end().await, WebSocketEnd::Peer { code: Some(1000), .. }));
    assert_eq!(heard.load(Relaxed), 20);
}

// ----- the slower end

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_holds_back_the_handler() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        while socket.send("x".repeat(1_000)).await.is_ok() {
            counter.fetch_add(1_000, Relaxed);
        }
        socket
    });
    settle().await;
    let ahead = sent.load(Relaxed);
    assert!((16_000..40_000).contains(&ahead), "{ahead}");
    for _ in 0..100 {
        peer.hear().await;
    }
    settle().await;
    let further = sent.load(Relaxed) - 100_000;
    assert!((16_000..40_000).contains(&further), "{further}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_receive_holds_back_the_peer() {
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        socket.poll_end_of_world().await;
        socket
    });
    let message = vec![b'x'; 1_000];
    let said = async {
        for _ in 0..1_000 {
            peer.say(Opcode::Text, &message).await;
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(10), said).await;
    assert!(said.is_err(), "a megabyte was taken");
    assert!(peer.account.used() <= 16 << 10, "{}", peer.account.used());
    // Nor is its silence taken for an end: it cannot be heard.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!peer.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up() {
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        while socket.send(vec![0; 30_000]).await.is_ok() {}
        socket
    });
    let began = Instant::now();
    assert_eq!(peer.end().await, WebSocketEnd::Lost);
    let took = began.elapsed();
    assert!((60..63).contains(&took.as_secs()), "{took:?}");
    assert_eq!(peer.meter.read().http_timeouts, 1);
    assert_eq!(peer.account.used(), 0);
}

// ----- time

#[tokio::test(start_paused = true)]
async fn silence_is_asked_about_and_ends_the_connection() {
    let mut peer = Peer::of(WebSocketOptions::default(), echo);
    let began = Instant::now();
    assert_eq!(peer.hear().await, (PING, Vec::new()));
    assert_eq!(began.elapsed().as_secs(), 25);
    peer.say(Opcode::Pong, b"").await;
    assert_eq!(peer.hear().await, (PING, Vec::new()));
    assert_eq!(began.elapsed().as_secs(), 50);
    // Whatever comes is a sign of life.
    peer.say(Opcode::Text, b"here").await;
    assert_eq!(peer.hear().await, (TEXT, b"here".to_vec()));
    assert_eq!(peer.hear().await, (PING, Vec::new()));
    assert_eq!(peer.end().await, WebSocketEnd::Lost);
    let took = began.elapsed().as_secs();
    assert!((100..=102).contains(&took), "{took}");
    assert_eq!(peer.meter.read().http_timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn pings_are_no_messages_and_who_sends_nothing_else_is_idle() {
    let options = WebSocketOptions::default().idle_timeout(Duration::from_secs(60));
    let mut peer = Peer::of(options, echo);
    let began = Instant::now();
    let (opcode, body) = loop {
        match peer.hear().await {
            (PING, _) => peer.say(Opcode::Pong, b"").await,
            other => break other,
        }
    };
    assert_eq!((opcode, &body[2..]), (CLOSE, &b"nothing was sent for 60 s"[..]));
    assert_eq!(began.elapsed().as_secs(), 60);
    peer.say(Opcode::Close, &body[..2]).await;
    assert!(matches!(peer.end().await, WebSocketEnd::Here { code: 1000, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_farewell_is_not_waited_for_long() {
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        socket.send("last").await.expect("it is open");
        socket.close(4001, "enough");
        assert_eq!(socket.receive().await, None);
        socket
    });
    let began = Instant::now();
    assert_eq!(peer.hear().await, (TEXT, b"last".to_vec()));
    assert_eq!(peer.hear().await, (CLOSE, b"\x0f\xa1enough".to_vec()));
    let end = WebSocketEnd::Here { code: 4001, reason: "enough".to_owned() };
    assert_eq!(peer.end().await, end);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_cut_between_characters_and_a_code_is_one_that_may_be_sent() {
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        socket.close(1005, &"ü".repeat(100));
        socket
    });
    let (opcode, body) = peer.hear().await;
    assert_eq!((opcode, &body[..2]), (CLOSE, &1011_u16.to_be_bytes()[..]));
    assert_eq!(std::str::from_utf8(&body[2..]), Ok("ü".repeat(61).as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_its_websocket() {
    let mut peer = Peer::of(WebSocketOptions::default(), |mut socket| async move {
        socket.receive().await;
        panic!("as it is told to")
    });
    peer.say(Opcode::Text, b"panic").await;
    let (opcode, body) = peer.hear().await;
    assert_eq!((opcode, &body[..2]), (CLOSE, &1011_u16.to_be_bytes()[..]));
    peer.served.await.expect("the connection's task goes on");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_goes_on_for_ever_is_dropped() {
    let mut peer = Peer::of(WebSocketOptions::default(), |socket| async move {
        std::future::pending::<()>().await;
        socket
    });
    let began = Instant::now();
    peer.say(Opcode::Close, b"").await;
    assert_eq!(peer.hear().await, (CLOSE, Vec::new()));
    peer.served.await.expect("it ends");
    assert_eq!(began.elapsed().as_secs(), 5);
}

// ----- the end of the server

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_closes_with_1001() {
    let mut peer = Peer::of(WebSocketOptions::default(), echo);
    peer.draining.send_replace(true);
    let began = Instant::now();
    let (opcode, body) = peer.hear().await;
    assert_eq!((opcode, &body[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    // At a time of its own.
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert!(matches!(peer.end().await, WebSocketEnd::Here { code: 1001, .. }));
}

#[tokio::test(start_paused = true)]
async fn who_heeds_the_drain_is_told_how_long_it_may_go_on_and_then_broken_off() {
    let options = WebSocketOptions::default().heeds_drain(true);
    let mut peer = Peer::of(options, |mut socket| async move {
        let left = socket.draining().await;
        socket.send(format!("{} s", left.as_secs())).await.expect("it is open");
        while socket.receive().await.is_some() {}
        socket
    });
    peer.draining.send_replace(true);
    assert_eq!(peer.hear().await, (TEXT, b"9 s".to_vec()));
    peer.ending.send_replace(true);
    let (opcode, body) = peer.hear().await;
    assert_eq!((opcode, &body[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    assert!(matches!(peer.end().await, WebSocketEnd::Here { code: 1001, .. }));
}

// ----- memory

#[tokio::test(start_paused = true)]
async fn a_message_for_which_there_is_no_memory_is_refused() {
    let mut peer = Peer::with_memory(WebSocketOptions::default(), 60_000, echo);
    peer.say(Opcode::Text, b"short").await;
    assert_eq!(peer.hear().await, (TEXT, b"short".to_vec()));
    let mut others = Account::new(Arc::clone(&peer.account));
    others.holds(60_000);
    peer.say(Opcode::Text, &[b'x'; 50_000]).await;
    let (opcode, body) = peer.hear().await;
    assert_eq!((opcode, &body[..2]), (CLOSE, &1013_u16.to_be_bytes()[..]));
    drop(others);
    assert!(matches!(peer.end().await, WebSocketEnd::Here { code: 1013, .. }));
    assert_eq!(peer.account.used(), 0);
}

// ----- helpers

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

async fn echo(mut socket: WebSocket) -> WebSocket {
    while let Some(message) = socket.receive().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
    socket
}

impl WebSocket {
    /// Waits for the end alone.
    async fn poll_end_of_world(&mut self) {
        poll_fn(|cx| self.poll_end(cx)).await;
    }
}

/// Has all that can happen at once happen.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The other end, by the letter.
struct Peer {
    io: DuplexStream,
    keys: MaskKeys,
    served: JoinHandle<()>,
    ended: tokio::sync::oneshot::Receiver<WebSocketEnd>,
    account: Arc<MemoryBudget>,
    meter: Arc<Meter>,
    draining: watch::Sender<bool>,
    ending: watch::Sender<bool>,
}

impl Peer {
    fn of<Fut>(
        options: WebSocketOptions,
        serve: impl FnOnce(WebSocket) -> Fut + Send + 'static,
    ) -> Self
    where
        Fut: Future<Output = WebSocket> + Send + 'static,
    {
        Self::with_memory(options, 1 << 30, serve)
    }

    fn with_memory<Fut>(
        options: WebSocketOptions,
        memory: usize,
        serve: impl FnOnce(WebSocket) -> Fut + Send + 'static,
    ) -> Self
    where
        Fut: Future<Output = WebSocket> + Send + 'static,
    {
        let (io, far) = duplex(4 << 10);
        let (meter, account) = (Arc::new(Meter::default()), MemoryBudget::new(memory));
        let (draining, ending) = (watch::Sender::new(false), watch::Sender::new(false));
        let bounds = drive::Bounds {
            stall_timeout: HttpLimits::default().stall_timeout,
            meter: Arc::clone(&meter),
            account: Account::new(Arc::clone(&account)),
            drain: (Duration::from_secs(1), Duration::from_secs(10)),
            draining: draining.subscribe(),
            ending: ending.subscribe(),
        };
        let (tell, ended) = tokio::sync::oneshot::channel();
        let conversation: Conversation = Box::new(|socket| {
            let serving = serve(socket);
            Box::pin(async move {
                let socket = serving.await;
                // Who wants to know waits for it.
                let _ = tell.send(socket.end().expect("it has ended"));
            })
        });
        let served = tokio::spawn(drive::drive(far, b"", options, conversation, bounds));
        Self { io, keys: MaskKeys::new(), served, ended, account, meter, draining, ending }
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("it takes them");
    }

    async fn say(&mut self, opcode: Opcode, body: &[u8]) {
        let mut frame = bytes::BytesMut::new();
        let key = self.keys.next();
        encode_header(opcode, body.len(), Some(key), &mut frame);
        let start = frame.len();
        frame.extend_from_slice(body);
        apply_mask(key, 0, &mut frame[start..]);
        // It may have been closed, which is seen elsewhere.
        let _ = self.io.write_all(&frame).await;
    }

    /// The next frame: its first byte, and its body.
    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let first = self.io.read_u8().await.expect("a frame");
        let length = match self.io.read_u8().await.expect("its length") {
            126 => self.io.read_u16().await.expect("its length").into(),
            127 => self.io.read_u64().await.expect("its length"),
            short => short.into(),
        };
        let mut body = vec![0; usize::try_from(length).expect("it fits")];
        self.io.read_exact(&mut body).await.expect("its body");
        (first, body)
    }

    /// Closes this side, and waits for how the other has ended.
    async fn end(&mut self) -> WebSocketEnd {
        let end = (&mut self.ended).await.expect("its handler ends");
        drop(std::mem::replace(&mut self.io, duplex(1).0));
        (&mut self.served).await.expect("it ends");
        end
    }
}
