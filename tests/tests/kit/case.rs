//! Reading the case files: `case NAME`, then one thing a line that is served, done or seen.

use rsock::Payload;

/// A case, and where its lines stand.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<(usize, Step)>,
}

impl Case {
    /// Whether its line has to be one that can be cut.
    pub(crate) fn cuts(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Cut))
    }
}

/// One step of a case.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `serve KIND REQUEST with …`
    Serve { kind: String, request: Payload, script: Script },
    /// `ask|stream|channel NAME REQUEST …`
    Open { kind: String, name: String, script: Script },
    /// `request NAME N`
    Request(String, u32),
    /// `drop NAME`
    Drop(String),
    /// `tell PAYLOAD`
    Tell(Payload),
    /// `push METADATA`
    Push(String),
    /// `NAME has N`
    Has(String, usize),
    /// `NAME got PAYLOAD…`
    Got(String, Vec<Payload>),
    /// `NAME gets no more`
    NoMore(String),
    /// `NAME ends`
    Ends(String),
    /// `NAME fails with ERROR`
    Fails(String, String),
    /// `server saw LINE`, `server let go of KIND REQUEST`
    Saw(String),
    /// `cut the line`
    Cut,
    /// `mend the line`
    Mend,
}

/// Items, and what comes behind them.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) items: Vec<Payload>,
    pub(crate) end: End,
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    Complete,
    Error(String),
    Silence,
    /// Gives back what comes.
    Echo,
}

/// `data`, `data/metadata`; either may be empty, and without the `/` there is no metadata.
pub(crate) fn payload(word: &str) -> Payload {
    match word.split_once('/') {
        None => Payload::new(word.to_owned()),
        Some((data, metadata)) => Payload::new(data.to_owned()).with_metadata(metadata.to_owned()),
    }
}

/// As `payload` reads it.
pub(crate) fn word(payload: &Payload) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let data = text(&payload.data);
    match &payload.metadata {
        None => data,
        Some(metadata) => format!("{data}/{}", text(metadata)),
    }
}

fn payloads(words: &[&str]) -> Vec<Payload> {
    match words {
        ["nothing"] => Vec::new(),
        words => words.iter().map(|word| payload(word)).collect(),
    }
}

/// `[ITEM…] [then end|silence|error TEXT]`, `error TEXT`, `silence`, `echo`; complete if not said.
fn script(words: &[&str]) -> Option<Script> {
    let starts_end = |word: &&str| matches!(*word, "then" | "error" | "silence" | "echo");
    let at = words.iter().position(starts_end).unwrap_or(words.len());
    let (items, end) = words.split_at(at);
    let end = match end {
        [] | ["then", "end"] => End::Complete,
        ["then", "silence"] | ["silence"] => End::Silence,
        ["then", "error", text @ ..] | ["error", text @ ..] => End::Error(text.join(" ")),
        ["echo"] => End::Echo,
        _ => return None,
    };
    Some(Script { items: payloads(items), end })
}

fn step(line: &str) -> Option<Step> {
    let words: Vec<_> = line.split_whitespace().collect();
    let own = |word: &str| word.to_owned();
    Some(match words[..] {
        ["serve", kind, request, "with", ref rest @ ..] => {
            Step::Serve { kind: own(kind), request: payload(request), script: script(rest)? }
        }
        [kind @ ("ask" | "stream" | "channel"), name, ref rest @ ..] => {
            Step::Open { kind: own(kind), name: own(name), script: script(rest)? }
        }
        ["request", name, n] => Step::Request(own(name), n.parse().ok()?),
        ["drop", name] => Step::Drop(own(name)),
        ["tell", told] => Step::Tell(payload(told)),
        ["push", metadata] => Step::Push(own(metadata)),
        ["server", "saw", ref rest @ ..] => Step::Saw(rest.join(" ")),
        ["server", "let", "go", "of", ref rest @ ..] => {
            Step::Saw(format!("dropped {}", rest.join(" ")))
        }
        ["cut", "the", "line"] => Step::Cut,
        ["mend", "the", "line"] => Step::Mend,
        [name, "has", n] => Step::Has(own(name), n.parse().ok()?),
        [name, "got", ref rest @ ..] => Step::Got(own(name), payloads(rest)),
        [name, "gets", "no", "more"] => Step::NoMore(own(name)),
        [name, "ends"] => Step::Ends(own(name)),
        [name, "fails", "with", ref rest @ ..] => Step::Fails(own(name), rest.join(" ")),
        _ => return None,
    })
}

/// The cases of a file. What cannot be read fails the test that reads it.
pub(crate) fn read(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case { name: name.to_owned(), steps: Vec::new() });
            continue;
        }
        let case = cases.last_mut();
        match (case, step(line)) {
            (Some(case), Some(step)) => case.steps.push((number, step)),
            _ => panic!("{file}:{number}: nothing a case can say: {line:?}"),
        }
    }
    assert!(!cases.is_empty(), "{file} has no case");
    cases
}
