//! The sources of data: the command line, files, and stdin line by line.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::PathBuf,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    task::{Context, Poll, ready},
    thread, vec,
};

use bytes::Bytes;
use futures_util::Stream;
use rsock::{Error, Payload};
use tokio::sync::mpsc;

use crate::exit::Failure;

/// The source that a `-d` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Text(String),
    File(PathBuf),
    Stdin,
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.strip_prefix('@')) {
            ("-" | "@-", _) => Self::Stdin,
            (_, Some(raw)) if raw.starts_with('@') => Self::Text(raw.to_owned()),
            (_, Some(path)) => Self::File(path.into()),
            (text, None) => Self::Text(text.to_owned()),
        })
    }
}

impl Source {
    /// All of it, byte for byte.
    pub(crate) fn read(&self) -> Result<Bytes, Failure> {
        match self {
            Self::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::File(path) => File::open(path).and_then(read_all).map_err(|error| {
                let path = path.display().to_string();
                let is_url = path.starts_with("http://") || path.starts_with("https://");
                let hint = if is_url {
                    "; what is elsewhere is piped: curl URL | rsock … -d -"
                } else {
                    ""
                };
                Failure::Usage(format!("cannot read {path}: {error}{hint}"))
            }),
            Self::Stdin => read_all(io::stdin().lock())
                .map_err(|error| Failure::Local(format!("cannot read stdin: {error}"))),
        }
    }
}

/// A value given as text, with `@@` for an `@` it begins with, or as `@FILE`; stdin belongs to `-d`.
pub(crate) fn value(text: &str) -> Result<Bytes, Failure> {
    match text.strip_prefix('@') {
        Some(raw) if raw.starts_with('@') => Ok(Bytes::copy_from_slice(raw.as_bytes())),
        Some(path) => Source::File(path.into()).read(),
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// Whether the payloads of a channel come from a person's hands.
pub(crate) fn is_typed(sources: &[Source]) -> bool {
    (sources.is_empty() || sources.contains(&Source::Stdin)) && io::stdin().is_terminal()
}

/// The most that is read into memory as one payload.
const MAX_PAYLOAD_BYTES: usize = 256 << 20;

/// All of a source, within that bound.
fn read_all(source: impl Read) -> io::Result<Bytes> {
    let mut data = Vec::new();
    source.take(MAX_PAYLOAD_BYTES as u64 + 1).read_to_end(&mut data)?;
    if data.len() > MAX_PAYLOAD_BYTES {
        return Err(too_long("it has"));
    }
    Ok(data.into())
}

fn too_long(subject: &str) -> io::Error {
    let problem =
        format!("{subject} more than {MAX_PAYLOAD_BYTES} bytes, too much for one payload");
    io::Error::new(io::ErrorKind::FileTooLarge, problem)
}

/// How far a channel's outgoing side has come, for who consumes the other one.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    sent: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Progress {
    /// Payloads taken from the input.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Why the input failed, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map(Failure::Local)
    }
}

/// The items of a channel. Polling it is what reads stdin.
pub(crate) struct Outgoing {
    parts: VecDeque<Part>,
    /// Goes with the first payload.
    metadata: Option<Bytes>,
    progress: Arc<Progress>,
}

enum Part {
    Whole(Bytes),
    Lines(Lines),
}

impl Outgoing {
    /// Reads what is to be sent whole; stdin stays unread.
    pub(crate) fn new(sources: &[Source], metadata: Option<Bytes>) -> Result<Self, Failure> {
        let stdin = [Source::Stdin];
        let sources = if sources.is_empty() { &stdin } else { sources };
        let part = |source: &Source| match source {
            Source::Stdin => Ok(Part::Lines(Lines::new(io::stdin()))),
            source => source.read().map(Part::Whole),
        };
        let parts = sources.iter().map(part).collect::<Result<_, _>>()?;
        Ok(Self { parts, metadata, progress: Arc::default() })
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn send(&mut self, data: Bytes) -> Payload {
        self.progress.sent.fetch_add(1, Ordering::Relaxed);
        Payload { metadata: self.metadata.take(), data }
    }
}

impl Stream for Outgoing {
    type Item = Result<Payload, Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Payload, Error>>> {
        while let Some(part) = self.parts.front_mut() {
            let data = match part {
                Part::Whole(data) => Some(std::mem::take(data)),
                Part::Lines(lines) => match ready!(lines.poll_line(cx)) {
                    Ok(line) => line,
                    Err(error) => {
                        let text = format!("cannot read stdin: {error}");
                        let mut failure =
                            self.progress.failure.lock().unwrap_or_else(PoisonError::into_inner);
                        *failure = Some(text.clone());
                        drop(failure);
                        self.parts.clear();
                        return Poll::Ready(Some(Err(Error::Canceled(text.into()))));
                    }
                },
            };
            if data.is_none() || matches!(self.parts.front(), Some(Part::Whole(_))) {
                self.parts.pop_front();
            }
            if let Some(data) = data {
                return Poll::Ready(Some(Ok(self.send(data))));
            }
        }
        Poll::Ready(None)
    }

    /// That there is nothing more is known without reading stdin, and so needs no credit.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let whole = |part: &&Part| matches!(part, Part::Whole(_));
        let sure = self.parts.iter().filter(whole).count();
        (sure, (sure == self.parts.len()).then_some(sure))
    }
}

