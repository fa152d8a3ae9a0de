//! The models.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use loom::{future::block_on, model, sync::atomic::AtomicBool, thread};
use rsock_proto::{CloseReason, Connection, Interaction, Payload, StreamKey, Window, frame};

use crate::{
    connection::{
        inflow::{self, Inflow},
        inlet::Inlet,
        mailbox::{Adoption, Command, GROUP_SLOT, Mailbox},
        producers::SlotWakers,
        sessions::Sessions,
        shares::Holder,
        wake_group::WakeGroup,
    },
    demand::Grants,
    state::ConnectionState,
    transport::socket::Transport,
};

// ---- parts ----------------------------------------------------------------------------------------

fn mailbox() -> Arc<Mailbox> {
    Mailbox::new(1, ConnectionState::Established)
}

/// The key of some stream.
fn key() -> StreamKey {
    let setup = frame::Setup {
        version: frame::VERSION,
        keepalive_interval_ms: 1,
        max_lifetime_ms: 1,
        resume_token: None,
        lease: false,
        metadata_mime: Bytes::new(),
        data_mime: Bytes::new(),
        payload: Payload::default(),
    };
    let mut connection = Connection::client(setup, Arc::default(), Instant::now());
    let opened = connection.request(Interaction::RequestStream, Payload::default(), 1);
    opened.expect("a first stream")
}

fn adoption(closed: &Arc<AtomicUsize>) -> Box<Adoption> {
    let resume = frame::Resume {
        version: frame::VERSION,
        token: Bytes::new(),
        last_received_server_position: 0,
        first_available_client_position: 0,
    };
    let (refuse, _) = tokio::sync::oneshot::channel();
    Box::new(Adoption { resume, transport: Transport(Arc::clone(closed)), place: None, refuse })
}

/// The things that a driver has found in its mailbox.
#[derive(Default)]
struct Found {
    drains: usize,
    closes: usize,
    ready: Vec<usize>,
    demanded: Vec<Arc<Inlet>>,
    adoptions: usize,
}

impl Found {
    fn take(&mut self, mailbox: &Mailbox) {
        let (mut commands, mut ready) = (Vec::new(), Vec::new());
        mailbox.take(&mut commands, &mut ready);
        self.ready.append(&mut ready);
        self.sort(commands);
        self.adoptions += usize::from(mailbox.take_adoption().is_some());
    }

    fn sort(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Drain => self.drains += 1,
                Command::Close => self.closes += 1,
                Command::Demanded(inlet) => self.demanded.push(inlet),
                _ => unreachable!("no model sends it"),
            }
        }
    }
}

/// Takes from the mailbox and sleeps between, as a driver does, until `done`.
fn drive(mailbox: &Mailbox, mut done: impl FnMut(&mut Found) -> bool) -> Found {
    let mut found = Found::default();
    block_on(poll_fn(|cx| {
        loop {
            found.take(mailbox);
            if done(&mut found) {
                return Poll::Ready(());
            }
            if mailbox.sleep(cx.waker()) {
                return Poll::Pending;
            }
        }
    }));
    found
}

/// One item, and the end if it is the last.
fn push(inlet: &Inlet, mailbox: &Mailbox, item: &'static str, last: bool) -> Option<Waker> {
    inlet.push((item.into(), last), || None, None, mailbox.waiting()).1
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Every item, and how it ended.
fn consume(mut inflow: Inflow) -> (Vec<Bytes>, usize) {
    let (mut items, mut errors) = (Vec::new(), 0);
    while let Some(item) = block_on(poll_fn(|cx| inflow.poll_next(cx))) {
        match item {
            Ok(item) => items.push(item.data),
            Err(_) => errors += 1,
        }
    }
    let again = inflow.poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(again, Poll::Ready(None)), "it ends once");
    (items, errors)
}

