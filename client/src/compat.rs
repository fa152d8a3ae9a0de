//! The spellings of `rsc`: one command, `--stream` and its like, and its names of options.

use std::{ffi::OsString, iter::Peekable};

use rsock::metadata::WellKnownMime;

use crate::exit::Failure;

const COMMANDS: [&str; 6] = ["request", "stream", "channel", "fnf", "push", "help"];

/// Options of `rsc` that take a value, and ours for them.
const RENAMED: &[(&[&str], &str)] = &[
    (&["-d", "--data"], "--data"),
    (&["-r", "--route"], "--route"),
    (&["--dataMimeType", "--dmt"], "--data-mime"),
    (&["--setupData", "--sd"], "--setup-data"),
    (&["--wsHeader", "--wsh"], "--header"),
    (&["--take"], "--take"),
];

/// Options of `rsc` that have no counterpart, and what to do instead.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (&["--authBasic"], "its format is deprecated: --auth-simple is the extension's"),
    (&["--trustCert"], "tcp:, ws: and unix: are the transports there are"),
    (&["--retry"], "--reconnect connects anew, and --resume goes on where a lost connection was"),
    (&["-w", "--wiretap", "--log"], "-vv shows the frames"),
    (&["--zipkinUrl", "--printB3"], "--trace sends ids, and -v says which"),
    (&["--optsFile", "--dumpOpts"], "a shell script keeps options as well"),
    (&["--completion"], "there is no completion yet"),
    (&["--showSystemProperties"], "--version says what there is to say"),
];

/// Arguments as clap is to see them: where no command is named, those of `rsc` are translated. With
/// nothing but a URI it is a request.
pub(crate) fn translate(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    // `rsock -vv stream …` reads as well as `rsock stream … -vv`.
    let is_verbose = |argument: &OsString| argument == "-v" || argument == "-vv";
    if arguments.len() > 2 && is_verbose(&arguments[1]) {
        arguments[1..].rotate_left(1);
    }
    let Some(first) = arguments.get(1).and_then(|first| first.to_str()) else {
        return Ok(arguments);
    };
    let is_ours = COMMANDS.contains(&first)
        || matches!(first, "-h" | "--help" | "-V" | "--version")
        // A command misspelt, for clap to say so.
        || !(first.starts_with('-') || first.contains("://") || first.starts_with("unix:"));
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

#[derive(Default)]
struct Translation {
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
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.into())),
            _ => (text, None),
        };
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
            "--stream" => self.interact(Command::Stream),
            "--request" => self.interact(Command::Request),
            "--channel" => self.interact(Command::Channel),
            "--fnf" => self.interact(Command::Fnf),
            "--im" | "--interactionModel" => self.interact(interaction(&value()?)?),
            "-m" | "--metadata" => self.metadata.push(value()?),
            "--mmt" | "--metadataMimeType" => self.metadata_mimes.push(value()?),
            "-u" | "--as" | "--authSimple" => self.authenticate("--auth-simple=", value()?),
            "--authBearer" | "--ab" => self.authenticate("--auth-bearer=", value()?),
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
            "--resume" => {
                let mut option = OsString::from("--resume=");
                option.push(value()?);
                self.rest.push(option);
            }
            "--debug" => self.rest.push("-vv".into()),
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
    fn authenticate(&mut self, option: &str, credentials: OsString) {
        let mut option = OsString::from(option);
        option.push(credentials);
        self.rest.extend([option, "--auth-in=request".into()]);
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
            let mut option = OsString::from("--setup-metadata=");
            option.push(mime.unwrap_or_else(|| "json".into()));
            option.push("=");
            option.push(metadata);
            option
        };
        self.rest.push(option);
        Ok(())
    }

    fn finish(mut self, program: OsString) -> Result<Vec<OsString>, Failure> {
        self.set_up()?;
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
            option.push(metadata);
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
    use crate::args::Cli;

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
            ("rsock tcp://h:1 -r a -d b", "request tcp://h:1 --route=a --data=b"),
            ("rsock --request --route=a tcp://h:1", "request --route=a tcp://h:1"),
            ("rsock --stream -d - tcp://h:1", "stream --data=- tcp://h:1"),
            ("rsock --fnf --request tcp://h:1", "request tcp://h:1"),
            ("rsock --im REQUEST_CHANNEL tcp://h:1", "channel tcp://h:1"),
            (
                "rsock --stream --limitRate 8 --take=3 --delayElements 100 --debug tcp://h:1",
                "stream --request-n=8 --refill=75 --take=3 --delay=100ms -vv tcp://h:1",
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
            ("rsock --trace tcp://h:1", "request --trace tcp://h:1"),
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
        let ours = "request --resume=600 tcp://h:1";
        assert_eq!(translated("rsock --resume 600 tcp://h:1").as_deref(), Ok(ours));
    }

    #[test]
    fn what_names_a_command_is_left_alone() {
        for line in ["rsock request tcp://h:1 -m text=a", "rsock help", "rsock --version"] {
            assert_eq!(format!("rsock {}", translated(line).unwrap()), line);
        }
        assert_eq!(translated("rsock -vv fnf tcp://h:1").as_deref(), Ok("fnf tcp://h:1 -vv"));
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
