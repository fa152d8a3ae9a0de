//! Lines on their way to stderr: whoever logs never waits for whoever reads.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use rsock::Printable;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait; as many again may be in the middle of being written.
pub(super) const MAX_WAITING: usize = 512 << 10;

/// Bytes of memory that are kept for the lines to come.
const MAX_KEPT: usize = 64 << 10;

/// How soon a stderr that does not block, and takes nothing now, is asked again.
const RETRY: Duration = Duration::from_millis(10);

/// Lines that stderr did not take, since the process began.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How many lines of the log were left out because stderr did not take them.
pub(crate) fn lines_left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Takes lines and writes them on a thread of its own. What finds no room is left out and counted,
/// and the count is written in its place.
#[derive(Clone, Debug)]
pub(crate) struct LineWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// There is something to write.
    filled: Condvar,
    /// All is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    /// At most `MAX_WAITING`.
    waiting: Vec<u8>,
    /// Lines that came when there was no room, all of them behind those that wait.
    left_out: u64,
    /// Some have been taken out and are not written yet.
    in_progress: bool,
}

impl LineWriter {
    /// Starts the thread. It ends with the process.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writing = Arc::clone(&shared);
        thread::Builder::new().name("rsockd-log".to_owned()).spawn(move || writing.write(out))?;
        Ok(Self(shared))
    }

    /// Takes one line, without its end.
    pub(crate) fn put(&self, line: &str) {
        // Whoever wrote it, it stays one line and commands no terminal.
        let mut line =
            if line.starts_with('{') { json_line(line) } else { Printable(line).to_string() };
        line.push('\n');
        let mut lines = self.0.lock();
        if lines.left_out > 0 || lines.waiting.len() + line.len() > MAX_WAITING {
            lines.left_out += 1;
            LEFT_OUT.fetch_add(1, Relaxed);
        } else {
            lines.waiting.extend_from_slice(line.as_bytes());
        }
        drop(lines);
        self.0.filled.notify_one();
    }

    /// Waits until all is written, and no longer than this.
    pub(crate) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut lines = self.0.lock();
        while lines.in_progress || !lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.emptied.wait_timeout(lines, left);
            (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// An object of JSON in which nothing is hidden, and which stays one: escaped as JSON does it.
fn json_line(line: &str) -> String {
    let shown = Printable(line).to_string();
    if shown == line {
        return shown;
    }
    let mut escaped = String::with_capacity(2 * line.len());
    for character in line.chars() {
        if Printable(character).to_string().starts_with('\\') && character != '\\' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.left_out == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, a block of lines at a time.
    fn write(&self, mut out: impl Write) {
        let mut block = Vec::new();
        loop {
            let mut lines = self.lock();
            while lines.is_empty() {
                lines.in_progress = false;
                self.emptied.notify_all();
                lines = self.filled.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            lines.in_progress = true;
            mem::swap(&mut lines.waiting, &mut block);
            let left_out = mem::take(&mut lines.left_out);
            drop(lines);
            if left_out > 0 {
                block.extend_from_slice(notice(left_out).as_bytes());
            }
            if write_block(&mut out, &block).is_err() {
                // Nobody reads any more; the next block may find someone who does.
                let lost = block.iter().filter(|&&byte| byte == b'\n').count();
                LEFT_OUT.fetch_add(lost as u64, Relaxed);
            }
            block.clear();
            block.shrink_to(MAX_KEPT);
        }
    }
}

/// The line that stands in the log for lines that do not.
fn notice(left_out: u64) -> String {
    let now = humantime::format_rfc3339_micros(SystemTime::now());
    let lines = if left_out == 1 { "line was" } else { "lines were" };
    format!(
        "{now}  WARN rsockd: {left_out} {lines} left out because stderr did not take them in time\n"
    )
}

fn write_block(out: &mut impl Write, mut block: &[u8]) -> io::Result<()> {
    while !block.is_empty() {
        match out.write(block) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => block = &block[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

impl MakeWriter<'_> for LineWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Each call is one line, as the subscriber makes it.
impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.put(text.strip_suffix('\n').unwrap_or(&text));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Hands each piece over and waits until it is taken, as a pipe that is full does.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(piece.to_vec()).unwrap();
            self.0.send(text).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer() -> (LineWriter, Receiver<String>) {
        let (pipe, reader) = mpsc::sync_channel(0);
        (LineWriter::start(Pipe(pipe)).unwrap(), reader)
    }

    /// Waits until the thread has taken all there was, and hangs in the pipe with it.
    fn wait_until_taken(writer: &LineWriter) {
        while !writer.0.lock().is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_line_of_json_stays_json_whatever_is_in_it() {
        let text = "a\u{2028}b\u{7f}\\\"c\u{200b}\u{e0001}\u{1b}[31mgrößer";
        let line = serde_json::json!({ "object": text }).to_string();
        let shown = json_line(&line);
        assert_eq!(Printable(&shown).to_string(), shown, "nothing is hidden");
        let read: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(read["object"], text);
    }

    #[test]
    fn lines_are_written_a_block_at_a_time() {
        let (writer, reader) = writer();
        writer.put("first");
        wait_until_taken(&writer);
        writer.put("second");
        writer.put("\u{1b}[31mth\u{202e}ird\nfourth");
        assert_eq!(reader.recv().unwrap(), "first\n");
        assert_eq!(reader.recv().unwrap(), "second\n\\u{1b}[31mth\\u{202e}ird\\nfourth\n");
        writer.flush(LONG);
        assert!(writer.0.lock().is_empty());
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_was_left_out_is_counted() {
        let (writer, reader) = writer();
        let before = lines_left_out();
        writer.put("taken");
        wait_until_taken(&writer);
        let line = "x".repeat(1_023);
        for _ in 0..MAX_WAITING / 1_024 + 385 {
            writer.put(&line);
        }
        assert_eq!(writer.0.lock().waiting.len(), MAX_WAITING);
        assert!(lines_left_out() >= before + 385);
        // It is not written, and that is not waited for.
        writer.flush(Duration::from_millis(1));
        assert_eq!(reader.recv().unwrap(), "taken\n");
        let block = reader.recv().unwrap();
        let last = block.lines().last().unwrap();
        let notice = "WARN rsockd: 385 lines were left out because stderr did not take them";
        assert!(last.contains(notice), "{last}");
        writer.put("again");
        assert_eq!(reader.recv().unwrap(), "again\n");
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let (writer, reader) = writer();
        let before = lines_left_out();
        drop(reader);
        writer.put("to nobody");
        writer.flush(LONG);
        assert!(lines_left_out() > before);
    }

    #[test]
    fn a_pipe_that_does_not_block_is_asked_again() {
        struct Busy(u32, SyncSender<Vec<u8>>);

        impl Write for Busy {
            fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
                let Self(times, written) = self;
                *times += 1;
                if *times % 2 == 1 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                written.send(piece[..1].to_vec()).unwrap();
                Ok(1)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (sender, written) = mpsc::sync_channel(10);
        let writer = LineWriter::start(Busy(0, sender)).unwrap();
        writer.put("abc");
        writer.flush(LONG);
        assert_eq!(written.try_iter().flatten().collect::<Vec<_>>(), b"abc\n");
    }
}
