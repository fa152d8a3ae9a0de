//! The spellings of `rsc`: one command, `--stream` and its like, and its names of options.

use std::{ffi::OsString, iter::Peekable};

use clap::{Arg, CommandFactory};
use rsock::metadata::WellKnownMime;
use rsock_cli::any_time;

use crate::{args::Cli, exit::Failure, render::say};

const COMMANDS: [&str; 9] =
    ["request", "stream", "channel", "fnf", "push", "topic", "cert", "completion", "help"];

/// Options of `rsc` that take a value, and ours for them.
const RENAMED: &[(&[&str], &str)] = &[
    (&["-r", "--route"], "--route"),
    (&["--dataMimeType", "--dmt"], "--data-mime"),
    (&["--wsHeader", "--wsh"], "--header"),
    (&["--take"], "--take"),
    (&["--trustCert"], "--ca"),
];

/// Options of `rsc` that have no counterpart, and what to do instead.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (&["--retry"], "--reconnect connects anew, and --resume goes on where a lost connection was"),
    (&["--optsFile", "--dumpOpts"], "a shell script keeps options as well"),
];

/// The type of what describes an application, by the name that `rsc` has for it.
const APP_INFO: &str = "message/x.rsocket.application+json";
/// The type of credentials before there was an extension for them: `AUTHENTICATION_BASIC`.
const BASIC: &str = "message/x.rsocket.authentication.basic.v0";

/// The content of an entry of that type: the length of the user's name in four bytes, the name, and the
/// password.
fn basic(option: &str, credentials: &OsString) -> Result<OsString, Failure> {
    let text = credentials.to_str().and_then(|text| text.split_once(':'));
    let Some((user, password)) = text.filter(|(user, _)| user.len() < 128) else {
        return Err(Failure::Usage(format!(
            "{option}: expected USER:PASSWORD, and a user's name of at most 127 bytes"
        )));
    };
    // A byte below 128 is a character of its own.
    let length = char::from(user.len() as u8);
    Ok(format!("\0\0\0{length}{user}{password}").into())
}

/// Options of one letter that take a value, which may stand right behind it, as in `-d{}`.
const WITH_VALUE: [&str; 5] = ["-d", "-r", "-m", "-u", "-l"];

/// An option, and a value that is attached to it.
fn attached(text: &str) -> (&str, Option<OsString>) {
    match text.split_once('=') {
        Some((name, value)) if name.starts_with("--") => return (name, Some(value.into())),
        _ => {}
    }
    match text.split_at_checked(2) {
        Some((name, value)) if !value.is_empty() && WITH_VALUE.contains(&name) => {
            (name, Some(value.strip_prefix('=').unwrap_or(value).into()))
        }
        _ => (text, None),
    }
}

/// Arguments as clap is to see them: where no command is named, those of `rsc` are translated. With
/// nothing but a URI it is a request.
pub(crate) fn translate(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(first) = arguments.get(1).and_then(|first| first.to_str()) else {
        return Ok(arguments);
    };
    if let Some(at) = command_behind_options(&arguments) {
        // `rsock --timeout 5s request …` reads as well as `rsock request … --timeout 5s`.
        let command = arguments.remove(at);
        arguments.insert(1, command);
        return Ok(arguments);
    }
    if first == "-v" && arguments.len() == 2 {
        // Nothing else can be meant.
        arguments[1] = "--version".into();
        return Ok(arguments);
    }
    let is_ours = COMMANDS.contains(&first)
        || matches!(first, "-h" | "--help" | "-V" | "--version")
        // A command misspelt, for clap to say so.
        || !(first.starts_with('-') || first.contains([':', '/']));
    if is_ours {
        return Ok(arguments);
    }
    let mut arguments = arguments.into_iter().peekable();
    let program = arguments.next().unwrap_or_default();
    let mut translation = Translation::default();
    while let Some(argument) = arguments.next() {
        translation.take(argument, &mut arguments)?;
    }
    translation.finish(program)
}

