//! Flags: those that the table has, as they are given on a command line.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

use super::{Options, Shape, table::SETTINGS};

/// The settings that a command line gives, as text that is right; none for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// By the place of the setting in the table.
    pub(super) given: Vec<Option<Vec<String>>>,
}

impl Default for Flags {
    fn default() -> Self {
        Self { given: vec![None; SETTINGS.len()] }
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let defaults = Options::default();
        SETTINGS.iter().fold(command, |command, setting| {
            let check = setting.check;
            let read = move |text: &str| check(text).map(|()| text.to_owned());
            let action = match setting.shape {
                Shape::One | Shape::Maybe | Shape::Switch => ArgAction::Set,
                Shape::List => ArgAction::Append,
            };
            let is_switch = setting.shape == Shape::Switch;
            let argument = Arg::new(setting.key)
                .long(setting.flag)
                .value_name(setting.value)
                .help(setting.text())
                .value_parser(read)
                .action(action)
                .default_values((setting.show)(&defaults));
            command.arg(if is_switch {
                // Without a value it is a yes, which is written behind = otherwise.
                let argument = argument.num_args(0..=1).require_equals(true);
                argument.default_missing_value("true").hide_default_value(true)
            } else {
                argument
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = SETTINGS.iter().map(|setting| {
            let is_given = matches.value_source(setting.key) == Some(ValueSource::CommandLine);
            let texts = matches.get_many::<String>(setting.key).filter(|_| is_given)?;
            Some(texts.cloned().collect())
        });
        Ok(Self { given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
