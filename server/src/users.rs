//! `rsockd user …`: the files of users.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use rsock_access::{Users, hash_password};

/// The characters of the shortest password that is taken here.
const MIN_PASSWORD: usize = 8;

/// A command about a file of users.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Add a user; the password is asked for, or read from stdin. The file is made if there is none
    Add {
        /// The file of users
        file: PathBuf,
        /// The user's name
        name: String,
        /// The user's roles, with commas between them
        #[arg(long, value_name = "ROLES", value_delimiter = ',')]
        roles: Vec<String>,
    },
    /// Set the password of a user, asked for or read from stdin
    Passwd {
        /// The file of users
        file: PathBuf,
        /// The user's name
        name: String,
    },
    /// List users with their roles and the kind of their hashes
    List {
        /// The file of users
        file: PathBuf,
    },
}

impl UserCommand {
    /// Does it. What comes of it is text to print.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn run(&self) -> Result<String, String> {
        match self {
            Self::List { file } => {
                let users = parse(file, &read(file)?)?;
                let lines = users.list().into_iter().map(|(name, user)| {
                    let roles: Vec<_> = user.roles().iter().map(|role| &**role).collect();
                    format!("{name}  {}  {}\n", user.hash_kind(), roles.join(","))
                });
                Ok(lines.collect())
            }
            Self::Add { file, name, roles } => {
                let text = if file.exists() { read(file)? } else { String::new() };
                if parse(file, &text)?.find(name).is_some() {
                    return Err(format!("{name:?} is in {} already: use passwd", file.display()));
                }
                let line = format!("{name}:{}:{}\n", hash()?, roles.join(","));
                let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                write(file, &format!("{text}{gap}{line}"))?;
                Ok(format!("{name} is in {}; SIGHUP has rsockd read it\n", file.display()))
            }
            Self::Passwd { file, name } => {
                let text = read(file)?;
                if parse(file, &text)?.find(name).is_none() {
                    return Err(format!("{name:?} is not in {}: use add", file.display()));
                }
                let hash = hash()?;
                let line = |line: &str| match line.trim().split_once(':') {
                    Some((known, rest)) if known == name => match rest.split_once(':') {
                        Some((_, roles)) => format!("{name}:{hash}:{roles}\n"),
                        None => format!("{name}:{hash}\n"),
                    },
                    _ => format!("{line}\n"),
                };
                write(file, &text.lines().map(line).collect::<String>())?;
                Ok(format!("{name} has another password; SIGHUP has rsockd read it\n"))
            }
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn parse(file: &Path, text: &str) -> Result<Users, String> {
    Users::parse(text).map_err(|problems| format!("{}: {}", file.display(), problems.join("; ")))
}

/// The hash of a password that is typed, or read from stdin: never of an argument, which all users of the
/// machine can see.
fn hash() -> Result<String, String> {
    let told = |error: io::Error| format!("cannot read a password: {error}");
    let password = if io::stdin().is_terminal() {
        let first = rpassword::prompt_password("password: ").map_err(told)?;
        if rpassword::prompt_password("again: ").map_err(told)? != first {
            return Err("these were two passwords".to_owned());
        }
        first
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(told)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.chars().count() < MIN_PASSWORD {
        return Err(format!("a password has {MIN_PASSWORD} characters or more"));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| format!("no random numbers: {error}"))?;
    hash_password(password.as_bytes(), &salt)
}

/// Puts another file in the place of one, whole or not at all. Others cannot read it.
fn write(file: &Path, text: &str) -> Result<(), String> {
    // A name or a role that is wrong leaves the file as it is.
    parse(file, text)?;
    let told = |error: io::Error| format!("cannot write {}: {error}", file.display());
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    let written = write_new(&new, file, text);
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written.map_err(told)
}

fn write_new(new: &Path, file: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut out = options.open(new)?;
    out.write_all(text.as_bytes())?;
    // It has who may read it from the one before.
    if let Ok(before) = fs::metadata(file) {
        fs::set_permissions(new, before.permissions())?;
    }
    out.sync_all()?;
    fs::rename(new, file)
}
