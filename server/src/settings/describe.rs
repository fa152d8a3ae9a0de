//! Settings in words: as a file to begin with, as a page, as a schema, and as they are.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{Loaded, Options, Reload, Setting, Shape, Source, table::SETTINGS};
use crate::reload::InForce;

impl Reload {
    fn text(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::NewConnections => "for new connections",
            Self::Restart => "at the next start",
        }
    }
}

/// Values as TOML writes them, which has the strings of JSON.
fn toml_of(setting: &Setting, texts: &[String]) -> String {
    let one = |text: &String| {
        let is_bare = setting.is_number || setting.shape == Shape::Switch;
        if is_bare { text.clone() } else { Value::from(text.as_str()).to_string() }
    };
    match setting.shape {
        Shape::List => format!("[{}]", texts.iter().map(one).collect::<Vec<_>>().join(", ")),
        Shape::One | Shape::Maybe | Shape::Switch => texts.iter().map(one).collect(),
    }
}

/// An example of a value, for a setting that has none.
fn example(setting: &Setting) -> &'static str {
    match setting.value {
        "MODE" => "0660",
        "FILE" => "/etc/rsockd/tls.pem",
        "ADDRESS" => "http://127.0.0.1:9090",
        "NETWORK" => "10.0.0.0/8",
        "ORIGIN" => "https://app.example",
        "HOST" => "chat.example",
        "BYTES" => "1048576",
        "OWNER" => "1000:1000",
        "SIZE" => "2GiB",
        "DIR" => "/var/lib/rsockd",
        "RULE" => "orders.>=durable,age=7d",
        _ => "100",
    }
}

/// The defaults, as a file that says what each is for.
pub(super) fn default_file() -> String {
    let defaults = Options::default();
    let mut out = "# Settings of rsockd. What stands here as a comment is the default, or an example where \
                   there is none.\n# A flag wins over the environment, and that over this file. SIGHUP reads \
                   it anew.\n"
        .to_owned();
    for setting in SETTINGS {
        out.push('\n');
        for line in setting.about {
            let _ = writeln!(out, "#{line}");
        }
        let _ = writeln!(out, "# Acts {}.", setting.reload.text());
        let mut texts = (setting.show)(&defaults);
        let is_example = texts.is_empty();
        if is_example {
            texts = vec![example(setting).to_owned()];
        }
        let note = if is_example { "  # by default none" } else { "" };
        let _ = writeln!(out, "#{} = {}{note}", setting.key, toml_of(setting, &texts));
    }
    out.push_str(SECTIONS);
    out
}

/// The sections of a file to begin with. They stand behind the keys, as TOML has it.
const SECTIONS: &str = r#"
# Who comes in, and who may do what; without it nobody is asked. See docs/security.md.
#[auth]
#anonymous = ["guest"]  # the roles of who says nothing of themselves; without it all must authenticate
#[auth.users]
#file = "users"         # made by rsockd user add; beside this file
#[[grant]]
#roles = ["guest", "chat"]
#routes = ["echo", "clock"]
#[[grant]]
#roles = ["chat"]
#topics = ["room.*", "user.{name}.>"]
#allow = ["subscribe", "publish", "join", "presence", "history"]
#[[deny]]
#roles = ["chat"]
#topics = ["room.staff"]
"#;

/// The page of documentation.
pub(super) fn page() -> String {
    let defaults = Options::default();
    let mut out = PAGE.to_owned();
    for setting in SETTINGS {
        let texts = (setting.show)(&defaults);
        let default = match (texts.is_empty(), setting.shape) {
            (true, _) => "none".to_owned(),
            (false, Shape::List) => format!("`{}`", toml_of(setting, &texts)),
            (false, _) => texts.iter().map(|text| format!("`{text}`")).collect(),
        };
        let Setting { key, flag, reload, .. } = setting;
        let value = match setting.shape {
            Shape::Switch => String::new(),
            Shape::One | Shape::Maybe | Shape::List => format!(" {}", setting.value),
        };
        let (variable, about) = (setting.variable(), setting.text());
        let _ = write!(
            out,
            "\n### `{key}`\n\n{about}.\n\n`--{flag}{value}` · `{variable}` · default: {default} · acts {}\n",
            reload.text()
        );
    }
    out
}

const PAGE: &str = "\
# Configuration

<!-- Written by `rsockd config doc`: a test compares it. -->

Each setting of `rsockd` is a key of a TOML file, a variable and a flag, with one name and one form. The file is the one that
`--config FILE` or `RSOCKD_CONFIG` names, else `/etc/rsockd/rsockd.toml` if it is there. The strongest source wins: the default, the file,
the environment, a flag. An empty variable is none; lists are written with commas in it, or as a JSON array.

| | |
|---|---|
| `rsockd config check` | reads all of it as a start would, and says what is wrong, each with its place; exit code 78 if something is |
| `rsockd config show` | the settings as they are, with where each comes from |
| `rsockd config default` | a file to begin with: all settings, as comments |
| `rsockd config schema` | a JSON schema, for editors |
| `rsockd config doc` | this page |

A key, or a variable that begins with `RSOCKD_`, that is none of these is an error, with the nearest one as a hint. A variable with `_FILE` at its
end names a file that has the value, as secrets come to containers: `RSOCKD_MAX_STREAMS_FILE=/run/secrets/streams`.