/// The place of one of our commands that comes behind nothing but options and their values.
fn command_behind_options(arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(text) = arguments.get(at).and_then(|argument| argument.to_str()) {
        if !text.starts_with('-') {
            return (at > 1 && COMMANDS.contains(&text)).then_some(at);
        }
        let is_of = |option: &Arg| takes_value(option) && is_named(option, text);
        let mut commands = Cli::command();
        let has_value = commands.get_subcommands_mut().any(|command| command.get_opts().any(is_of));
        // A route may be called as a command is.
        at +=
            if has_value || RENAMED.iter().any(|(names, _)| names.contains(&text)) { 2 } else { 1 };
    }
    None
}

/// Whether its value is the next argument.
fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

fn is_named(option: &Arg, text: &str) -> bool {
    match text.strip_prefix("--") {
        Some(name) => option.get_long() == Some(name),
        None => option
            .get_short()
            .is_some_and(|short| text.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4]))),
    }
}

/// A value as text, which to us might name a file.
fn literal(value: &OsString) -> OsString {
    let is_taken = value.to_str().is_some_and(|text| text.starts_with('@'));
    let mut literal = OsString::from(if is_taken { "@" } else { "" });
    literal.push(value);
    literal
}

#[derive(Default)]
struct Translation {
    /// Something else than a request is wanted.
    instead: Option<Vec<OsString>>,
    /// Data is read from stdin, of which `rsc` leaves out the last newline.
    reads_stdin: bool,
    /// How it is told what happens: `-v` or `-vv`.
    verbosity: Option<&'static str>,
    /// Credentials were given.
    has_credentials: bool,
    /// The interaction, by `rsc`'s order of precedence.
    command: Option<Command>,
    metadata: Vec<OsString>,
    metadata_mimes: Vec<OsString>,
    setup_metadata: Option<OsString>,
    setup_metadata_mime: Option<OsString>,
    rest: Vec<OsString>,
}

/// The later the stronger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Command {
    Fnf,
    Channel,
    Request,
    Stream,
}

