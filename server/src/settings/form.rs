//! The forms that values are written in: each is text, whatever source it comes from.

use std::{path::PathBuf, str::FromStr, time::Duration};

use rsock::tls::TlsVersion;
use rsock_cli::{any_time, some_time};

use super::table::{
    AccessFile, ClientAddressKind, ClientAuthKind, ConsoleKind, DefaultRoute, ProxyKind,
    RuntimeKind,
};
use crate::{
    doors::{OriginPattern, check_host},
    logging::{LogFilter, LogFormat},
    owner::UnixOwner,
    topics::TopicRule,
};

/// How values of a type are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<T> {
    /// The name of a value in help, as `SIZE`.
    pub(super) value: &'static str,
    /// The type of the same in a JSON schema: a string, or a whole number.
    pub(super) is_number: bool,
    /// The least and the most that a number may be.
    bounds: (u64, u64),
    read: fn(&str, (u64, u64)) -> Result<T, String>,
    show: fn(&T) -> String,
}

impl<T> Form<T> {
    /// The value that a text stands for.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(&self, text: &str) -> Result<T, String> {
        (self.read)(text, self.bounds)
    }

    /// A text that stands for a value.
    pub(super) fn show(&self, value: &T) -> String {
        (self.show)(value)
    }
}

/// Whole numbers within bounds.
const fn numbers<T: TryFrom<u64> + ToString>(value: &'static str, bounds: (u64, u64)) -> Form<T> {
    Form { value, is_number: true, bounds, read: number, show: T::to_string }
}

/// Text of its own form.
const fn texts<T>(
    value: &'static str,
    read: fn(&str, (u64, u64)) -> Result<T, String>,
    show: fn(&T) -> String,
) -> Form<T> {
    Form { value, is_number: false, bounds: (0, 0), read, show }
}

const MOST: u64 = u32::MAX as u64;
/// The largest frame that the protocol can express.
const MAX_FRAME: u64 = rsock::proto::MAX_FRAME_BYTES as u64;
/// The smallest fragment that every peer takes.
const MIN_MTU: u64 = 64;
/// SETUP with its MIME types and credentials fits.
const MIN_FRAME: u64 = 1_024;
/// Less would be a pause of many seconds after a single read.
const MIN_BYTE_RATE: u64 = 64 << 10;
/// More cannot be told apart.
const MAX_RATE: u64 = 1_000_000;
/// More than there are cores in a machine.
const MAX_WORKERS: u64 = 1_024;

/// A limit: one of 0 would let nothing happen.
pub(super) const COUNT: Form<u32> = numbers("N", (1, MOST));
pub(super) const RATE: Form<u32> = numbers("N", (1, MAX_RATE));
pub(super) const ANY_COUNT: Form<u32> = numbers("N", (0, MOST));
pub(super) const BYTES: Form<u32> = numbers("BYTES", (1, MOST));
pub(super) const ANY_BYTES: Form<u32> = numbers("BYTES", (0, MOST));
pub(super) const FRAME: Form<u32> = numbers("BYTES", (MIN_FRAME, MAX_FRAME));
pub(super) const FRAMES: Form<u32> = numbers("BYTES", (MIN_FRAME, MOST));
pub(super) const FRAGMENT: Form<u32> = numbers("BYTES", (MIN_MTU, MAX_FRAME));
pub(super) const THREADS: Form<u16> = numbers("N", (1, MAX_WORKERS));
pub(super) const TIME: Form<Duration> = texts("TIME", |text, _| some_time(text), show_time);
pub(super) const ANY_TIME: Form<Duration> = texts("TIME", |text, _| any_time(text), show_time);
pub(super) const SIZE: Form<usize> = texts("SIZE", |text, _| some_size(text), show_size);
pub(super) const URI: Form<String> = texts("URI", |text, _| some_text(text), String::clone);
pub(super) const HTTP: Form<String> = texts("ADDRESS", |text, _| http_address(text), String::clone);
pub(super) const SUBPROTOCOL: Form<String> = texts("NAME", |text, _| token(text), String::clone);
pub(super) const MODE: Form<u32> =
    texts("MODE", |text, _| file_mode(text), |mode| format!("{mode:04o}"));
pub(super) const OWNER: Form<UnixOwner> =
    texts("OWNER", |text, _| UnixOwner::read(text), UnixOwner::to_string);
pub(super) const ROUTE: Form<DefaultRoute> =
    texts("NAME", |text, _| DefaultRoute::read(text), DefaultRoute::to_string);
pub(super) const RULE: Form<TopicRule> =
    texts("RULE", |text, _| TopicRule::read(text), TopicRule::to_string);
pub(super) const DIRECTORY: Form<PathBuf> =
    texts("DIR", |text, _| some_text(text).map(PathBuf::from), |path| path.display().to_string());
pub(super) const FILE: Form<PathBuf> =
    texts("FILE", |text, _| some_text(text).map(PathBuf::from), |path| path.display().to_string());
pub(super) const ACCESS: Form<AccessFile> = texts(
    "FILE",
    |text, _| some_text(text).map(AccessFile::from),
    |file| file.path.display().to_string(),
);
pub(super) const ADDRESS: Form<ClientAddressKind> =
    texts("KIND", |text, _| text.parse(), ClientAddressKind::to_string);
pub(super) const PROXY: Form<ProxyKind> =
    texts("KIND", |text, _| text.parse(), ProxyKind::to_string);
