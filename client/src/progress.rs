//! The line on a terminal that says how far a long transfer is. Nowhere else is there any.

use std::{
    convert::Infallible,
    fmt,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use rsock::Meter;
use rsock_cli::Count;
use tokio::time;

use crate::{
    args::{ConnectionArgs, OutputArgs},
    render::{is_shown_on_a_terminal, show_progress},
};

/// The time in which a transfer may end without a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time between two lines.
const INTERVAL: Duration = Duration::from_millis(200);

/// A transfer, as far as it is known before it begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transfer {
    /// Bytes that are to be sent, where that is known.
    pub(crate) total: Option<u64>,
    /// Items are shown on the terminal as they come: they say themselves how far it is.
    pub(crate) is_visible: bool,
}

impl Transfer {
    /// One payload, and one answer or none.
    pub(crate) fn of_payload(bytes: usize) -> Self {
        Self { total: Some(bytes as u64), is_visible: false }
    }

    /// Items, shown as this says.
    pub(crate) fn of_items(output: &OutputArgs) -> Self {
        Self { total: None, is_visible: is_shown_on_a_terminal(output) }
    }

    /// Says on stderr how far it is, again and again, if that is a terminal; never ends.
    pub(crate) async fn watch(self, args: &ConnectionArgs, meter: &Meter) -> Infallible {
        // The lines of -vv say it, too.
        let is_wanted = !args.quiet && args.verbose < 2;
        if !is_wanted || self.is_visible || !io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        let started = Instant::now();
        time::sleep(PATIENCE).await;
        loop {
            let stats = meter.read().stats;
            show_progress(Line {
                total: self.total,
                sent: stats.bytes_out,
                received: stats.bytes_in,
                items: (stats.items_out, stats.items_in),
                elapsed: started.elapsed(),
            });
            time::sleep(INTERVAL).await;
        }
    }
}

/// How far it is.
#[derive(Debug)]
struct Line {
    total: Option<u64>,
    sent: u64,
    received: u64,
    /// Those that were sent, and those that were received.
    items: (u64, u64),
    elapsed: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, sent, received, items: (items_out, items_in), elapsed } = self;
        write!(f, "sent {}", Size(*sent))?;
        match total {
            // Frames are a little longer than what they carry.
            Some(total) if *total >= 1 << 20 => {
                write!(f, " of {} ({} %)", Size(*total), (sent * 100 / total).min(100))?;
            }
            _ => {}
        }
        if *items_out > 0 {
            write!(f, " in {}", Count(*items_out, "item"))?;
        }
        write!(f, ", received {}", Size(*received))?;
        if *items_in > 0 {
            write!(f, " in {}", Count(*items_in, "item"))?;
        }
        let rate = (sent + received) as f64 / elapsed.as_secs_f64();
        // It is at least the patience, so that this is a number.
        write!(f, ", {}/s, {} s", Size(rate as u64), elapsed.as_secs())
    }
}

/// Bytes in three digits.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let (mut number, mut unit) = (self.0 as f64, 0);
        while number >= 999.5 && unit + 1 < units.len() {
            (number, unit) = (number / 1_024.0, unit + 1);
        }
        let decimals = match number {
            _ if unit == 0 => 0,
            ..9.995 => 2,
            ..99.95 => 1,
            _ => 0,
        };
        write!(f, "{number:.decimals$} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "0.98 KiB"),
            (10 << 10, "10.0 KiB"),
            (123_456, "121 KiB"),
            (12 << 20, "12.0 MiB"),
            (5 << 40, "5.00 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }

    #[test]
    fn a_line_says_what_is_known() {
        let line = Line {
            total: Some(40 << 20),
            sent: 10 << 20,
            received: 0,
            items: (0, 0),
            elapsed: Duration::from_secs(2),
        };
        let upload = "sent 10.0 MiB of 40.0 MiB (25 %), received 0 B, 5.00 MiB/s, 2 s";
        assert_eq!(line.to_string(), upload);
        let line = Line { total: None, received: 10 << 20, items: (1, 7), ..line };
        assert_eq!(
            line.to_string(),
            "sent 10.0 MiB in 1 item, received 10.0 MiB in 7 items, 10.0 MiB/s, 2 s"
        );
    }
}