impl Translation {
    fn take(
        &mut self,
        argument: OsString,
        following: &mut Peekable<impl Iterator<Item = OsString>>,
    ) -> Result<(), Failure> {
        let Some(text) = argument.to_str() else {
            self.rest.push(argument);
            return Ok(());
        };
        if let Some(trace) = trace(text, following) {
            self.rest.push(trace);
            return Ok(());
        }
        let (name, attached) = attached(text);
        let mut value = || {
            let value = attached.clone().or_else(|| following.next());
            value.ok_or_else(|| Failure::Usage(format!("{name} needs a value")))
        };
        if let Some((_, ours)) = RENAMED.iter().find(|(names, _)| names.contains(&name)) {
            let mut option = OsString::from(format!("{ours}="));
            option.push(value()?);
            self.rest.push(option);
            return Ok(());
        }
        if let Some((_, instead)) = UNSUPPORTED.iter().find(|(names, _)| names.contains(&name)) {
            return Err(Failure::Usage(format!("rsc's {name} is not supported: {instead}")));
        }
        match name {
            "-d" | "--data" => {
                let value = value()?;
                self.reads_stdin |= value == "-";
                self.add("--data=", &literal(&value));
            }
            "--setupData" | "--sd" => {
                let value = value()?;
                self.add("--setup-data=", &literal(&value));
            }
            "--stream" => self.interact(Command::Stream),
            "--request" => self.interact(Command::Request),
            "--channel" => self.interact(Command::Channel),
            "--fnf" => self.interact(Command::Fnf),
            "--im" | "--interactionModel" => self.interact(interaction(&value()?)?),
            "-m" | "--metadata" => self.metadata.push(value()?),
            "--mmt" | "--metadataMimeType" => self.metadata_mimes.push(value()?),
            "-u" | "--as" | "--authSimple" => self.authenticate("--auth-simple=", &value()?),
            "--authBearer" | "--ab" => self.authenticate("--auth-bearer=", &value()?),
            "--setupMetadata" | "--sm" => self.setup_metadata = Some(value()?),
            "--setupMetadataMimeType" | "--smmt" => self.setup_metadata_mime = Some(value()?),
            "-l" | "--load" => {
                let mut option = OsString::from("--data=@");
                option.push(value()?);
                self.rest.push(option);
            }
            "--limitRate" => {
                let mut option = OsString::from("--request-n=");
                option.push(value()?);
                // Reactor's limitRate, which rsc has it from, refills at three quarters.
                self.rest.extend([option, "--refill=75".into()]);
            }
            "--delayElements" => {
                let mut option = OsString::from("--delay=");
                option.push(value()?);
                option.push("ms");
                self.rest.push(option);
            }
            "--authBasic" => {
                let credentials = basic(name, &value()?)?;
                let mut entry = OsString::from(format!("--metadata={BASIC}="));
                entry.push(credentials);
                self.rest.push(entry);
            }
            "--resume" => {
                let is_time =
                    |next: &OsString| next.to_str().is_some_and(|text| any_time(text).is_ok());
                let mut option = OsString::from("--resume");
                if let Some(time) = attached.or_else(|| following.next_if(is_time)) {
                    option.push("=");
                    option.push(time);
                }
                self.rest.push(option);
            }
            "--zipkinUrl" => {
                value()?;
                say(
                    "rsock: rsc's --zipkinUrl is passed over: no span is reported anywhere; --trace sends its \
                     ids, and -v says which",
                );
            }
            "--completion" => self.instead = Some(vec!["completion".into(), value()?]),
            "--showSystemProperties" => self.instead = Some(vec!["--version".into()]),
            "--debug" | "--log" | "-w" | "--wiretap" => self.verbosity = Some("-vv"),
            "--printB3" => self.verbosity = self.verbosity.or(Some("-v")),
            "-q" | "--quiet" => self.rest.push("--out=none".into()),
            // Nothing to trace.
            "--stacktrace" => {}
            _ => self.rest.push(argument),
        }
        Ok(())
    }

    fn interact(&mut self, command: Command) {
        self.command = self.command.max(Some(command));
    }

    /// `rsc` has credentials in the request.
    fn authenticate(&mut self, option: &str, credentials: &OsString) {
        self.add(option, credentials);
        if !std::mem::replace(&mut self.has_credentials, true) {
            self.rest.push("--auth-in=request".into());
        }
        let is_taken = |text: &str| text.starts_with('@') || text.starts_with("env:");
        if credentials.to_str().is_some_and(is_taken) {
            self.rest.push("--auth-literal".into());
        }
    }

    fn add(&mut self, option: &str, value: &OsString) {
        let mut option = OsString::from(option);
        option.push(value);
        self.rest.push(option);
    }

    /// SETUP's one entry, of JSON unless it says otherwise.
    fn set_up(&mut self) -> Result<(), Failure> {
        let mime = self.setup_metadata_mime.take();
        let Some(metadata) = self.setup_metadata.take() else { return Ok(()) };
        let is_auth = mime.as_ref().is_some_and(|mime| {
            mime.to_str().and_then(|mime| crate::metadata::mime(mime).ok())
                == Some(WellKnownMime::Authentication.into())
        });
        let option = if is_auth {
            let text = metadata.to_str().and_then(|text| text.split_once(':'));
            match text {
                Some(("simple", credentials)) => format!("--auth-simple={credentials}").into(),
                Some(("bearer", token)) => format!("--auth-bearer={token}").into(),
                _ => {
                    return Err(Failure::usage(
                        "--setupMetadata: expected simple:USER:PASSWORD or bearer:TOKEN",
                    ));
                }
            }
        } else {
            let (mime, metadata) = match mime.as_ref().and_then(|mime| mime.to_str()) {
                Some("APP_INFO") => (APP_INFO.into(), literal(&metadata)),
                Some("AUTHENTICATION_BASIC" | BASIC) => {
                    (BASIC.into(), basic("--setupMetadata", &metadata)?)
                }
                _ => (mime.unwrap_or_else(|| "json".into()), literal(&metadata)),
            };
            let mut option = OsString::from("--setup-metadata=");
            option.push(mime);
            option.push("=");
            option.push(metadata);
            option
        };
        self.rest.push(option);
        Ok(())
    }

