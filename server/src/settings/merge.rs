//! The merge: what the defaults, the file, the environment and the command line say, and who has said it.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{
    AccessFile, Flags, Options, PREFIX, Reload, Shape,
    file::{self, Entry},
    table::SETTINGS,
};

/// The variable that names the file.
const CONFIG: &str = "RSOCKD_CONFIG";
/// The file that is read where none is named, if it is there.
const USUAL: &str = "/etc/rsockd/rsockd.toml";
/// The setting that sections of the file stand for.
const ACCESS: &str = "access";
/// The end of a variable that names the file with the value of another, as secrets come to containers.
const OF_FILE: &str = "_FILE";
/// Variables that Kubernetes and Docker make for a service of the name `rsockd`: they set nothing.
const NOT_OURS: [&str; 2] = ["RSOCKD_SERVICE_", "RSOCKD_PORT"];

/// The source of a setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody has set it.
    Default,
    /// The file, in this line.
    File(usize),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl Source {
    /// The kind of source, in a word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(_) => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }

    /// The line of the file.
    pub(crate) fn line(&self) -> Option<usize> {
        if let Self::File(line) = self { Some(*line) } else { None }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "file, line {line}"),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// All that is wrong with settings, a line each: never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<String>);

impl Problems {
    /// A line each.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Settings of all sources, with where each came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub options: Options,
    /// By their places in the table.
    pub(super) sources: Vec<Source>,
    /// The file that was read.
    pub(super) file: Option<PathBuf>,
}

/// The names of settings that were changed, by the time at which the change acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// At once.
    pub live: Vec<&'static str>,
    /// For connections that come later.
    pub new_connections: Vec<&'static str>,
    /// When the service is started again.
    pub restart: Vec<&'static str>,
}

impl Loaded {
    /// Reads what there is: the file that is named here, by `RSOCKD_CONFIG`, or that of the system; the
    /// process's environment; and what a command line gave.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(flags: &Flags, config: Option<&Path>) -> Result<Self, Problems> {
        let named = config.map(Path::to_owned);
        let by_variable = || env::var_os(CONFIG).filter(|path| !path.is_empty()).map(PathBuf::from);
        let named = named.or_else(by_variable);
        let path = named.as_deref().unwrap_or_else(|| Path::new(USUAL));
        let file = match fs::read_to_string(path) {
            Ok(text) => Some((path, text)),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Problems(vec![format!("{}: cannot be read: {error}", path.display())]));
            }
        };
        let variables = env::vars_os().filter_map(|(name, value)| {
            // What is not text is none of ours, or is told as what it looks like.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Self::merge(flags, variables, file.as_ref().map(|(path, text)| (*path, &text[..])))
    }

    /// The same of these variables, and of a file with this text.
    pub(super) fn merge(
        flags: &Flags,
        variables: impl Iterator<Item = (String, String)>,
        file: Option<(&Path, &str)>,
    ) -> Result<Self, Problems> {
        let (file::Given { entries, sections }, mut problems) = match file {
            Some((path, text)) => file::read(&path.display().to_string(), text),
            None => (file::Given::default(), Vec::new()),
        };
        let mut given: Vec<(Source, Option<Vec<String>>)> =
            SETTINGS.iter().map(|_| (Source::Default, None)).collect();
        for Entry { setting, texts, line } in entries {
            given[setting] = (Source::File(line), Some(texts));
        }
        // In the order of their names: problems are told in the same order each time.
        let mut variables: Vec<_> =
            variables.filter(|(name, value)| is_ours(name) && !value.is_empty()).collect();
        variables.sort_unstable();
        for (name, value) in variables {
            let (name, value) = match of_file(&name, &value) {
                None => (name, value),
                Some(Ok(read)) => read,
                Some(Err(problem)) => {
                    problems.push(format!("{name}: {problem}"));
                    continue;
                }
            };
            match setting_of(&name).and_then(|at| Ok((at, texts_of(at, &value)?))) {
                Ok((at, _)) if given[at].0 == Source::Environment => problems
                    .push(format!("{name}: it is set twice, by itself and by {name}{OF_FILE}")),
                Ok((at, texts)) => given[at] = (Source::Environment, Some(texts)),
                Err(problem) => problems.push(format!("{name}: {problem}")),
            }
        }
        for (of, texts) in given.iter_mut().zip(&flags.given) {
            if let Some(texts) = texts {
                *of = (Source::Flag, Some(texts.clone()));
            }
        }
        let mut options = Options::default();
        for (setting, (source, texts)) in SETTINGS.iter().zip(&given) {
            if let Some(texts) = texts
                && let Err(problem) = (setting.set)(&mut options, texts)
            {
                problems.push(format!("{}: {problem} ({source})", setting.key));
            }
        }
        let mut sources: Vec<_> = given.into_iter().map(|(source, _)| source).collect();
        if let (Some(line), Some((path, _))) = (sections, file) {
            let at = SETTINGS.iter().position(|setting| setting.key == ACCESS);
            match (&options.access, at) {
                (Some(other), _) => problems.push(format!(
                    "{}:{line}: who comes in stands here, and --access names {}: one of them",
                    path.display(),
                    other.path.display()
                )),
                (None, Some(at)) => sources[at] = Source::File(line),
                (None, None) => {}
            }
            options.access = Some(AccessFile { path: path.to_owned(), is_config: true });
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self { options, sources, file: file.map(|(path, _)| path.to_owned()) })
    }

    /// The file that was read, if there was one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The settings that are not those of before.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        for setting in SETTINGS {
            if (setting.show)(&self.options) != (setting.show)(&before.options) {
                let kind = match setting.reload {
                    Reload::Live => &mut changes.live,
                    Reload::NewConnections => &mut changes.new_connections,
                    Reload::Restart => &mut changes.restart,
                };
                kind.push(setting.key);
            }
        }
        changes
    }
}

