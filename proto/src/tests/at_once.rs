//! Frames that are written at once, and what they must not overtake.

use super::{
    peer::{FNF, RC, RR, RS, Wire},
    resume,
    wire::*,
};
use crate::{AnswerNow, Config, Event, Payload, SendError, StreamKey, frame::Interaction};

/// The frames said to have been written without `poll_transmit`.
fn written(e: &mut Wire) -> String {
    let frames = e.drain();
    frames.iter().map(|frame| frame.describe()).collect::<Vec<_>>().join(" ")
}

fn open(e: &mut Wire, interaction: Interaction, data: &'static str) -> Option<u32> {
    e.request_now(interaction, data, 3).expect("a request")
}

#[test]
fn requests_leave_at_once_and_as_they_would_later() {
    for interaction in [FNF, RR, RS, RC] {
        let (mut now, mut later) = (Wire::client(), Wire::client());
        assert_eq!(open(&mut now, interaction, "d").is_none(), interaction == FNF);
        later.request(interaction, "d", 3);
        let sent = written(&mut now);
        assert_eq!(sent, later.sent());
        now.assert_silent(interaction);
        // FNF-02: nothing is left of it, and nothing is told.
        if interaction == FNF {
            assert_eq!(now.connection.open_streams(), 0);
            assert_eq!(now.events(), "");
        }
        assert_eq!(now.connection.stats().frames_out, later.connection.stats().frames_out);
        assert_eq!(now.connection.stats().bytes_out, later.connection.stats().bytes_out);
    }
}

#[test]
fn what_waits_is_not_overtaken() {
    let mut e = Wire::client();
    e.request(RR, "first", 0);
    assert_eq!(open(&mut e, RR, "second"), Some(3));
    assert_eq!(written(&mut e), "");
    assert_eq!(e.sent(), "RR(1,'first') RR(3,'second')");
    // Nor is what is of the connection.
    e.connection.push_metadata("m".into()).unwrap();
    open(&mut e, RR, "third");
    assert_eq!(written(&mut e), "");
    assert_eq!(e.sent(), "MP('m') RR(5,'third')");
    // A client's SETUP is the first frame (SETUP-01).
    let mut e = Wire::fresh_client(Config::default());
    open(&mut e, FNF, "d");
    assert_eq!(written(&mut e), "");
    assert!(e.sent().ends_with("FNF(1,'d')"));
}

#[test]
fn items_leave_at_once_under_credit_alone() {
    let mut e = Wire::server();
    e.receive(rs(1, 2, "d"));
    e.events();
    assert_eq!(e.send_now(1, &["a", "b", "c"]), [Ok(()), Ok(()), Err(SendError::NoCredit)]);
    assert_eq!(written(&mut e), "P(1,N,'a') P(1,N,'b')");
    assert_eq!(e.connection.stats().credit_stalls, 1);
    e.receive(rn(1, 1));
    e.events();
    e.send_last_now(1, "c").unwrap();
    assert_eq!(written(&mut e), "P(1,N+C,'c')");
    assert_eq!(e.send_last_now(1, "d"), Err(SendError::StreamClosed));
    e.assert_idle();
}

#[test]
fn an_answer_leaves_at_once_and_ends_its_stream() {
    let mut e = Wire::server();
    e.receive(rr(1, "d"));
    e.events();
    // RR-01: it is one answer, and no item of many.
    assert_eq!(e.send_now(1, &["a"]), []);
    e.send_last_now(1, "a").unwrap();
    assert_eq!(written(&mut e), "P(1,N+C,'a')");
    e.assert_idle();
}

#[test]
fn the_last_item_of_a_channel_leaves_its_other_half_open() {
    let mut e = Wire::server();
    e.receive(rc(1, 1, "d"));
    e.events();
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "RN(1,1)");
    e.send_last_now(1, "a").unwrap();
    assert_eq!(written(&mut e), "P(1,N+C,'a')");
    e.receive(p(1, N | C, "b"));
    assert_eq!(e.events(), "Item(1,'b',last)");
    e.assert_idle();
}