/// With three threads: every order in which none is interrupted more than three times in all.
fn model_of_three(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// A driver that stands in line, and who calls it: it goes on, whatever else wakes it meanwhile.
pub fn who_waits_in_line_is_called() {
    model(|| {
        let mailbox = mailbox();
        let caller = Arc::clone(&mailbox);
        let calling = thread::spawn(move || caller.call());
        // What else wakes the driver meanwhile is no call.
        let sender = Arc::clone(&mailbox);
        let sending = thread::spawn(move || assert!(sender.send(Command::Drain).is_ok()));
        block_on(poll_fn(|cx| match mailbox.is_called(cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
        // It goes on as one that was woken.
        drive(&mailbox, |found| found.drains == 1);
        calling.join().expect("no panic");
        sending.join().expect("no panic");
    });
}

/// A driver that pauses because of what waits, and a consumer that takes it: it goes on.
pub fn paused_drivers_go_on() {
    model(|| {
        let mailbox = mailbox();
        mailbox.waiting().add(10);
        let consumer = Arc::clone(&mailbox);
        let consumer = thread::spawn(move || consumer.released(10));
        if mailbox.waiting().pause() > 0 {
            drive(&mailbox, |_| mailbox.waiting().count() == 0);
        }
        consumer.join().expect("no panic");
    });
}

// ---- the mailbox ----------------------------------------------------------------------------------

/// Commands of two handles, and a driver that sleeps between: each is taken once.
pub fn commands_wake_the_driver() {
    model_of_three(|| {
        let mailbox = mailbox();
        let senders = [|| Command::Drain, || Command::Close].map(|command: fn() -> Command| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.send(command()).expect("it is open"))
        });
        let found = drive(&mailbox, |found| found.drains + found.closes == 2);
        assert_eq!((found.drains, found.closes), (1, 1));
        for sender in senders {
            sender.join().expect("no panic");
        }
    });
}

/// A producer that becomes ready, beside a command, and a driver that sleeps between.
pub fn ready_producers_wake_the_driver() {
    model_of_three(|| {
        let mailbox = mailbox();
        let [producer, handle] = [Arc::clone(&mailbox), Arc::clone(&mailbox)];
        let producer = thread::spawn(move || producer.ready(7));
        let handle = thread::spawn(move || handle.send(Command::Drain).expect("it is open"));
        let found = drive(&mailbox, |found| found.drains + found.ready.len() == 2);
        assert_eq!(found.ready, [7]);
        producer.join().expect("no panic");
        handle.join().expect("no panic");
    });
}

/// Two transports for a session, and a driver that sleeps between: it sees both.
pub fn adoptions_wake_the_driver() {
    model_of_three(|| {
        let (mailbox, closed) = (mailbox(), Arc::new(AtomicUsize::new(0)));
        let [first, other] = [Arc::clone(&mailbox), Arc::clone(&mailbox)];
        let [one, two] = [Arc::clone(&closed), Arc::clone(&closed)];
        let first = thread::spawn(move || assert!(first.adopt(adoption(&one)).is_ok()));
        let other = thread::spawn(move || assert!(other.adopt(adoption(&two)).is_ok()));
        let found = drive(&mailbox, |_| closed.load(Relaxed) == 2);
        assert_eq!(found.adoptions, 2);
        first.join().expect("no panic");
        other.join().expect("no panic");
    });
}

/// A command that meets the end is taken, given back or refused: one of them.
pub fn commands_meet_the_end() {
    model(|| {
        let mailbox = mailbox();
        let handle = Arc::clone(&mailbox);
        let handle = thread::spawn(move || {
            let sent = [Command::Drain, Command::Close].map(|command| handle.send(command));
            handle.ready(1);
            sent.iter().filter(|sent| sent.is_ok()).count()
        });
        let mut found = Found::default();
        found.take(&mailbox);
        found.sort(mailbox.close(&CloseReason::Disconnected));
        let sent = handle.join().expect("no panic");
        assert_eq!(found.drains + found.closes, sent);
        let mut late = Found::default();
        late.take(&mailbox);
        assert_eq!(late.drains + late.closes, 0, "nothing is left to nobody");
        assert!(mailbox.send(Command::Drain).is_err());
    });
}

/// A transport that meets the end is adopted, closed or given back: one of them.
pub fn adoptions_meet_the_end() {
    model(|| {
        let (mailbox, closed) = (mailbox(), Arc::new(AtomicUsize::new(0)));
        let (other, one) = (Arc::clone(&mailbox), Arc::clone(&closed));
        let other = thread::spawn(move || other.adopt(adoption(&one)).is_err());
        let mut found = Found::default();
        found.take(&mailbox);
        mailbox.close(&CloseReason::Disconnected);
        let given_back = other.join().expect("no panic");
        // Given back it is closed by who has it.
        assert_eq!(closed.load(Relaxed), 1, "adopted {}, back {given_back}", found.adoptions);
        assert!(mailbox.take_adoption().is_none());
    });
}

/// A caller that waits for a permit when the connection ends is told why.
pub fn waiting_requests_learn_the_reason() {
    model(|| {
        let mailbox = mailbox();
        let _permit = mailbox.try_permit().expect("one is free");
        let handle = Arc::clone(&mailbox);
        let handle = thread::spawn(move || {
            assert!(block_on(handle.permit()).is_none());
            assert_eq!(handle.refusing(), Some(CloseReason::Disconnected));
        });
        mailbox.close(&CloseReason::Disconnected);
        handle.join().expect("no panic");
    });
}

// ---- inlets ---------------------------------------------------------------------------------------

/// Items and the end wake their consumer, come in order, and once.
pub fn items_in_order() {
    model(|| {
        let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
        let inflow =
            Inflow::new(Arc::clone(&inlet), Arc::clone(&mailbox), Window::new(100).manual());
        let consumer = thread::spawn(move || consume(inflow));
        wake(push(&inlet, &mailbox, "a", false));
        wake(push(&inlet, &mailbox, "b", false));
        wake(inlet.end(Err(CloseReason::Disconnected.into())));
        assert!(inlet.end(Ok(())).is_none(), "it ends once");
        let (items, errors) = consumer.join().expect("no panic");
        assert_eq!((items, errors), (vec!["a".into(), "b".into()], 1));
        assert!(!mailbox.has_commands());
    });
}

/// The last item and the end come as one: nobody who has it cancels.
pub fn last_items_end() {
    model(|| {
        let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
        let mut inflow =
            Inflow::new(Arc::clone(&inlet), Arc::clone(&mailbox), Window::new(100).manual());
        let consumer = thread::spawn(move || {
            let item = block_on(poll_fn(|cx| inflow.poll_next(cx)));
            assert!(matches!(item, Some(Ok(_))));
        });
        wake(push(&inlet, &mailbox, "a", true));
        consumer.join().expect("no panic");
        assert!(!mailbox.has_commands());
    });
}

/// The answer wakes who waits for it.
pub fn replies_wake() {
    model(|| {
        let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
        let (consumer, of_consumer) = (Arc::clone(&inlet), Arc::clone(&mailbox));
        let consumer = thread::spawn(move || {
            block_on(poll_fn(|cx| inflow::poll_reply(&consumer, &of_consumer, cx)))
        });
        wake(push(&inlet, &mailbox, "a", true));
        let reply = consumer.join().expect("no panic").expect("a reply");
        assert_eq!(reply.expect("a payload").data, "a");
        assert_eq!(mailbox.waiting().count(), 0);
    });
}

/// A consumer that goes while items come: either it was over, or the driver learns of it once.
pub fn consumers_go() {
    model(|| {
        let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
        let _ = inlet.open(key());
        let inflow = Inflow::new(Arc::clone(&inlet), Arc::clone(&mailbox), Window::new(2));
        let consumer = thread::spawn(move || drop(inflow));
        wake(push(&inlet, &mailbox, "a", false));
        wake(push(&inlet, &mailbox, "b", true));
        consumer.join().expect("no panic");
        let is_cancelled = inlet.is_cancelled();
        let mut found = Found::default();
        found.take(&mailbox);
        assert_eq!(found.demanded.len(), usize::from(is_cancelled));
        assert!(push(&inlet, &mailbox, "c", false).is_none());
    });
}

/// Credit reaches the driver whole, once, with a stream listed at most once.
pub fn grants_add_up() {
    model(|| {
        let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
        let _ = inlet.open(key());
        let inflow =
            Inflow::new(Arc::clone(&inlet), Arc::clone(&mailbox), Window::new(1).manual());
        let consumer = thread::spawn(move || {
            for n in [1, 10] {
                inflow.request_n(n);
            }
            inflow
        });
        let mut granted = 0;
        drive(&mailbox, |found| {
            assert!(found.demanded.len() <= 1, "listed once");
            for demanded in found.demanded.drain(..) {
                granted += demanded.take_demand().1.grant;
            }
            granted >= 11
        });
        assert_eq!(granted, 11);
        drop(consumer.join());
    });
}

/// A demand that is waited for tells of more, and of the end.
pub fn demand_is_told() {
    model(|| {
        let grants = Grants::new();
        let mut demand = grants.demand();
        let waits = thread::spawn(move || {
            block_on(async {
                let mut granted = 0;
                while let Some(more) = demand.changed().await {
                    granted = more;
                }
                granted
            })
        });
        grants.raise_to(1);
        drop(grants);
        assert_eq!(waits.join().expect("no panic"), 1);
    });
}

/// A stream is opened while its consumer grants and goes: the driver learns of both.
pub fn demands_meet_the_opening() {
    for goes in [false, true] {
        model(move || {
            let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
            let inflow =
                Inflow::new(Arc::clone(&inlet), Arc::clone(&mailbox), Window::new(1).manual());
            let consumer = thread::spawn(move || {
                inflow.request_n(10);
                (!goes).then_some(inflow)
            });
            let (mut granted, mut gone) = (0, false);
            let mut found = Found::default();
            found.take(&mailbox);
            for demanded in found.demanded.drain(..) {
                assert!(demanded.take_demand().0.is_none(), "it is not open yet");
            }
            let demand = inlet.open(key());
            granted += demand.grant;
            gone |= demand.cancel;
            drive(&mailbox, |found| {
                for demanded in found.demanded.drain(..) {
                    let (key, demand) = demanded.take_demand();
                    assert!(key.is_some());
                    granted += demand.grant;
                    gone |= demand.cancel;
                }
                granted >= 10 && gone == goes
            });
            assert_eq!(granted, 10);
            drop(consumer.join());
        });
    }
}

/// Another stream may have the key of one that has ended, on the next connection.
#[test]
fn what_is_wanted_of_a_stream_that_has_ended_is_not_wanted_of_another() {
    model(|| {
        let (inlet, mailbox) = (Arc::new(Inlet::default()), mailbox());
        let inflow =
            Inflow::new(Arc::clone(&inlet), Arc::clone(&mailbox), Window::new(1).manual());
        assert!(inlet.open(key()).is_none());
        let consumer = thread::spawn(move || drop(inflow));
        inlet.end(Err(CloseReason::Disconnected.into()));
        let mut found = Found::default();
        found.take(&mailbox);
        drop(consumer.join());
        found.take(&mailbox);
        for demanded in found.demanded.drain(..) {
            assert_eq!(demanded.take_demand().0, None);
        }
    });
}

// ---- producers ------------------------------------------------------------------------------------

/// A producer is polled for what it is woken for, even if its waker is called while the wake before
/// is being answered.
pub fn producers_are_polled_again() {
    model(|| {
        let (mailbox, mut wakers) = (mailbox(), SlotWakers::default());
        let waker = wakers.get(0, &mailbox).clone();
        let has_item = Arc::new(AtomicBool::new(false));
        let source = Arc::clone(&has_item);
        let source = thread::spawn(move || {
            waker.wake_by_ref();
            // Nothing else makes this known.
            source.store(true, Relaxed);
            waker.wake_by_ref();
        });
        drive(&mailbox, |found| {
            let woken = !found.ready.is_empty();
            for slot in found.ready.drain(..) {
                wakers.unlist(slot);
            }
            woken && has_item.load(Relaxed)
        });
        source.join().expect("no panic");
    });
}

/// Something that feeds wait for: how often it has been published, as a topic's head.
struct Head(loom::sync::atomic::AtomicUsize);

impl Head {
    fn publish(&self, group: &Arc<WakeGroup>) {
        self.0.fetch_add(1, Release);
        group.wake();
    }

    fn is(&self, count: usize) -> bool {
        self.0.load(Acquire) == count
    }
}

/// A publisher of two messages, and the driver of a feed that has read all there is and waits for more: it
/// sees both.
pub fn feeds_that_wait_together_are_woken() {
    model(|| {
        let (mailbox, head) = (mailbox(), Arc::new(Head(loom::sync::atomic::AtomicUsize::new(0))));
        let group = WakeGroup::new(&mailbox);
        let publisher = {
            let (head, group) = (Arc::clone(&head), Arc::clone(&group));
            thread::spawn(move || {
                head.publish(&group);
                head.publish(&group);
            })
        };
        let mut is_queued = true;
        drive(&mailbox, |found| {
            if found.ready.drain(..).any(|slot| slot == GROUP_SLOT) {
                for group in mailbox.take_groups() {
                    group.take(&mut |_| is_queued = true);
                }
            }
            // The feed: it looks once more when it has joined.
            if !std::mem::take(&mut is_queued) {
                return false;
            }
            if !head.is(2) {
                group.join(&mailbox, 0, Waker::noop());
            }
            head.is(2)
        });
        publisher.join().expect("no panic");
    });
}

/// The same of who is no feed of that connection, and waits by a waker of its own.
pub fn others_in_a_group_are_woken() {
    model(|| {
        let (mailbox, head) = (mailbox(), Arc::new(Head(loom::sync::atomic::AtomicUsize::new(0))));
        let group = WakeGroup::new(&mailbox);
        let publisher = {
            let (head, group) = (Arc::clone(&head), Arc::clone(&group));
            thread::spawn(move || head.publish(&group))
        };
        let driver = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                drive(&mailbox, |found| {
                    let is_told = found.ready.drain(..).any(|slot| slot == GROUP_SLOT);
                    for group in mailbox.take_groups() {
                        group.take(&mut |_| {});
                    }
                    is_told
                });
            })
        };
        block_on(poll_fn(|cx| {
            group.join_by_waker(cx.waker());
            if head.is(1) { Poll::Ready(()) } else { Poll::Pending }
        }));
        publisher.join().expect("no panic");
        driver.join().expect("no panic");
    });
}