/// Whether a variable is meant to set something.
fn is_ours(name: &str) -> bool {
    let of = name.strip_suffix(OF_FILE).unwrap_or(name);
    let is_setting = || setting_of(name).is_ok() || setting_of(of).is_ok();
    name.starts_with(PREFIX)
        && name != CONFIG
        && (is_setting() || !NOT_OURS.iter().any(|prefix| name.starts_with(prefix)))
}

/// The variable whose value a file has, and that value, if this names such a file.
fn of_file(name: &str, path: &str) -> Option<Result<(String, String), String>> {
    let of = name.strip_suffix(OF_FILE)?;
    if setting_of(name).is_ok() || setting_of(of).is_err() {
        return None;
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Some(Err(format!("cannot read {path}: {error}"))),
    };
    Some(Ok((of.to_owned(), text.trim_end_matches(['\r', '\n']).to_owned())))
}

fn setting_of(name: &str) -> Result<usize, String> {
    let found = SETTINGS.iter().position(|setting| setting.variable() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = SETTINGS.iter().map(super::Setting::variable).collect();
        format!("no such variable{}", nearest(name, known.iter().map(String::as_str)))
    })
}

/// The values of a variable: of a list, those between commas, or of a JSON array.
fn texts_of(at: usize, value: &str) -> Result<Vec<String>, String> {
    let setting = &SETTINGS[at];
    let texts = match setting.shape {
        Shape::List if value.starts_with('[') => serde_json::from_str::<Vec<String>>(value)
            .map_err(|error| format!("it is not a JSON array of strings: {error}"))?,
        Shape::List => value.split(',').map(|text| text.trim().to_owned()).collect(),
        Shape::One | Shape::Maybe | Shape::Switch => vec![value.to_owned()],
    };
    texts.iter().try_for_each(|text| (setting.check)(text))?;
    Ok(texts)
}

/// The question whether a name was meant that is spelled much like another, if one is.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    /// Slips of the hand at most: more make another word.
    const MOST: usize = 3;
    let near = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    // A short word is near to everything.
    let most = MOST.min(name.len() / 3);
    let near = near.filter(|(slips, _)| *slips <= most).min();
    near.map_or_else(String::new, |(_, known)| format!(", is it {known:?}?"))
}
