//! Settings: one table, from which come the struct, the keys of the file, the variables, the flags, their
//! defaults and their documentation; and the merge of what all sources say.
//!
//! A value is text wherever it comes from, and has one form. The strongest source wins: the default, the
//! file, the environment, a flag.

mod command;
mod describe;
mod file;
mod flags;
mod form;
mod merge;
mod table;
#[cfg(test)]
mod tests;

pub use command::ConfigCommand;
pub(crate) use describe::effective_json;
pub use flags::Flags;
pub use merge::{Changes, Loaded, Problems, Source};
pub use table::{
    AccessFile, ClientAddressKind, ClientAuthKind, ConsoleKind, DefaultRoute, Options, ProxyKind,
    RuntimeKind,
};

/// Keys of the file that are none of the table: the sections on who comes in and who may do what.
const SECTIONS: &[&str] = &["auth", "grant", "deny"];

/// The time at which a setting that was changed acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// At once, when it is read anew.
    Live,
    /// For connections that come later.
    NewConnections,
    /// When the service is started again.
    Restart,
}

/// How many values a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    /// One, or none.
    Maybe,
    /// Yes or no: as a flag it needs no value.
    Switch,
    List,
}

/// A setting, as the table has it.
#[derive(Debug)]
struct Setting {
    /// Its name in the file.
    key: &'static str,
    /// The same as a flag, without the dashes before it.
    flag: &'static str,
    /// The lines that document it.
    about: &'static [&'static str],
    /// The name of a value in help.
    value: &'static str,
    is_number: bool,
    shape: Shape,
    reload: Reload,
    /// Checks a value.
    check: fn(&str) -> Result<(), String>,
    /// Sets the values, which are right.
    set: fn(&mut Options, &[String]) -> Result<(), String>,
    /// The values, as text.
    show: fn(&Options) -> Vec<String>,
}

impl Setting {
    /// The variable that sets it.
    fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Its documentation, in one line.
    fn text(&self) -> String {
        self.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// The beginning of the names of all variables that set something.
const PREFIX: &str = "RSOCKD_";

/// The name of a flag for a key: with dashes.
const fn dashed<const N: usize>(key: &str) -> [u8; N] {
    let mut name = [0; N];
    let mut at = 0;
    while at < N {
        let byte = key.as_bytes()[at];
        name[at] = if byte == b'_' { b'-' } else { byte };
        at += 1;
    }
    name
}

/// Makes the struct of settings, its defaults and the table. A line is `shape name: type = default, form,
/// reload;` behind its documentation: `one` value, `maybe` one, a `list`, or a
/// `switch`.
macro_rules! settings {
    (
        $(#[doc = $title:literal])+ $options:ident;
        $($(#[doc = $about:literal])+ $shape:ident $key:ident: $type:ty = $default:expr, $form:ident, $reload:ident;)*
    ) => {
        $(#[doc = $title])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $options {
            $($(#[doc = $about])+ pub $key: settings!(@type $shape $type),)*
        }

        impl Default for $options {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        /// All settings, in the order of their documentation.
        pub(super) static SETTINGS: &[super::Setting] = &[$(super::Setting {
            key: stringify!($key),
            flag: {
                const NAME: [u8; stringify!($key).len()] = super::dashed(stringify!($key));
                match std::str::from_utf8(&NAME) {
                    Ok(name) => name,
                    // A dash for each underscore leaves it ASCII.
                    Err(_) => stringify!($key),
                }
            },
            about: &[$($about),+],
            value: $form.value,
            is_number: $form.is_number,
            shape: settings!(@shape $shape),
            reload: $reload,
            check: |text| $form.read(text).map(drop),
            set: |options, texts| {
                options.$key = settings!(@read $shape $form texts);
                Ok(())
            },
            show: |options| settings!(@show $shape $form options.$key),
        }),*];
    };
    (@type one $type:ty) => { $type };
    (@type switch $type:ty) => { $type };
    (@type maybe $type:ty) => { Option<$type> };
    (@type list $type:ty) => { Vec<$type> };
    (@shape one) => { super::Shape::One };
    (@shape switch) => { super::Shape::Switch };
    (@shape maybe) => { super::Shape::Maybe };
    (@shape list) => { super::Shape::List };
    (@read one $form:ident $texts:ident) => {
        $form.read($texts.last().map_or("", String::as_str))?
    };
    (@read switch $form:ident $texts:ident) => { settings!(@read one $form $texts) };
    (@read maybe $form:ident $texts:ident) => {
        $texts.last().map(|text| $form.read(text)).transpose()?
    };
    (@read list $form:ident $texts:ident) => {
        $texts.iter().map(|text| $form.read(text)).collect::<Result<_, _>>()?
    };
    (@show one $form:ident $value:expr) => { vec![$form.show(&$value)] };
    (@show switch $form:ident $value:expr) => { settings!(@show one $form $value) };
    (@show maybe $form:ident $value:expr) => {
        $value.as_ref().map(|value| $form.show(value)).into_iter().collect()
    };
    (@show list $form:ident $value:expr) => {
        $value.iter().map(|value| $form.show(value)).collect()
    };
}
use settings;