pub(super) const NETWORK: Form<String> = texts("NETWORK", |text, _| network(text), String::clone);
pub(super) const ORIGIN: Form<String> = texts("ORIGIN", |text, _| origin(text), String::clone);
pub(super) const HOST: Form<String> = texts("HOST", |text, _| check_host(text), String::clone);
pub(super) const BYTE_RATE: Form<u32> = numbers("BYTES", (MIN_BYTE_RATE, MOST));
pub(super) const CLIENT_AUTH: Form<ClientAuthKind> =
    texts("KIND", |text, _| text.parse(), ClientAuthKind::to_string);
pub(super) const CONSOLE: Form<ConsoleKind> =
    texts("KIND", |text, _| text.parse(), ConsoleKind::to_string);
pub(super) const TLS_VERSION: Form<TlsVersion> =
    texts("VERSION", |text, _| text.parse(), TlsVersion::to_string);
pub(super) const RUNTIME: Form<RuntimeKind> =
    texts("KIND", |text, _| text.parse(), RuntimeKind::to_string);
pub(super) const FILTER: Form<LogFilter> =
    texts("FILTER", |text, _| LogFilter::from_str(text), LogFilter::to_string);

pub(super) const YES: Form<bool> = texts("YES", |text, _| yes(text), bool::to_string);

pub(super) const LOG_FORMAT: Form<LogFormat> =
    texts("FORMAT", |text, _| text.parse(), LogFormat::to_string);

fn yes(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "it must be true or false".to_owned())
}

fn number<T: TryFrom<u64>>(text: &str, (least, most): (u64, u64)) -> Result<T, String> {
    let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("it must be a whole number from {least} to {most}"))
}

fn network(text: &str) -> Result<String, String> {
    rsock::ProxyProtocol::from([text]).map(|_| text.to_owned())
}

/// In the form in which browsers send it.
fn origin(text: &str) -> Result<String, String> {
    text.parse::<OriginPattern>().map(|pattern| pattern.to_string())
}

/// An address of HTTP, without a path.
fn http_address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(rest) if !rest.is_empty() && !rest.contains('/') => Ok(text.to_owned()),
        _ => Err("it must be http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

fn some_text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A name that a header may have in a list.
fn token(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("the name of a subprotocol is of letters, digits and !#$%&'*+-.^_`|~".to_owned())
    }
}

/// The octal mode of a file.
fn file_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8);
    mode.ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "a mode is an octal number up to 0777, as 0660".to_owned())
}

/// The smallest budget with which connections get anywhere.
const LEAST_MEMORY: usize = 1 << 20;

/// How sizes are written.
const A_SIZE: &str = "a size is a whole number with kB, MB, GB, KiB, MiB or GiB, as 500MB or 2GiB";

/// A number of bytes, of thousands or of 1,024s of them.
fn some_size(text: &str) -> Result<usize, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "%" => return Err(format!("a share of the machine's memory cannot be given; {A_SIZE}")),
        _ => return Err(A_SIZE.to_owned()),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match size {
        Some(size) if size >= LEAST_MEMORY => Ok(size),
        Some(_) if unit == 1 => Err(format!("it must be at least 1MiB; {A_SIZE}")),
        Some(_) => Err("it must be at least 1MiB".to_owned()),
        None => Err(A_SIZE.to_owned()),
    }
}

/// In the largest unit of which it is a whole number.
fn show_size(size: &usize) -> String {
    const UNITS: [(usize, &str); 6] = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    let unit = UNITS.iter().find(|(unit, _)| *size > 0 && size.is_multiple_of(*unit));
    unit.map_or_else(|| size.to_string(), |(unit, name)| format!("{}{name}", size / unit))
}

/// As a time is commonly said: minutes from ten on, hours from two on.
fn show_time(time: &Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match (seconds, millis) {
        (seconds, 0) if seconds >= 7_200 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        (seconds, 0) if seconds >= 600 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
        (0, millis) => format!("{millis}ms"),
        (seconds, millis) => format!("{seconds}s {millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        for (text, size, shown) in [
            ("1048576", 1 << 20, "1MiB"),
            ("1048576B", 1 << 20, "1MiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("2m", 2 << 20, "2MiB"),
            ("3 gib", 3 << 30, "3GiB"),
            ("2MB", 2_000_000, "2MB"),
            ("4000kB", 4_000_000, "4MB"),
            ("1048577", 1_048_577, "1048577"),
        ] {
            assert_eq!(some_size(text), Ok(size), "{text}");
            assert_eq!((show_size(&size), some_size(shown)), (shown.to_owned(), Ok(size)));
        }
        for (text, said) in [
            ("", "a whole number"),
            ("much", "a whole number"),
            ("1.5GiB", "a whole number"),
            ("-1", "a whole number"),
            ("99999999999999999999", "a whole number"),
            ("1000KiB", "at least 1MiB"),
            ("0", "at least 1MiB"),
            ("50%", "a share"),
            ("0%", "a share"),
        ] {
            assert!(some_size(text).unwrap_err().contains(said), "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for (millis, shown) in [
            (0, "0s"),
            (500, "500ms"),
            (60_000, "60s"),
            (60_500, "60s 500ms"),
            (600_000, "10m"),
            (601_000, "601s"),
            (3_600_000, "60m"),
            (7_200_000, "2h"),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!((show_time(&time), any_time(shown)), (shown.to_owned(), Ok(time)));
        }
    }
}
