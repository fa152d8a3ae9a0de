//! The delays that a polite client sees while others attack: the server has one processor,
//! attackers and the client have the other, and the client goes first there.
//!
//! A request is due each five milliseconds, and its time counts from when it was due: a server that
//! stops for a second is seen by two hundred requests and not by one.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rsock_tests::process::Process;
use rsock_wire::{C, Frame, Framing, N, p, prefix_len, route, rr};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    attack::Attack,
    budget, server,
    target::{Target, patient_setup},
};

/// How often the client asks.
const EVERY: Duration = Duration::from_millis(5);
/// How long it asks beside an attack.
pub const BESIDE: Duration = Duration::from_secs(6);
/// An answer that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that an attack may make it wait.
const LONGEST: Duration = Duration::from_millis(100);
/// How long open streams may take after SIGTERM, with a second to end in.
const DRAIN: Duration = Duration::from_secs(11);
/// The processor of the server: alone, as far as what else the machine does can be outdone.
const SERVER: [&str; 6] = ["nice", "-n", "-15", "taskset", "-c", "0"];
/// The processors of the attackers.
const ATTACKERS: [&str; 3] = ["taskset", "-c", "1"];
/// The processor of the client: there whenever it wants to be.
const CLIENT: [&str; 6] = ["chrt", "--fifo", "10", "taskset", "-c", "1"];

/// How long answers took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Half of them took no longer.
    pub median: u64,
    /// All but one in a hundred.
    pub p99: u64,
    /// All.
    pub max: u64,
    /// By how much the client itself was late at most: that is the machine's doing.
    pub own: u64,
    /// Answers that did not come, or not as they should.
    pub missing: u64,
}

impl Times {
    fn of(mut took: Vec<u64>, own: u64, missing: u64) -> Self {
        took.sort_unstable();
        let at = |share: usize| took.get((took.len() * share / 100).min(took.len() - 1)).copied();
        let [median, p99, max] = [50, 99, 100].map(|share| at(share).unwrap_or(u64::MAX));
        Self { median, p99, max, own, missing }
    }

    /// The times that a client of another process says it saw.
    fn read(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { median: next()?, p99: next()?, max: next()?, own: next()?, missing: next()? })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.median, self.p99, self.max, self.own, self.missing)
    }
}

/// Asks for so long, one request after the other.
///
/// # Errors
/// If there is no connection.
pub fn ask(address: SocketAddr, time: Duration) -> std::io::Result<Times> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(&Framing::Tcp.wrap(&patient_setup().encode()))?;
    let begun = Instant::now();
    let (mut took, mut own, mut missing) = (Vec::new(), 0, 0);
    let mut due = begun;
    let mut answered = begun;
    for id in (1..).step_by(2) {
        due += EVERY;
        if due - begun > time {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        own = own.max((Instant::now() - due.max(answered)).as_micros() as u64);
        let request = rr(id, [b'p'; 32]).metadata(route("echo"));
        socket.write_all(&Framing::Tcp.wrap(&request.encode()))?;
        let wanted = p(id, N | C, [b'p'; 32]);
        match next(&mut socket) {
            // The metadata come back as well.
            Ok(frame) if frame.stream == id && frame.data == wanted.data => {}
            Ok(_) => missing += 1,
            Err(_) => {
                missing += 1;
                took.push(PATIENCE.as_micros() as u64);
                break;
            }
        }
        answered = Instant::now();
        took.push((answered - due).as_micros() as u64);
    }
    Ok(Times::of(took, own, missing))
}

fn next(socket: &mut TcpStream) -> std::io::Result<Frame> {
    let mut prefix = [0; 3];
    socket.read_exact(&mut prefix)?;
    let mut bytes = vec![0; prefix_len(prefix)];
    socket.read_exact(&mut bytes)?;
    Frame::decode(&bytes).map_err(std::io::Error::other)
}

/// The figures that were seen beside an attack.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The attack.
    pub attack: &'static Attack,
    /// The times that the client saw; `None` if it was not served at all.
    pub times: Option<Times>,
    /// How long the server took to end when it was asked to, the attack still there; `None` if it did
    /// not.
    pub ended: Option<Duration>,
}

impl Seen {
    /// The problem with that, if there is one.
    pub fn problem(&self) -> Option<String> {
        let Some(times) = self.times else { return Some("not served at all".to_owned()) };
        if times.missing > 0 {
            return Some(format!("{} requests without their answer", times.missing));
        }
        if times.max > LONGEST.as_micros() as u64 {
            return Some(format!("stopped for {} ms", times.max / 1_000));
        }
        match self.ended {
            None => Some(format!("not ended {DRAIN:?} after SIGTERM")),
            Some(_) => None,
        }
    }
}

/// The head of a table of what was seen.
pub const HEAD: &str = "| beside | p50 ms | p99 ms | most ms | late itself ms | SIGTERM → end s | |\n\
                        |---|--:|--:|--:|--:|--:|---|";

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u64| format!("{:.2}", micros as f64 / 1_000.0);
        let times = self.times.map_or_else(
            || "– | – | – | –".to_owned(),
            |times| [times.median, times.p99, times.max, times.own].map(ms).join(" | "),
        );
        let ended =
            self.ended.map_or_else(|| "–".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        let problem = self.problem().unwrap_or_default();
        write!(f, "| {} | {times} | {ended} | {problem} |", self.attack.story)
    }
}

/// A program of this crate, on its processor.
fn own_program(before: &[&str], words: &[&str]) -> Command {
    let own = std::env::current_exe().expect("our own path");
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(own).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Attacks a server of its own, and looks what a polite client sees of it.
pub async fn look(attack: &'static Attack) -> Seen {
    let mut server = server::start(&SERVER, &budget::flags()).await;
    let target = Target::new(&server.uris, 100);
    let [tcp, ws] = [target.tcp, target.ws].map(|address| address.to_string());
    // It has been there before.
    let client = ask_in_process(&tcp, BESIDE);
    let attacker = async {
        sleep(Duration::from_millis(300)).await;
        own_program(&ATTACKERS, &["attack", attack.name, &tcp, &ws]).spawn()
    };
    let (times, attacker) = tokio::join!(client, attacker);
    let attacker = attacker.expect("our own program");
    let ended = end(&mut server).await;
    drop::<Child>(attacker);
    Seen { attack, times, ended }
}

async fn ask_in_process(address: &str, time: Duration) -> Option<Times> {
    let millis = time.as_millis().to_string();
    let output = own_program(&CLIENT, &["ask", address, &millis]).output();
    let output = timeout(time + 2 * PATIENCE, output).await.ok()?.ok()?;
    Times::read(&String::from_utf8_lossy(&output.stdout))
}

/// Asks a server to end; how long that took, if it was in time.
async fn end(server: &mut Process) -> Option<Duration> {
    let begun = Instant::now();
    let id = server.id().to_string();
    let asked = Command::new("kill").args(["-TERM", &id]).status().await;
    asked.ok().filter(std::process::ExitStatus::success)?;
    timeout(DRAIN, server.ended()).await.ok()?;
    Some(begun.elapsed())
}

/// Attacks again and again, for as long as the process is let.
pub async fn attack_on(attack: &Attack, target: &Target) {
    loop {
        let held = (attack.run)(target).await;
        // What is held is a part of the attack.
        sleep(Duration::from_millis(500)).await;
        drop(held);
    }
}