The sections `[auth]`, `[[grant]]` and `[[deny]]`, behind the keys, say who comes in and who may do what ([security.md](security.md)); instead of them `access`
may name a file that has them.

**Reading it anew.** SIGHUP (`systemctl reload rsockd`) reads file and environment again. If anything is wrong nothing is changed, and the
log says what: of certificates and of who may do what as well. Otherwise all of it changes in one step: some settings act at once, limits of connections for new connections,
and for the others the log says that they take a restart.

A TIME is written as `500ms`, `10s`, `5m`, `1h` or `1h 30m`, a number alone is seconds; a SIZE as `500MB` or `2GiB`.

## Settings
";

/// A JSON schema of the file.
pub(super) fn schema() -> String {
    let defaults = Options::default();
    let mut properties: Map<String, Value> = SETTINGS
        .iter()
        .map(|setting| {
            let one = if setting.is_number {
                json!({ "type": "integer", "minimum": 0 })
            } else if setting.shape == Shape::Switch {
                json!({ "type": "boolean" })
            } else if setting.value == "TIME" {
                json!({ "type": ["string", "integer"] })
            } else if setting.value == "RULE" {
                json!({ "type": ["string", "object"] })
            } else {
                json!({ "type": "string" })
            };
            let mut schema = match setting.shape {
                Shape::List => json!({ "type": "array", "items": one }),
                Shape::One | Shape::Maybe | Shape::Switch => one,
            };
            schema["description"] = setting.text().into();
            let texts = (setting.show)(&defaults);
            let default = |text: &String| match text.parse::<u64>() {
                Ok(number) if setting.is_number => Value::from(number),
                _ => Value::from(text.as_str()),
            };
            match setting.shape {
                Shape::List => schema["default"] = texts.iter().map(default).collect(),
                Shape::One => schema["default"] = texts.iter().map(default).next().into(),
                Shape::Switch => schema["default"] = (texts == ["true"]).into(),
                Shape::Maybe => {}
            }
            (setting.key.to_owned(), schema)
        })
        .collect();
    let rules = json!({ "type": "array", "items": { "type": "object" } });
    let sections = [
        ("auth", json!({ "type": "object" }), "The ways in which somebody shows who they are"),
        ("grant", rules.clone(), "What some roles may do"),
        ("deny", rules, "What some roles may not do, whatever else grants it"),
    ];
    for (key, mut schema, about) in sections {
        schema["description"] = about.into();
        properties.insert(key.to_owned(), schema);
    }
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of rsockd",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    format!("{schema:#}\n")
}

/// The settings as they act, for a program: each with its default, where it comes from, and `next`, what its source says now
/// where that does not act yet. Without sources they are those of a program that the service runs in.
pub(crate) fn effective_json(acting: &Options, known: Option<&InForce>) -> Vec<Value> {
    let defaults = Options::default();
    let described = SETTINGS.iter().enumerate().map(|(at, setting)| {
        let shown = |options: &Options| json_of(setting, &(setting.show)(options));
        // What takes a restart acts as it was at the start.
        let of = known.map(|known| match setting.reload {
            Reload::Restart => &known.started,
            Reload::Live | Reload::NewConnections => &known.newest,
        });
        let source = of.and_then(|loaded| loaded.sources.get(at));
        let value = match setting.reload {
            Reload::Restart => shown(acting),
            Reload::Live | Reload::NewConnections => shown(of.map_or(acting, |of| &of.options)),
        };
        let mut described = json!({
            "name": setting.key,
            "value": value,
            "default": shown(&defaults),
            "source": source.map_or("program", Source::kind),
            "line": source.and_then(Source::line),
            "reload": match setting.reload {
                Reload::Live => "live",
                Reload::NewConnections => "new-connections",
                Reload::Restart => "restart",
            },
            "about": setting.text(),
        });
        if let (Some(of), Some(fresh)) = (of, known.and_then(|known| known.fresh.as_ref()))
            && (setting.show)(&of.options) != (setting.show)(&fresh.options)
        {
            described["next"] = shown(&fresh.options);
        }
        described
    });
    described.collect()
}

/// The values of a setting: a list, or one, or none.
fn json_of(setting: &Setting, texts: &[String]) -> Value {
    let one = |text: &String| match setting.shape {
        Shape::Switch => Value::from(text == "true"),
        _ => match text.parse::<u64>() {
            Ok(number) if setting.is_number => Value::from(number),
            _ => Value::from(text.as_str()),
        },
    };
    match setting.shape {
        Shape::List => texts.iter().map(one).collect(),
        Shape::One | Shape::Maybe | Shape::Switch => texts.first().map(one).into(),
    }
}

/// The settings as they are, with where each comes from.
pub(super) fn effective(loaded: &Loaded) -> String {
    let file = loaded.file.as_ref().map(|file| format!("# file: {}\n", file.display()));
    let mut out = file.unwrap_or_else(|| "# no file\n".to_owned());
    for (setting, source) in SETTINGS.iter().zip(&loaded.sources) {
        let texts = (setting.show)(&loaded.options);
        let line = match (texts.is_empty(), setting.shape) {
            (true, Shape::One | Shape::Maybe | Shape::Switch) => format!("#{} =", setting.key),
            _ => format!("{} = {}", setting.key, toml_of(setting, &texts)),
        };
        let _ = writeln!(out, "{line}  # {source}");
    }
    out
}
