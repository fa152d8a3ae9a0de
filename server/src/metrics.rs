//! Figures for Prometheus: all that is counted, as text.
//!
//! No label has what a user says: neither topics nor routes nor names.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rsock::{
    Beginning, Ended, Error, Figure, FigureKind, Observe, ObserveRequest, Outcome,
    frame::Interaction,
    proto::{ErrorCode, Side},
};

use crate::{access::AccessFigures, app::App, logging::lines_left_out};

/// The upper ends of the buckets of times, in microseconds, and how they are written.
const BUCKETS: [(u64, &str); 16] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (15_000_000, "15"),
    (60_000_000, "60"),
];

/// How often something took how long.
#[derive(Debug, Default)]
struct Histogram {
    /// One for each of [`BUCKETS`], and for what took longer.
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|(most, _)| *most < micros);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }
}

/// The outcomes of a request, as labels.
const OUTCOMES: [&str; 6] = ["ok", "app_error", "rejected", "canceled", "invalid", "lost"];

/// The requests of one interaction.
#[derive(Debug, Default)]
struct OfInteraction {
    seconds: Histogram,
    first_item_seconds: Histogram,
    /// By [`OUTCOMES`].
    outcomes: [AtomicU64; OUTCOMES.len()],
}

impl ObserveRequest for OfInteraction {
    fn first_item(&self, after: Duration) {
        self.first_item_seconds.add(after);
    }

    fn end(&self, end: &Ended<'_>) {
        self.seconds.add(end.duration);
        let outcome = match end.outcome {
            Outcome::Completed => 0,
            Outcome::Failed(Error::Rejected(_)) => 2,
            Outcome::Cancelled => 3,
            Outcome::Failed(error) if error.code() == ErrorCode::INVALID => 4,
            Outcome::Failed(_) => 1,
            Outcome::Lost => 5,
        };
        self.outcomes[outcome].fetch_add(1, Relaxed);
    }
}

/// The interactions, as labels.
const INTERACTIONS: [(Interaction, &str); 4] = [
    (Interaction::RequestResponse, "request_response"),
    (Interaction::FireAndForget, "fire_and_forget"),
    (Interaction::RequestStream, "request_stream"),
    (Interaction::RequestChannel, "request_channel"),
];

/// Counts the requests that peers ask, by interaction and outcome, and how long they take.
#[derive(Clone, Debug)]
pub(crate) struct Requests([Arc<OfInteraction>; INTERACTIONS.len()]);

impl Default for Requests {
    fn default() -> Self {
        Self(INTERACTIONS.map(|_| Arc::default()))
    }
}

impl Observe for Requests {
    fn begin(&self, request: &Beginning<'_>) -> Option<Arc<dyn ObserveRequest>> {
        if request.by() != Side::Peer {
            return None;
        }
        let of = INTERACTIONS.iter().position(|(of, _)| Some(*of) == request.interaction())?;
        Some(Arc::clone(&self.0[of]) as Arc<dyn ObserveRequest>)
    }
}