/// A line at least, and all others that were read with it; none at the end.
type Block = io::Result<vec::IntoIter<Bytes>>;

/// Bytes that are read from the system at a time: what is read and not sent is as little as that.
const BLOCK_BYTES: usize = 8 << 10;

/// Lines of a blocking reader, read in a thread of its own when they are asked for: as many as the
/// system hands over at once, in [`BLOCK_BYTES`].
pub(crate) struct Lines {
    ask: SyncSender<()>,
    blocks: mpsc::Receiver<Block>,
    asked: bool,
    /// Those that were read and not asked for.
    read: vec::IntoIter<Bytes>,
}

impl Lines {
    pub(crate) fn new(source: impl Read + Send + 'static) -> Self {
        let (ask, asked) = sync_channel(1);
        let (sender, blocks) = mpsc::channel(1);
        // Not joined: it may sit in a read that never returns.
        thread::spawn(move || {
            let mut source = BufReader::with_capacity(BLOCK_BYTES, source);
            while asked.recv().is_ok() {
                if sender.blocking_send(read_block(&mut source)).is_err() {
                    break;
                }
            }
        });
        Self { ask, blocks, asked: false, read: Vec::new().into_iter() }
    }

    /// The next line without its newline; `None` at the end.
    pub(crate) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(line) = self.read.next() {
            return Poll::Ready(Ok(Some(line)));
        }
        if !self.asked {
            // One ask at a time has room; a reader that is gone shows below.
            let _ = self.ask.try_send(());
            self.asked = true;
        }
        let block = ready!(self.blocks.poll_recv(cx));
        self.asked = false;
        self.read = block.transpose()?.unwrap_or_default();
        Poll::Ready(Ok(self.read.next()))
    }
}

/// Reads a line, and takes what else is there.
fn read_block(source: &mut BufReader<impl Read>) -> Block {
    let Some(first) = read_line(source)? else { return Ok(Vec::new().into_iter()) };
    let mut lines = vec![first];
    if let Some(last) = source.buffer().iter().rposition(|byte| *byte == b'\n') {
        let block = Bytes::copy_from_slice(&source.buffer()[..last]);
        source.consume(last + 1);
        lines.extend(block.split(|byte| *byte == b'\n').map(|line| block.slice_ref(line)));
    }
    Ok(lines.into_iter())
}

fn read_line(source: &mut impl BufRead) -> io::Result<Option<Bytes>> {
    let mut line = Vec::new();
    // A byte more for the newline, and another to tell a line that is too long.
    source.take(MAX_PAYLOAD_BYTES as u64 + 2).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > MAX_PAYLOAD_BYTES {
        return Err(too_long("a line has"));
    }
    Ok(Some(line.into()))
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    #[test]
    fn data_is_text_a_file_or_stdin() {
        let parsed = |text: &str| text.parse::<Source>().unwrap();
        assert_eq!(parsed("-"), Source::Stdin);
        assert_eq!(parsed("@-"), Source::Stdin);
        assert_eq!(parsed("@a/b"), Source::File("a/b".into()));
        assert_eq!(parsed("-1"), Source::Text("-1".into()));
        assert_eq!(parsed("@@all"), Source::Text("@all".into()));
        assert_eq!(parsed("@@"), Source::Text("@".into()));
        assert_eq!(value("@@all").unwrap(), "@all");
    }

    #[test]
    fn lines_lose_their_newline_and_nothing_else() {
        let mut source: &[u8] = b"a\r\n\n\xff";
        let mut next = || read_line(&mut source).unwrap();
        assert_eq!(next().unwrap(), "a\r");
        assert_eq!(next().unwrap(), "");
        assert_eq!(next().unwrap(), b"\xff".as_slice());
        assert_eq!(next(), None);
    }

    #[test]
    fn what_was_read_with_a_line_is_taken_with_it() {
        let mut source = BufReader::with_capacity(8, b"a\n\nbc\nlonger than that\nx".as_slice());
        let mut blocks = Vec::new();
        loop {
            let block: Vec<_> = read_block(&mut source).unwrap().collect();
            if block.is_empty() {
                break;
            }
            blocks.push(block.into_iter().map(|line| String::from_utf8(line.into()).unwrap()));
        }
        let blocks: Vec<Vec<_>> = blocks.into_iter().map(Iterator::collect).collect();
        let expected: [&[&str]; 3] = [&["a", "", "bc"], &["longer than that"], &["x"]];
        assert_eq!(blocks, expected);
    }

    /// Counts its reads; each yields one line.
    struct Counting(Arc<AtomicUsize>);

    impl Read for Counting {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::SeqCst);
            buf[..2].copy_from_slice(b"x\n");
            Ok(2)
        }
    }

    #[tokio::test]
    async fn nothing_is_read_before_it_is_asked_for() {
        let reads = Arc::new(AtomicUsize::new(0));
        let mut lines = Lines::new(Counting(Arc::clone(&reads)));
        for asked in 1..=3 {
            let line = poll_fn(|cx| lines.poll_line(cx)).await.unwrap();
            assert_eq!(line.unwrap(), "x");
            assert_eq!(reads.load(Ordering::SeqCst), asked);
        }
    }
}