#[test]
fn one_that_must_be_cut_waits_and_those_behind_it_too() {
    let mut e = Wire::server();
    e.receive(rs(1, 9, "d"));
    e.events();
    let long: &'static str = Box::leak("l".repeat(100_000).into_boxed_str());
    assert_eq!(e.send_now(1, &["a", long, "b"]), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(written(&mut e), "P(1,N,'a')");
    let sent = e.sent_frames();
    assert!(sent.len() > 2);
    assert_eq!(sent.last().map(|frame| frame.describe()).as_deref(), Some("P(1,N,'b')"));
}

#[test]
fn a_full_buffer_takes_nothing_at_once() {
    let mut e = Wire::server();
    e.receive_all([rs(1, 9, "d"), rr(3, "d")]);
    e.events();
    let item = "i".repeat(crate::SendBuf::HIGH_WATER - 100);
    let key = e.key(1);
    let item = Payload::new(item);
    e.with_buffer(|connection, out| {
        let mut items = connection.items(key, out).expect("a stream");
        assert_eq!(items.capacity(), 9);
        items.send(item.clone()).unwrap();
        items.send(item.clone()).unwrap();
        assert_eq!(items.capacity(), 0);
    });
    e.send_last_now(3, "reply").unwrap();
    assert!(!written(&mut e).contains("reply"));
    assert!(e.sent().contains("reply"));
}

/// A session keeps what is written at once, and writes it again (RESUME-13).
#[test]
fn what_a_session_writes_at_once_is_kept_as_what_it_writes_later() {
    let opened = |config: &Config| {
        let mut e = Wire::fresh_server(config.clone());
        e.receive(resume::setup_of(resume::TOKEN));
        e.connection.accept(e.now);
        e.events();
        e.receive_all([rs(1, 9, "d"), rr(3, "d"), rc(5, 9, "d"), fnf(7, "d")]);
        e.events();
        e
    };
    let config = resume::limits(1 << 20);
    let (mut now, mut later) = (opened(&config), opened(&config));
    let long: &'static str = Box::leak("l".repeat(5_000).into_boxed_str());
    now.send_now(1, &["a", "b"]);
    now.send_last_now(3, "reply").unwrap();
    now.send_now(5, &["c"]);
    now.send_last_now(5, "d").unwrap();
    let at_once = written(&mut now);
    assert_eq!(at_once, "P(1,N,'a') P(1,N,'b') P(3,N+C,'reply') P(5,N,'c') P(5,N+C,'d')");
    for item in ["a", "b"] {
        later.send(1, item).unwrap();
    }
    later.send_last(3, "reply").unwrap();
    assert_eq!(later.sent(), "P(1,N,'a') P(1,N,'b') P(3,N+C,'reply')");
    later.send(5, "c").unwrap();
    later.send_last(5, "d").unwrap();
    later.sent();
    assert_eq!(now.connection.positions(), later.connection.positions());
    assert_eq!(now.connection.retained_bytes(), later.connection.retained_bytes());
    assert_eq!(now.connection.stats(), later.connection.stats());
    // One that is cut goes the long way, and what is behind it too.
    now.send_now(1, &[long, "e"]);
    assert_eq!(written(&mut now), "");
    now.transmit();
    now.send_now(1, &["f"]);
    let rest = written(&mut now);
    assert!(rest.ends_with("P(1,N,'e') P(1,N,'f')"), "{rest}");
    // All of it is there for the next transport, and nothing overtakes it.
    resume::cut(&mut now);
    now.send_now(1, &["g"]);
    assert_eq!(written(&mut now), "", "there is no transport");
    let again = now.now;
    now.connection.accept_resume(&resume::resume(0, 0), again).expect("a session");
    now.send_now(1, &["h"]);
    assert_eq!(written(&mut now), "", "RESUME_OK goes first");
    let seen = now.sent();
    let replayed = seen.split_once(' ').map(|(greeting, rest)| {
        assert!(greeting.starts_with("0x0e("), "{greeting}");
        rest.to_owned()
    });
    assert_eq!(replayed, Some(format!("{at_once} {rest} P(1,N,'g') P(1,N,'h')")));
}

#[test]
fn a_session_without_room_writes_nothing_at_once() {
    let mut e = Wire::fresh_server(resume::limits(100_000));
    e.receive(resume::setup_of(resume::TOKEN));
    e.connection.accept(e.now);
    e.receive(rs(1, MAX, "d"));
    e.events();
    let mut at_once = 0;
    while !e.connection.is_held() {
        e.send_now(1, &["item"]);
        at_once += usize::from(!written(&mut e).is_empty());
        e.transmit();
        e.drain();
    }
    // What the buffer may hold must fit.
    assert!((1..4_000).contains(&at_once), "{at_once}");
    assert!(e.connection.retained_bytes() < 100_020);
    let (sent, _) = e.connection.positions().unwrap();
    e.receive(ka(0, sent, b""));
    e.transmit(); // What had to wait.
    e.drain();
    e.send_now(1, &["item"]);
    assert_eq!(written(&mut e), "P(1,N,'item')");
}

/// As many as are half of what may be kept, and the peer is asked what it has.
#[test]
fn a_session_asks_what_has_arrived_of_what_is_written_at_once() {
    let mut e = Wire::fresh_server(resume::limits(200_000));
    e.receive(resume::setup_of(resume::TOKEN));
    e.connection.accept(e.now);
    e.receive(rs(1, MAX, "d"));
    e.events();
    let mut asked = 0;
    for _ in 0..20_000 {
        e.send_now(1, &["item"]);
        e.transmit();
        let frames = e.drain();
        if frames.iter().any(|frame| frame.kind == 0x03) {
            asked += 1;
            let (sent, _) = e.connection.positions().unwrap();
            e.receive(ka(0, sent, b""));
        }
    }
    assert!((2..6).contains(&asked), "{asked}");
    assert_eq!(e.connection.stats().retention_overflows, 0);
}

/// Answers what it is asked with its text twice; "later" later.
#[derive(Default)]
struct Twice {
    /// Those taken: all, and those that have a stream.
    taken: Vec<StreamKey>,
    followed: Vec<(StreamKey, Option<usize>)>,
    unwilling: bool,
}

impl AnswerNow for Twice {
    fn is_willing(&self) -> bool {
        !self.unwilling
    }

    fn answer(&mut self, key: StreamKey, payload: Payload) -> Option<Payload> {
        self.taken.push(key);
        let reply = Payload::new(payload.data.repeat(2));
        (payload.data != "later").then_some(reply)
    }

    fn follows(&mut self, key: StreamKey, reply: Option<Payload>) {
        self.followed.push((key, reply.map(|reply| reply.size())));
    }
}

#[test]
fn a_request_is_answered_while_it_is_read_and_as_it_would_be_later() {
    let (mut now, mut later, mut service) = (Wire::server(), Wire::server(), Twice::default());
    now.receive_answering([rr(1, "a"), rr(3, "b")], &mut service);
    later.receive_all([rr(1, "a"), rr(3, "b")]);
    later.events();
    later.send_last_now(1, "aa").unwrap();
    later.send_last_now(3, "bb").unwrap();
    assert_eq!(now.events(), "");
    assert_eq!(service.followed, []);
    let sent = written(&mut now);
    assert_eq!(sent, "P(1,N+C,'aa') P(3,N+C,'bb')");
    assert_eq!(sent, written(&mut later));
    assert_eq!(now.connection.stats(), later.connection.stats());
    now.assert_idle();
    // UNX-01: what the peer still says of it comes too late, and its id may be used again.
    now.receive_answering([can(1)], &mut service);
    assert_eq!(now.connection.stats().ignored_unknown_stream, 1);
    now.receive_answering([rr(1, "c")], &mut service);
    assert_eq!(written(&mut now), "P(1,N+C,'cc')");
}

#[test]
fn a_request_that_is_not_answered_has_the_stream_that_was_announced() {
    let (mut e, mut service) = (Wire::server(), Twice::default());
    e.receive_answering([rr(1, "later"), rr(3, "b"), rr(5, "later"), can(1)], &mut service);
    assert_eq!(service.taken.len(), 3);
    assert_eq!(service.followed, [(service.taken[0], None), (service.taken[2], None)]);
    assert_eq!(e.connection.inbound_streams(), 1);
    assert_eq!(e.connection.stats().requests_in, 3);
    let cancelled = service.taken[0];
    let event = e.connection.poll_event();
    assert!(matches!(event, Some(Event::Cancelled { key }) if key == cancelled), "{event:?}");
    assert_eq!(written(&mut e), "P(3,N+C,'bb')");
    e.connection.stream(service.taken[2]).unwrap().send_last("c".into()).unwrap();
    assert_eq!(e.sent(), "P(5,N+C,'c')");
    e.assert_idle();
}

#[test]
fn an_answer_that_must_be_cut_is_given_back() {
    let (mut e, mut service) = (Wire::server(), Twice::default());
    let long = "l".repeat(40_000);
    e.receive_answering([rr(1, &long)], &mut service);
    assert_eq!(service.followed, [(service.taken[0], Some(80_000))]);
    assert_eq!(written(&mut e), "");
    // DOS-03: its bytes are held as those of others.
    assert!(e.connection.held_bytes() >= 40_000);
    let stream = e.connection.stream(service.taken[0]);
    stream.unwrap().send_last(long.repeat(2).into()).unwrap();
    assert_eq!(e.sent_frames().len(), 2);
    e.assert_idle();
}

#[test]
fn no_answer_overtakes_what_was_told_or_is_to_leave_before() {
    let requests = || [rr(1, "a")];
    // An event waits.
    let (mut e, mut service) = (Wire::server(), Twice::default());
    e.receive_answering([mp("m"), rr(1, "a")], &mut service);
    assert_eq!(e.events(), "Push('m') Request(1,RR,'a')");
    // Something is to be written.
    let mut e = Wire::server();
    e.connection.push_metadata("m".into()).unwrap();
    e.receive_answering(requests(), &mut service);
    assert_eq!(e.events(), "Request(1,RR,'a')");
    // The connection is closing, and its refusals say so.
    let mut e = Wire::server();
    e.receive(rr(3, "open"));
    e.events();
    e.connection.drain();
    e.receive_answering(requests(), &mut service);
    assert_eq!(e.sent(), "ERR(1,0x202)");
    // It does not want any, and others are none of its.
    let mut e = Wire::server();
    e.receive_answering([rs(1, 1, "a")], &mut service);
    assert_eq!(e.events(), "Request(1,RS,'a')");
    service.unwilling = true;
    e.receive_answering([rr(3, "a")], &mut service);
    assert_eq!(e.events(), "Request(3,RR,'a')");
    assert_eq!(service.taken, []);
}

/// Takes what its requests are answered, as it comes.
#[derive(Default)]
struct Replies(Vec<(u32, Payload)>);

impl AnswerNow for Replies {
    fn is_willing(&self) -> bool {
        false
    }

    fn answer(&mut self, _: StreamKey, _: Payload) -> Option<Payload> {
        None
    }

    fn follows(&mut self, _: StreamKey, _: Option<Payload>) {}

    fn takes_replies(&self) -> bool {
        true
    }

    fn reply(&mut self, key: StreamKey, payload: Payload) {
        self.0.push((key.id().get(), payload));
    }
}

#[test]
fn an_answer_is_taken_while_it_is_read_and_its_stream_is_over() {
    let (mut now, mut later, mut taken) = (Wire::client(), Wire::client(), Replies::default());
    for e in [&mut now, &mut later] {
        for _ in 0..2 {
            open(e, RR, "q");
        }
        written(e);
    }
    // RR-11: COMPLETE is not needed.
    let replies = || [p(1, N | C, "a"), p(3, N, "b"), p(3, N | C, "c")];
    now.receive_answering(replies(), &mut taken);
    assert_eq!(taken.0, [(1, "a".into()), (3, "b".into())]);
    assert_eq!(now.events(), "");
    later.receive_all(replies());
    assert_eq!(later.events(), "Item(1,'a',last) Item(3,'b',last)");
    assert_eq!(now.connection.stats(), later.connection.stats());
    now.assert_idle();
}

#[test]
fn what_has_happened_before_an_answer_is_told_before_it() {
    let (mut e, mut taken) = (Wire::client(), Replies::default());
    for interaction in [RS, RR, RR, RC, RR] {
        open(&mut e, interaction, "q");
    }
    written(&mut e);
    // One without a payload, and one that is no answer to a request, are told.
    e.receive_answering([p(3, N | C, "a"), p(1, N, "i"), p(5, N | C, "b")], &mut taken);
    assert_eq!(taken.0, [(3, "a".into())]);
    assert_eq!(e.events(), "Item(1,'i') Item(5,'b',last)");
    e.receive_answering([p(7, N | C, "c"), p(9, C, "")], &mut taken);
    assert_eq!(taken.0.len(), 1);
    assert_eq!(e.events(), "Item(7,'c',last) Completed(9)");
}

#[test]
fn an_answer_to_what_was_cancelled_is_nobodys() {
    let (mut e, mut taken) = (Wire::client(), Replies::default());
    open(&mut e, RR, "q");
    written(&mut e);
    e.stream(1).cancel();
    e.receive_answering([p(1, N | C, "a")], &mut taken);
    assert_eq!(taken.0, []);
    assert_eq!(e.events(), "");
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
}

/// A connection that drains ends behind the answer it waited for.
#[test]
fn a_drained_connection_ends_with_the_answer_that_is_taken() {
    let (mut e, mut taken) = (Wire::client(), Replies::default());
    open(&mut e, RR, "q");
    written(&mut e);
    e.connection.drain();
    e.receive_answering([p(1, N | C, "a")], &mut taken);
    let told = taken.0.len() + e.events().matches("Item(1,'a',last)").count();
    assert_eq!(told, 1);
    assert_eq!(e.sent(), "ERR(0,0x102)");
}
