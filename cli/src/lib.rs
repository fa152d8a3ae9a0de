//! Conventions that the command lines `rsock` and `rsockd` share: how their help looks, and how times
//! are written and shown.

mod time;

use std::fmt;

use clap::builder::{Styles, styling::AnsiColor};

pub use time::{Rounded, TIMES, any_time, some_time};

/// Columns of help at most, however wide the terminal is.
pub const HELP_WIDTH: usize = 100;

/// Colours of help and of wrong usage, on a terminal alone: those of cargo.
pub const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Cyan.on_default().bold())
    .invalid(AnsiColor::Yellow.on_default().bold());

/// A number of things in words: `1 byte`, `2 bytes`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64, pub &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, thing) = self;
        write!(f, "{number} {thing}{}", if *number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let shown = [0, 1, 2].map(|number| Count(number, "byte").to_string());
        assert_eq!(shown, ["0 bytes", "1 byte", "2 bytes"]);
    }
}