    fn finish(mut self, program: OsString) -> Result<Vec<OsString>, Failure> {
        if let Some(arguments) = self.instead {
            return Ok([vec![program], arguments].concat());
        }
        self.set_up()?;
        self.rest.extend(self.verbosity.map(OsString::from));
        if self.reads_stdin && self.command != Some(Command::Channel) {
            self.rest.push("--chomp".into());
        }
        let command = match self.command {
            Some(Command::Stream) => "stream",
            Some(Command::Channel) => "channel",
            Some(Command::Fnf) => "fnf",
            Some(Command::Request) | None => "request",
        };
        let mut arguments = vec![program, command.into()];
        let mut mimes = self.metadata_mimes.into_iter();
        let paired = mimes.len() > 0;
        for metadata in self.metadata {
            let mut option = OsString::from("--metadata=");
            match mimes.next() {
                Some(mime) => {
                    option.push(mime);
                    option.push("=");
                }
                None if paired || !names_its_type(&metadata) => option.push("json="),
                None => {}
            }
            // With its type before it, where it may have none of `rsc`'s.
            option.push(if option == "--metadata=" { metadata } else { literal(&metadata) });
            arguments.push(option);
        }
        arguments.extend(self.rest);
        Ok(arguments)
    }
}

/// `--trace`, whose value `rsc` takes from the next argument if that is one.
fn trace(
    argument: &str,
    following: &mut Peekable<impl Iterator<Item = OsString>>,
) -> Option<OsString> {
    let value = argument.strip_prefix("--trace")?;
    let decision = |name: &str| match name {
        "UNDECIDED" => Some("--trace=undecided"),
        "NOT_SAMPLE" => Some("--trace=not-sampled"),
        "SAMPLE" => Some("--trace=sampled"),
        "DEBUG" => Some("--trace=debug"),
        _ => None,
    };
    if value.is_empty() {
        let next = following.next_if(|next| next.to_str().and_then(decision).is_some());
        let named = next.as_ref().and_then(|next| next.to_str()).and_then(decision);
        return Some(named.unwrap_or("--trace").into());
    }
    value.strip_prefix('=').and_then(decision).map(OsString::from)
}

/// Whether it is one of ours, `MIME=VALUE`, and not a value alone.
fn names_its_type(metadata: &OsString) -> bool {
    let name = metadata.to_str().and_then(|text| text.split_once('=')).map(|(name, _)| name);
    name.is_some_and(|name| {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "/.+-_".contains(c);
        name.chars().all(is_token) && crate::metadata::mime(name).is_ok()
    })
}

