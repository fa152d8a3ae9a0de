//! The file of settings: TOML, whose keys are those of the table.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{SECTIONS, Setting, merge::nearest, table::SETTINGS};

/// A setting that the file gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The place of the setting in the table.
    pub(super) setting: usize,
    pub(super) texts: Vec<String>,
    /// The line it stands in, from 1.
    pub(super) line: usize,
}

/// The settings that a file gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) entries: Vec<Entry>,
    /// The line of the first of its sections.
    pub(super) sections: Option<usize>,
}

/// Reads a file: what it gives, and what is wrong with it.
pub(super) fn read(name: &str, text: &str) -> (Given, Vec<String>) {
    let (mut given, mut problems) = (Given::default(), Vec::new());
    let mut wrong = |at: usize, problem: String| {
        let (line, column) = place(text, at);
        problems.push(format!("{name}:{line}:{column}: {problem}"));
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            wrong(error.span().map_or(0, |span| span.start), error.message().to_owned());
            return (given, problems);
        }
    };
    for (key, value) in table.get_ref() {
        let Range { start, .. } = key.span();
        let key = key.get_ref().as_ref();
        if SECTIONS.contains(&key) {
            let line = place(text, start).0;
            given.sections = Some(given.sections.map_or(line, |first| first.min(line)));
            continue;
        }
        let Some(setting) = SETTINGS.iter().position(|setting| setting.key == key) else {
            let known = SETTINGS.iter().map(|setting| setting.key).chain(SECTIONS.iter().copied());
            wrong(start, format!("unknown key {key:?}{}", nearest(key, known)));
            continue;
        };
        match texts_of(&SETTINGS[setting], value) {
            Ok(texts) => given.entries.push(Entry { setting, texts, line: place(text, start).0 }),
            Err((at, problem)) => wrong(at, format!("{key}: {problem}")),
        }
    }
    (given, problems)
}

/// The line and the column of a byte, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[begin..]).chars().count() + 1)
}

type Problem = (usize, String);

/// The values of a setting, as text.
fn texts_of(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Problem> {
    let checked = |value: &Spanned<DeValue<'_>>| {
        let at = value.span().start;
        let text = text_of(value.get_ref()).map_err(|problem| (at, problem))?;
        (setting.check)(&text).map_err(|problem| (at, problem))?;
        Ok(text)
    };
    match value.get_ref() {
        DeValue::Array(values) if setting.shape == super::Shape::List => {
            values.iter().map(checked).collect()
        }
        DeValue::Array(_) => Err((value.span().start, "it is one value, and no list".to_owned())),
        _ => Ok(vec![checked(value)?]),
    }
}

/// The text of a value, as a flag would have it.
fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    Ok(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match number.radix() {
            10 => number.as_str().to_owned(),
            radix => {
                let read = i64::from_str_radix(number.as_str(), radix);
                read.map_err(|_| "it is too large".to_owned())?.to_string()
            }
        },
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Table(rule) => rule_of(rule)?,
        DeValue::Array(_) => return Err("a list does not belong here".to_owned()),
    })
}

/// A rule of topics that is written as a table, as a flag would have it.
fn rule_of(rule: &DeTable<'_>) -> Result<String, String> {
    let mut parts = Vec::new();
    flatten(rule, "", &mut parts)?;
    let mut take = |name: &str| {
        let at = parts.iter().position(|(key, _)| key == name)?;
        Some(parts.remove(at).1)
    };
    let pattern = take("pattern").ok_or("a rule of topics needs its pattern, as \"room.>\"")?;
    let kind = take("kind").unwrap_or_else(|| "memory".to_owned());
    let others = parts.into_iter().map(|(key, value)| format!(",{key}={value}"));
    Ok(format!("{pattern}={kind}{}", others.collect::<String>()))
}

fn flatten(
    table: &DeTable<'_>,
    prefix: &str,
    parts: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (key, value) in table {
        let key = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => flatten(inner, &format!("{key}."), parts)?,
            value => {
                let text = text_of(value)?;
                if text.contains([',', '=']) {
                    return Err(format!("{key}: {text:?} has a comma, or a ="));
                }
                parts.push((key, text));
            }
        }
    }
    Ok(())
}