// ---- sessions -------------------------------------------------------------------------------------

/// Two connections with one token: one has it, and is found by it while it holds it.
pub fn tokens_are_held_by_one() {
    model(|| {
        let sessions = Sessions::new(2, 2);
        let token = Bytes::from_static(b"token");
        let (other, its) = (Arc::clone(&sessions), token.clone());
        let other = thread::spawn(move || {
            let mailbox = mailbox();
            let claimed = other.claim(&its, &mailbox, Holder::Unknown, None);
            claimed.ok().map(|(claim, _)| (claim, mailbox))
        });
        let mailbox = mailbox();
        let claim = sessions.claim(&token, &mailbox, Holder::Unknown, None);
        let theirs = other.join().expect("no panic");
        assert_eq!(usize::from(claim.is_ok()) + usize::from(theirs.is_some()), 1);
        let (claim, mailbox) = theirs.unwrap_or_else(|| (claim.expect("one has it").0, mailbox));
        let (found, _) = sessions.find(&token, &None).expect("it is held");
        assert!(Arc::ptr_eq(&found, &mailbox));
        drop(claim);
        assert!(sessions.find(&token, &None).is_none());
    });
}

/// A session that is resumed while another needs its room: it stays, or it is told to end.
pub fn room_is_made_or_not() {
    model(|| {
        let sessions = Sessions::new(1, 1);
        let (old, new) = (mailbox(), mailbox());
        let [a, b] = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let (claim, _) = sessions.claim(&a, &old, Holder::Unknown, None).expect("room");
        claim.suspended();
        let resumed = thread::spawn(move || {
            claim.resumed();
            claim
        });
        let claimed = sessions.claim(&b, &new, Holder::Unknown, None);
        let claim = resumed.join().expect("no panic");
        let mut found = Found::default();
        found.take(&old);
        assert_eq!(found.closes, usize::from(claimed.is_ok()));
        assert_eq!(sessions.find(&a, &None).is_none(), claimed.is_ok());
        drop(claim);
        assert!(sessions.find(&a, &None).is_none());
        if claimed.is_ok() {
            assert!(sessions.find(&b, &None).is_some());
        }
    });
}

/// A client that comes back while its session ends: its transport is taken, or given back.
pub fn sessions_end_while_found() {
    model(|| {
        let (sessions, mailbox) = (Sessions::new(1, 1), mailbox());
        let (token, closed) = (Bytes::from_static(b"a"), Arc::new(AtomicUsize::new(0)));
        let (claim, _) = sessions.claim(&token, &mailbox, Holder::Unknown, None).expect("room");
        let (table, one) = (Arc::clone(&sessions), Arc::clone(&closed));
        let client = thread::spawn(move || match table.find(b"a", &None) {
            Some((owner, _)) => owner.adopt(adoption(&one)).is_ok(),
            None => false,
        });
        mailbox.close(&CloseReason::Disconnected);
        drop(claim);
        let adopted = client.join().expect("no panic");
        assert!(!adopted || closed.load(Relaxed) == 1, "nothing is left open");
        assert!(sessions.find(&token, &None).is_none());
    });
}