fn interaction(model: &OsString) -> Result<Command, Failure> {
    match model.to_str() {
        Some("REQUEST_RESPONSE") => Ok(Command::Request),
        Some("REQUEST_STREAM") => Ok(Command::Stream),
        Some("REQUEST_CHANNEL") => Ok(Command::Channel),
        Some("FIRE_AND_FORGET") => Ok(Command::Fnf),
        _ => Err(Failure::Usage(format!(
            "--im {}: expected REQUEST_RESPONSE, REQUEST_STREAM, REQUEST_CHANNEL or FIRE_AND_FORGET",
            model.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn translated(line: &str) -> Result<String, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        let arguments = translate(words).map_err(|failure| failure.to_string())?;
        if let Err(error) = Cli::try_parse_from(&arguments)
            && error.use_stderr()
        {
            panic!("{line}: {error}");
        }
        let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        Ok(words[1..].join(" "))
    }

    #[test]
    fn the_one_liners_of_rsc_run() {
        for (theirs, ours) in [
            ("rsock tcp://h:1", "request tcp://h:1"),
            ("rsock unix:/a.sock", "request unix:/a.sock"),
            // Not a URI yet: what is missing is said where it is read.
            ("rsock localhost:7878", "request localhost:7878"),
            ("rsock tcp://h:1 -r a -d b", "request tcp://h:1 --route=a --data=b"),
            ("rsock --request --route=a tcp://h:1", "request --route=a tcp://h:1"),
            ("rsock --stream -d - tcp://h:1", "stream --data=- tcp://h:1 --chomp"),
            ("rsock --channel -d - tcp://h:1", "channel --data=- tcp://h:1"),
            ("rsock -d @all --sd @x tcp://h:1", "request --data=@@all --setup-data=@@x tcp://h:1"),
            ("rsock --log --stream tcp://h:1", "stream tcp://h:1 -vv"),
            ("rsock -w --debug tcp://h:1 --printB3", "request tcp://h:1 -vv"),
            ("rsock --trace --printB3 tcp://h:1", "request --trace tcp://h:1 -v"),
            (
                "rsock -u env:x tcp://h:1",
                "request --auth-simple=env:x --auth-in=request --auth-literal tcp://h:1",
            ),
            (
                "rsock --sm {} --smmt APP_INFO tcp://h:1",
                "request tcp://h:1 --setup-metadata=message/x.rsocket.application+json={}",
            ),
            (
                "rsock --sm ann:pw --smmt AUTHENTICATION_BASIC tcp://h:1",
                "request tcp://h:1 --setup-metadata=message/x.rsocket.authentication.basic.v0=\0\0\0\u{3}annpw",
            ),
            ("rsock --fnf --request tcp://h:1", "request tcp://h:1"),
            ("rsock --im REQUEST_CHANNEL tcp://h:1", "channel tcp://h:1"),
            (
                "rsock --stream --limitRate 8 --take=3 --delayElements 100 --debug tcp://h:1",
                "stream --request-n=8 --refill=75 --take=3 --delay=100ms tcp://h:1 -vv",
            ),
            (
                "rsock --dmt APPLICATION_CBOR -l f -q --sd s ws://h",
                "request --data-mime=APPLICATION_CBOR --data=@f --out=none --setup-data=s ws://h",
            ),
            ("rsock tcp://h:1 --out hex", "request tcp://h:1 --out hex"),
            (
                "rsock -u ann:pw tcp://h:1",
                "request --auth-simple=ann:pw --auth-in=request tcp://h:1",
            ),
            (
                "rsock --authBearer=tok tcp://h:1",
                "request --auth-bearer=tok --auth-in=request tcp://h:1",
            ),
            (
                "rsock --authBasic ann:pw tcp://h:1",
                "request --metadata=message/x.rsocket.authentication.basic.v0=\0\0\0\u{3}annpw tcp://h:1",
            ),
            ("rsock -ra -d{\"a=b\":1} tcp://h:1", "request --route=a --data={\"a=b\":1} tcp://h:1"),
            (
                "rsock -r=a -d@x -m{} tcp://h:1",
                "request --metadata=json={} --route=a --data=@@x tcp://h:1",
            ),
            ("rsock --fnf -r a -q tcp://h:1", "fnf --route=a --out=none tcp://h:1"),
            ("rsock --trace tcp://h:1", "request --trace tcp://h:1"),
            ("rsock --trace --zipkinUrl http://h tcp://h:1", "request --trace tcp://h:1"),
            ("rsock --completion bash", "completion bash"),
            ("rsock --showSystemProperties", "--version"),
            ("rsock -v", "--version"),
            ("rsock --trace NOT_SAMPLE tcp://h:1", "request --trace=not-sampled tcp://h:1"),
            ("rsock --trace=DEBUG tcp://h:1", "request --trace=debug tcp://h:1"),
            ("rsock tcp://h:1 --trace=sampled", "request tcp://h:1 --trace=sampled"),
            ("rsock --sm {} tcp://h:1", "request tcp://h:1 --setup-metadata=json={}"),
            (
                "rsock --smmt TEXT_PLAIN --setupMetadata a=b tcp://h:1",
                "request tcp://h:1 --setup-metadata=TEXT_PLAIN=a=b",
            ),
            (
                "rsock --sm simple:ann:pw --smmt MESSAGE_RSOCKET_AUTHENTICATION tcp://h:1",
                "request tcp://h:1 --auth-simple=ann:pw",
            ),
            (
                "rsock --sm bearer:tok --smmt MESSAGE_RSOCKET_AUTHENTICATION tcp://h:1",
                "request tcp://h:1 --auth-bearer=tok",
            ),
        ] {
            assert_eq!(translated(theirs).as_deref(), Ok(ours));
        }
    }

    #[test]
    fn metadata_pairs_with_its_types_in_order() {
        for (theirs, ours) in [
            ("rsock -m {} tcp://h:1", "request --metadata=json={} tcp://h:1"),
            ("rsock -m {\"a=b\":1} tcp://h:1", "request --metadata=json={\"a=b\":1} tcp://h:1"),
            ("rsock -m text=a tcp://h:1", "request --metadata=text=a tcp://h:1"),
            (
                "rsock -m a=1 --mmt TEXT_PLAIN -m {} tcp://h:1",
                "request --metadata=TEXT_PLAIN=a=1 --metadata=json={} tcp://h:1",
            ),
        ] {
            assert_eq!(translated(theirs).as_deref(), Ok(ours));
        }
    }

    #[test]
    fn a_time_to_resume_is_attached() {
        let ours = "request --resume tcp://h:1";
        assert_eq!(translated("rsock --resume tcp://h:1").as_deref(), Ok(ours));
        assert_eq!(
            translated("rsock --resume=5m tcp://h:1").as_deref(),
            Ok("request --resume=5m tcp://h:1")
        );
        let ours = "request --resume=600 tcp://h:1";
        assert_eq!(translated("rsock --resume 600 tcp://h:1").as_deref(), Ok(ours));
    }

    #[test]
    fn what_names_a_command_is_left_alone() {
        for line in ["rsock request tcp://h:1 -m text=a", "rsock help", "rsock --version"] {
            assert_eq!(format!("rsock {}", translated(line).unwrap()), line);
        }
        for (given, ours) in [
            ("rsock -vv fnf tcp://h:1", "fnf -vv tcp://h:1"),
            ("rsock --timeout 5s request tcp://h:1", "request --timeout 5s tcp://h:1"),
            ("rsock -vvv request tcp://h:1", "request -vvv tcp://h:1"),
            ("rsock -r request request tcp://h:1", "request -r request tcp://h:1"),
            (
                "rsock --resume --route=push stream tcp://h:1",
                "stream --resume --route=push tcp://h:1",
            ),
            // A route of that name, in rsc's way.
            ("rsock -r request tcp://h:1", "request --route=request tcp://h:1"),
        ] {
            assert_eq!(translated(given).as_deref(), Ok(ours));
        }
        let misspelt = vec!["rsock".into(), "strem".into()];
        assert_eq!(translate(misspelt.clone()).unwrap(), misspelt);
    }

    #[test]
    fn what_has_no_counterpart_says_what_to_do() {
        let error = translated("rsock --retry 5 tcp://h:1").unwrap_err();
        assert!(error.contains("--retry is not supported"), "{error}");
        let error = translated("rsock --sm token:secret --smmt auth tcp://h:1").unwrap_err();
        assert!(error.contains("bearer:TOKEN") && !error.contains("secret"), "{error}");
        assert!(translated("rsock --route").unwrap_err().contains("needs a value"));
        assert!(translated("rsock --im X tcp://h:1").unwrap_err().contains("REQUEST_STREAM"));
    }
}