/// The forms of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Version 0.0.4 of Prometheus's own.
    Prometheus,
    /// Version 1.0.0 of OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The one that an Accept header asks for.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The type of its content.
    pub(crate) fn mime(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A text of metrics in the making.
struct Text {
    out: String,
    format: Format,
}

impl Text {
    /// Begins a metric, whose samples follow.
    fn begin(&mut self, name: &str, help: &str, kind: &str) {
        // A counter's name ends with _total; OpenMetrics has that of the samples alone.
        let family = match self.format {
            Format::Prometheus => name,
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        let _ = writeln!(self.out, "# HELP {family} {help}.\n# TYPE {family} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.out, "{name}{braces} {value}");
    }

    /// A metric of one sample.
    fn figure(&mut self, section: &str, figure: &Figure) {
        let Figure { name, help, value, kind } = figure;
        let (suffix, kind) = match kind {
            FigureKind::Counter => ("_total", "counter"),
            FigureKind::Gauge => ("", "gauge"),
        };
        let name = format!("rsockd_{section}{name}{suffix}");
        self.begin(&name, help, kind);
        self.sample(&name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.begin(name, help, "gauge");
        self.sample(name, "", value);
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let mut below = 0;
        let ends = BUCKETS.iter().map(|(_, end)| *end).chain(["+Inf"]);
        for (end, count) in ends.zip(&histogram.counts) {
            below += count.load(Relaxed);
            self.sample(&format!("{name}_bucket"), &format!("{labels},le=\"{end}\""), below);
        }
        let seconds = Duration::from_micros(histogram.micros.load(Relaxed)).as_secs_f64();
        self.sample(&format!("{name}_sum"), labels, seconds);
        self.sample(&format!("{name}_count"), labels, below);
    }
}

/// All figures of a service.
pub(crate) fn text(app: &App, format: Format) -> String {
    let mut text = Text { out: String::with_capacity(32 << 10), format };
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    text.begin("rsockd_build_info", "The version that runs", "gauge");
    text.sample("rsockd_build_info", version, 1);
    text.gauge("rsockd_uptime_seconds", "Seconds since it started", app.uptime_seconds());
    text.gauge(
        "rsockd_draining",
        "Whether it is stopping, and takes nothing new",
        app.is_draining().into(),
    );
    for figure in app.meter().read().each() {
        text.figure("", &figure);
    }
    let memory = [("max", app.memory().max()), ("used", app.memory().used())];
    text.begin(
        "rsockd_memory_bytes",
        "Memory that connections may hold together, and hold",
        "gauge",
    );
    for (of, bytes) in memory {
        text.sample("rsockd_memory_bytes", &format!("of=\"{of}\""), bytes);
    }
    requests(&mut text, app.requests());
    reloads(&mut text, app);
    if let Some(access) = app.access() {
        who_came(&mut text, &access.figures());
    }
    cores(&mut text, &app.connections_by_runtime());
    topics(&mut text, app);
    let name = "rsockd_fire_and_forget_total";
    text.begin(name, "Fire-and-forget requests that the route echo has taken", "counter");
    text.sample(name, "", app.fire_and_forget());
    let name = "rsockd_log_lines_left_out_total";
    text.begin(name, "Lines of the log that stderr did not take in time", "counter");
    text.sample(name, "", lines_left_out());
    if format == Format::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

fn requests(text: &mut Text, requests: &Requests) {
    let all = || INTERACTIONS.iter().map(|(_, label)| *label).zip(&requests.0);
    let name = "rsockd_requests_total";
    text.begin(name, "Requests of clients that have ended, by interaction and outcome", "counter");
    for (label, of) in all() {
        for (outcome, count) in OUTCOMES.iter().zip(&of.outcomes) {
            let labels = format!("interaction=\"{label}\",outcome=\"{outcome}\"");
            text.sample(name, &labels, count.load(Relaxed));
        }
    }
    let name = "rsockd_request_seconds";
    text.begin(name, "Seconds from the beginning of a request to its end", "histogram");
    for (label, of) in all() {
        text.histogram(name, &format!("interaction=\"{label}\""), &of.seconds);
    }
    let name = "rsockd_first_item_seconds";
    text.begin(name, "Seconds from the beginning of a stream to its first item", "histogram");
    for (label, of) in
        all().filter(|(label, _)| label.ends_with("stream") || label.ends_with("channel"))
    {
        text.histogram(name, &format!("interaction=\"{label}\""), &of.first_item_seconds);
    }
}

/// Settings and certificates that were read anew.
fn reloads(text: &mut Text, app: &App) {
    let name = "rsockd_config_reloads_total";
    text.begin(name, "Times that settings were read anew, by what came of it", "counter");
    for (result, count) in app.reloads().counts() {
        text.sample(name, &format!("result=\"{result}\""), count);
    }
    text.gauge(
        "rsockd_config_last_reload_success",
        "Whether settings could be read when they were read last",
        app.reloads().is_well().into(),
    );
    let Some(certificates) = app.certificates() else { return };
    let name = "rsockd_tls_reloads_total";
    text.begin(name, "Times that the files of TLS were read anew, by what came of it", "counter");
    for (result, count) in certificates.reloads().counts() {
        text.sample(name, &format!("result=\"{result}\""), count);
    }
    let name = "rsockd_tls_not_after_seconds";
    text.begin(name, "The ends of the certificates, in seconds since 1970", "gauge");
    for (index, end) in certificates.ends().enumerate() {
        text.sample(name, &format!("certificate=\"{}\"", index + 1), end);
    }
}

/// Those who came in, and what was not permitted.
fn who_came(text: &mut Text, figures: &AccessFigures) {
    let name = "rsockd_access_accepted_total";
    text.begin(name, "Times somebody was let in, or their request, by what they showed", "counter");
    for (method, accepted, _) in figures.by_method {
        text.sample(name, &format!("method=\"{method}\""), accepted);
    }
    let name = "rsockd_access_failed_total";
    text.begin(name, "Times somebody was not who they said, by what they showed", "counter");
    for (method, _, failed) in figures.by_method {
        text.sample(name, &format!("method=\"{method}\""), failed);
    }
    let counters = [
        ("busy", "Passwords that were not looked at because too many waited", figures.busy),
        ("slowed", "Attempts that waited because others of theirs had failed", figures.slowed),
        ("denied", "Things that were asked for and not permitted", figures.denied),
        ("expired", "Sessions that ended because their token did", figures.expired),
        ("noticed", "Clients that were told that their token expires soon", figures.noticed),
    ];
    for (what, help, count) in counters {
        let name = format!("rsockd_access_{what}_total");
        text.begin(&name, help, "counter");
        text.sample(&name, "", count);
    }
    text.gauge(
        "rsockd_access_sessions",
        "Connections, and requests with credentials of their own, of whom it is known who they are",
        figures.sessions as u64,
    );
}

/// How connections are shared out, with a runtime for each core.
fn cores(text: &mut Text, cores: &[(usize, usize)]) {
    if cores.is_empty() {
        return;
    }
    let name = "rsockd_core_open_connections";
    text.begin(name, "Connections there are, by the core that serves them", "gauge");
    for (core, (open, _)) in cores.iter().enumerate() {
        text.sample(name, &format!("core=\"{core}\""), open);
    }
    let name = "rsockd_core_connections_total";
    text.begin(name, "Connections there have been, by the core that served them", "counter");
    for (core, (_, total)) in cores.iter().enumerate() {
        text.sample(name, &format!("core=\"{core}\""), total);
    }
}

fn topics(text: &mut Text, app: &App) {
    let figures = app.topics().figures();
    for figure in figures.each() {
        text.figure("topic_", &figure);
    }
    let name = "rsockd_topic_refused_total";
    text.begin(name, "Refusals of topics, by reason", "counter");
    for (reason, count) in figures.refused {
        text.sample(name, &format!("reason=\"{}\"", reason.replace([' ', '-'], "_")), count);
    }
    let Some(disk) = app.topics().store_figures() else { return };
    text.gauge(
        "rsockd_disk_bytes",
        "Bytes of all files of durable topics, and of what goes there",
        disk.bytes,
    );
    let waiting = disk.waiting_bytes as u64;
    text.gauge("rsockd_disk_waiting_bytes", "Bytes of messages that wait for the disk", waiting);
    let files = disk.waiting_files as u64;
    text.gauge(
        "rsockd_disk_waiting_files",
        "Full files of the journal that are not free yet",
        files,
    );
    let known = disk.known_bytes as u64;
    text.gauge(
        "rsockd_disk_known_bytes",
        "Memory that it takes to know durable topics and their files",
        known,
    );
    let refuses = disk.refusal.is_some().into();
    text.gauge(
        "rsockd_disk_refuses",
        "Whether durable topics take no messages: the disk is full, or failed",
        refuses,
    );
    let name = "rsockd_disk_damaged_reads_total";
    text.begin(name, "Reads that met what is not what was written there", "counter");
    text.sample(name, "", disk.damaged_reads);
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rsock::MemoryBudget;
    use rsock_topics::{Service, Settings};

    use super::*;
    use crate::{app::app_on, topics::LocalAdmin};

    /// A reader of the text that knows no more than the format: samples by name and labels.
    fn read(text: &str) -> BTreeMap<(String, String), f64> {
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let mut family = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a text");
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                assert!(text.ends_with('.') && !text.ends_with(".."), "{help}");
                family.0 = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                assert_eq!(name, family.0);
                family.1 = kind.to_owned();
            } else if line != "# EOF" {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
                let suffix = name.strip_prefix(&family.0).expect("of its family");
                match family.1.as_str() {
                    "histogram" => {
                        assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}")
                    }
                    "counter" => assert!(name.ends_with("_total"), "{line}"),
                    _ => assert_eq!(suffix, "", "{line}"),
                }
                let allowed =
                    |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
                assert!(name.starts_with("rsockd_") && name.chars().all(allowed), "{name}");
                let labels = labels.strip_suffix('}').expect("closed").to_owned();
                let value = value.parse().expect("a number");
                assert_eq!(samples.insert((name.to_owned(), labels), value), None, "{line}");
            }
        }
        samples
    }

    #[tokio::test]
    async fn each_figure_is_told_once_in_both_formats() {
        let topics = Service::with_permit(Settings::default(), LocalAdmin::default());
        let (app, _) = app_on(Arc::default(), MemoryBudget::of_process(), None, &topics, None);
        let formats = [Format::Prometheus, Format::OpenMetrics];
        let [plain, open] = formats.map(|format| text(&app, format));
        let samples = read(&plain);
        assert_eq!(samples.keys().collect::<Vec<_>>(), read(&open).keys().collect::<Vec<_>>());
        assert!(open.ends_with("# EOF\n") && !plain.contains("EOF"));
        for figure in app.meter().read().each() {
            let total = if figure.kind == FigureKind::Counter { "_total" } else { "" };
            let name = (format!("rsockd_{}{total}", figure.name), String::new());
            assert_eq!(samples.get(&name), Some(&(figure.value as f64)), "{name:?}");
        }
    }

    #[test]
    fn each_figure_of_access_is_told() {
        let figures = AccessFigures {
            accepted: 3,
            failed: 4,
            busy: 5,
            slowed: 6,
            denied: 7,
            expired: 8,
            noticed: 9,
            sessions: 10,
            by_method: [
                ("a", 1, 2),
                ("b", 2, 2),
                ("c", 0, 0),
                ("d", 0, 0),
                ("e", 0, 0),
                ("f", 0, 0),
            ],
        };
        let mut text = Text { out: String::new(), format: Format::Prometheus };
        who_came(&mut text, &figures);
        let samples = read(&text.out);
        let told = serde_json::to_value(&figures).expect("numbers");
        for (name, value) in told.as_object().expect("an object") {
            let of = |(known, _): &&(String, String)| {
                known.strip_suffix("_total").unwrap_or(known) == format!("rsockd_access_{name}")
            };
            let sum: f64 = samples.keys().filter(of).map(|key| samples[key]).sum();
            assert_eq!(Some(sum), value.as_f64(), "{name}");
        }
    }

    #[test]
    fn times_are_counted_in_the_bucket_whose_end_they_reach() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let mut text = Text { out: String::new(), format: Format::Prometheus };
        text.histogram("rsockd_x_seconds", "a=\"b\"", &histogram);
        for line in [
            "rsockd_x_seconds_bucket{a=\"b\",le=\"0.0001\"} 2",
            "rsockd_x_seconds_bucket{a=\"b\",le=\"0.00025\"} 3",
            "rsockd_x_seconds_bucket{a=\"b\",le=\"15\"} 3",
            "rsockd_x_seconds_bucket{a=\"b\",le=\"60\"} 4",
            "rsockd_x_seconds_bucket{a=\"b\",le=\"+Inf\"} 5",
            "rsockd_x_seconds_sum{a=\"b\"} 120.000202",
            "rsockd_x_seconds_count{a=\"b\"} 5",
        ] {
            assert!(text.out.lines().any(|told| told == line), "{line}: {}", text.out);
        }
    }

    #[test]
    fn the_form_is_the_one_that_is_accepted() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }
}
