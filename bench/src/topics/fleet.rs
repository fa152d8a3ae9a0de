//! The load: subscribers and publishers on many connections, in one thread that counts what comes.
//!
//! It waits in epoll and reads as much as there is into one buffer for all: a client for each
//! subscriber would cost more than what it is to measure.

use std::{
    io::{ErrorKind, Read, Write},
    marker::PhantomData,
    net::{SocketAddr, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::wire::{Event, From, Wire};
use crate::{Result, latency::Histogram};

/// Bytes read at once.
const READ: usize = 128 << 10;
/// Connections that are told to be readable at once.
const EVENTS: usize = 16;
/// Nothing is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of data in a message; it begins with its number.
pub(super) const DATA: usize = 200;
const DIGITS: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Subscribers,
    /// Of the topic at this place: see [`Publisher`].
    Publisher(usize),
}

struct Connection {
    socket: TcpStream,
    role: Role,
    /// The part of a frame that came last.
    unread: Vec<u8>,
    /// The bytes that the socket did not take.
    unsent: Vec<u8>,
}

impl Connection {
    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Publishes to one topic on a connection of its own, and when they were sent.
struct Publisher {
    connection: usize,
    topic: &'static str,
    sent: Vec<Instant>,
    answered: u64,
    latency: Histogram,
}

/// All connections to one server.
pub(super) struct Fleet<W> {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    connections: Vec<Connection>,
    publishers: Vec<Publisher>,
    buffer: Box<[u8]>,
    /// Items, and answers to what others than publishers asked.
    items: u64,
    answers: u64,
    /// Whether items that are not messages are counted: while subscriptions are answered, they are.
    takes_markers: bool,
    delivery: Histogram,
    measures: bool,
    wire: PhantomData<W>,
}

impl<W: Wire> Fleet<W> {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::empty())?,
            events: vec![EpollEvent::empty(); EVENTS],
            connections: Vec::new(),
            publishers: Vec::new(),
            buffer: vec![0; READ].into(),
            items: 0,
            answers: 0,
            takes_markers: true,
            delivery: Histogram::new(),
            measures: false,
            wire: PhantomData,
        })
    }

    /// Messages that have come since the last subscription, to all subscribers together.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// How long deliveries took that were looked at while [measuring](Self::measure): those to the first
    /// subscriber of each connection.
    pub(super) fn delivery(&self) -> &Histogram {
        &self.delivery
    }

    /// How long answers to publishes took.
    pub(super) fn acknowledgement(&self, publisher: usize) -> &Histogram {
        &self.publishers[publisher].latency
    }

    /// Messages that a publisher has published.
    pub(super) fn published(&self, publisher: usize) -> u64 {
        self.publishers[publisher].sent.len() as u64
    }

    /// Messages of a publisher that were not answered yet.
    pub(super) fn unanswered(&self, publisher: usize) -> u64 {
        self.published(publisher) - self.publishers[publisher].answered
    }

    /// Records latencies from now on, or no more.
    pub(super) fn measure(&mut self, measures: bool) {
        self.measures = measures;
    }

    fn add(&mut self, address: SocketAddr, role: Role) -> Result<usize> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let (unread, mut unsent) = (W::greet(&mut socket)?, Vec::new());
        socket.set_nonblocking(true)?;
        W::hello(&mut unsent);
        let number = self.connections.len();
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        self.connections.push(Connection { socket, role, unread, unsent });
        self.connections[number].flush()?;
        Ok(number)
    }

    /// Opens connections without subscribers; their numbers.
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        connections: usize,
    ) -> Result<Range<usize>> {
        let begin = self.connections.len();
        for _ in 0..connections {
            self.add(address, Role::Subscribers)?;
        }
        Ok(begin..self.connections.len())
    }

    /// Subscribes on each of these connections, for each of these numbers.
    pub(super) fn ask(
        &mut self,
        connections: Range<usize>,
        subscribers: Range<u32>,
        (topic, from, credit): (&str, From, u32),
    ) -> Result<()> {
        self.takes_markers = true;
        for connection in &mut self.connections[connections] {
            for subscriber in subscribers.clone() {
                W::subscribe(&mut connection.unsent, topic, subscriber, from, credit);
            }
            W::subscribed(&mut connection.unsent);
            connection.flush()?;
        }
        Ok(())
    }

    /// Subscribes, and waits until the server knows it. From then on only messages are counted.
    pub(super) fn subscribe(
        &mut self,
        connections: Range<usize>,
        subscribers: Range<u32>,
        one: (&str, From, u32),
    ) -> Result<()> {
        let each = if W::ANSWERS_EACH { u64::from(subscribers.end - subscribers.start) } else { 1 };
        let mut wanted = self.items + self.answers;
        for connection in connections {
            self.ask(connection..connection + 1, subscribers.clone(), one)?;
            wanted += each;
            self.wait_for(|fleet| fleet.items + fleet.answers >= wanted)?;
        }
        self.items = 0;
        self.takes_markers = false;
        Ok(())
    }

    /// These connections are not read from now on.
    pub(super) fn leave_unread(&mut self, connections: Range<usize>) -> Result<()> {
        for connection in &self.connections[connections] {
            self.epoll.delete(&connection.socket)?;
        }
        Ok(())
    }

    /// A publisher to a topic, on a connection of its own; its number.
    pub(super) fn add_publisher(
        &mut self,
        address: SocketAddr,
        topic: &'static str,
    ) -> Result<usize> {
        let number = self.publishers.len();
        let connection = self.add(address, Role::Publisher(number))?;
        let (sent, latency) = (Vec::new(), Histogram::new());
        self.publishers.push(Publisher { connection, topic, sent, answered: 0, latency });
        Ok(number)
    }

    /// Publishes so many messages, in one write.
    pub(super) fn publish(&mut self, publisher: usize, count: u64) -> Result<()> {
        let topic = self.publishers[publisher].topic;
        self.publish_to(publisher, count, |_| topic)
    }

    /// The same, each to the topic that is said for its number.
    pub(super) fn publish_to<'a>(
        &mut self,
        publisher: usize,
        count: u64,
        topic: impl Fn(u64) -> &'a str,
    ) -> Result<()> {
        let Publisher { connection, sent, .. } = &mut self.publishers[publisher];
        let connection = &mut self.connections[*connection];
        for _ in 0..count {
            let number = sent.len();
            let data = data_of(number);
            W::publish(&mut connection.unsent, topic(number as u64), number as u32, &data);
            sent.push(Instant::now());
        }
        connection.flush()
    }

    /// Publishes a message on a connection that has one subscriber; it is the connection's `number`th.
    pub(super) fn publish_on(&mut self, connection: usize, topic: &str, number: u32) -> Result<()> {
        let connection = &mut self.connections[connection];
        // The subscriber's own number is 0.
        W::publish(&mut connection.unsent, topic, number + 1, &data_of(number as usize));
        connection.flush()
    }

    /// Reads what has come, once from each connection; waits for it as long as this.
    pub(super) fn turn(&mut self, wait: Duration) -> Result<()> {
        let timeout = EpollTimeout::try_from(wait)?;
        let mut events = std::mem::take(&mut self.events);
        let count = self.epoll.wait(&mut events, timeout)?;
        for event in &events[..count] {
            self.read(event.data() as usize)?;
            if self.measures {
                // An answer does not wait for the others' items.
                for publisher in 0..self.publishers.len() {
                    self.read(self.publishers[publisher].connection)?;
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        let kept = connection.unread.len();
        self.buffer[..kept].copy_from_slice(&connection.unread);
        connection.unread.clear();
        let filled = match connection.socket.read(&mut self.buffer[kept..]) {
            Ok(0) => return Err("the server hung up".into()),
            Ok(read) => kept + read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => kept,
            Err(error) => return Err(error.into()),
        };
        let bytes = &self.buffer[..filled];
        let reply = &mut connection.unsent;
        let taken = match connection.role {
            Role::Subscribers => {
                let (mut items, mut answers) = (0, 0);
                let mut malformed = false;
                let mut now = None;
                let sent = self.publishers.first().map_or(&[][..], |publisher| &publisher.sent);
                let taken = W::take(bytes, reply, |event| match event {
                    Event::Item { subscriber, frame } => {
                        items += 1;
                        malformed |= frame.len() < DATA;
                        if subscriber == 0 && self.measures {
                            let now = *now.get_or_insert_with(Instant::now);
                            let sent =
                                number_in(W::data(frame)).and_then(|number| sent.get(number));
                            match sent {
                                Some(&sent) => self.delivery.record(now - sent),
                                None => malformed = true,
                            }
                        }
                    }
                    Event::Answer { .. } => answers += 1,
                })?;
                if malformed && !self.takes_markers {
                    return Err("an item that is not a message: some were missed".into());
                }
                self.items += items;
                self.answers += answers;
                taken
            }
            Role::Publisher(number) => {
                let publisher = &mut self.publishers[number];
                let now = Instant::now();
                W::take(bytes, reply, |event| {
                    if let Event::Answer { number } = event {
                        publisher.answered += 1;
                        if self.measures
                            && let Some(&sent) = publisher.sent.get(number as usize)
                        {
                            publisher.latency.record(now - sent);
                        }
                    }
                })?
            }
        };
        connection.unread.extend_from_slice(&bytes[taken..]);
        connection.flush()
    }

    /// Goes on until this is so.
    pub(super) fn wait_for(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let mut progress = (Instant::now(), self.items);
        while !is_so(self) {
            self.turn(Duration::from_millis(100))?;
            if self.items != progress.1 {
                progress = (Instant::now(), self.items);
            } else if progress.0.elapsed() > PATIENCE {
                return Err(format!("nothing comes any more, after {} items", self.items).into());
            }
        }
        Ok(())
    }

    /// Waits for all that was published to come, to as many subscribers: nothing may be missing, and
    /// nothing come twice.
    pub(super) fn finish(&mut self, subscribers: u64) -> Result<()> {
        let wanted = self.published(0) * subscribers;
        self.wait_for(|fleet| fleet.items >= wanted).map_err(|error| {
            format!("{error}: {} deliveries of {wanted} are missing", wanted - self.items)
        })?;
        if W::ACKNOWLEDGES {
            self.wait_for(|fleet| (0..fleet.publishers.len()).all(|it| fleet.unanswered(it) == 0))?;
        }
        if self.items > wanted {
            return Err(format!("{} deliveries too many", self.items - wanted).into());
        }
        Ok(())
    }
}

/// The data of a message: its number, and as many bytes as all have.
fn data_of(number: usize) -> [u8; DATA] {
    let mut data = [b'x'; DATA];
    data[..DIGITS].copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
    data
}

fn number_in(data: &[u8]) -> Option<usize> {
    data.get(..DIGITS)?.iter().try_fold(0, |number, &byte| {
        byte.is_ascii_digit().then(|| 10 * number + usize::from(byte - b'0'))
    })
}
