//! `status`: how the service is.

use futures_util::StreamExt;
use rsock::{Json, MethodRoute, request_response};
use serde::Serialize;

use super::{Every, JsonOptions, ticks::Ticks};
use crate::{app::App, logging::lines_left_out};

pub(super) fn status() -> MethodRoute<App> {
    request_response(async |app: App, (): ()| Json(Status::of(&app)))
        .request_stream(|app: App, JsonOptions(Every { interval_ms })| {
            Ticks::every(interval_ms).map(move |_| Json(Status::of(&app)))
        })
        .about(
            "the figures of the service as JSON; a stream tells them each {\"interval_ms\":1000}",
        )
}

/// Figures since the start, over all connections; `open` ones are those of now.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    uptime_seconds: u64,
    connections: Connections,
    memory: Memory,
    sessions: Sessions,
    streams: Streams,
    requests: Requests,
    leases: Leases,
    fire_and_forget: FireAndForget,
    items: InOut,
    frames: Frames,
    bytes: InOut,
    credit_stalls: u64,
    dropped: Dropped,
    log: Log,
}

#[derive(Debug, Serialize)]
struct Connections {
    open: u64,
    total: u64,
    /// Times one more came while there were as many as there may be.
    full: u64,
    /// Times the system did not give one that had come, as when files have run out.
    failed_accepts: u64,
    /// Those of them that were refused.
    refused: u64,
    /// Closed before anyone had accepted them, for others to be heard.
    turned_away: u64,
    violations: u64,
    setup_timeouts: u64,
    handshake_timeouts: u64,
    keepalive_timeouts: u64,
    /// Times a client was not read from because it did not read.
    paused_reads: u64,
    /// With a runtime for each core, how they are shared out among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cores: Vec<Core>,
}

/// What connections hold for their peers, and what followed from it.
#[derive(Debug, Serialize)]
struct Memory {
    /// Bytes they may hold together.
    max: usize,
    /// Bytes they hold.
    used: usize,
    /// Requests refused and fragmented payloads given up because a connection held its share.
    refused: u64,
    /// Times a long frame waited for memory.
    paused: u64,
    /// Times a connection was not read because too much waited for its handlers.
    paused_for_handlers: u64,
    /// Streams that failed because of that.
    given_up_streams: u64,
    /// Connections ended because memory was short and they took nothing.
    ended: u64,
    /// Frames and payloads given up because no more of them came.
    stalled_parts: u64,
}

#[derive(Debug, Serialize)]
struct Core {
    open: usize,
    total: usize,
}

#[derive(Debug, Serialize)]
struct Sessions {
    suspended: u64,
    resumed: u64,
    /// Connections given up for bytes that were no frames, whose session stayed.
    broken_transports: u64,
    /// There were as many as there may be, in all or of one address.
    refused: u64,
    /// Ended for others.
    evicted: u64,
    replayed_frames: u64,
    /// Times frames were dropped that a resume might have asked for.
    overflows: u64,
}

#[derive(Debug, Serialize)]
struct Streams {
    open: u64,
    credit_violations: u64,
    /// Fragmented payloads given up.
    refused_payloads: u64,
}

#[derive(Debug, Serialize)]
struct Requests {
    received: u64,
    refused: u64,
    beyond_lease: u64,
}

/// Among whom leases share the room, and what they use of it.
#[derive(Debug, Serialize)]
struct Leases {
    connections: u64,
    running: u64,
}

#[derive(Debug, Serialize)]
struct FireAndForget {
    taken: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct InOut {
    r#in: u64,
    out: u64,
}

#[derive(Debug, Serialize)]
struct Frames {
    r#in: u64,
    out: u64,
    ignored: u64,
}

#[derive(Debug, Serialize)]
struct Dropped {
    /// Errors of which the text was too long to be kept whole.
    error_texts: u64,
    keepalive_replies: u64,
    metadata_pushes: u64,
}

#[derive(Debug, Serialize)]
struct Log {
    /// Lines that stderr did not take in time.
    lines_left_out: u64,
    /// Warnings about peers beyond what is logged of them.
    warnings_left_out: u64,
}

impl Status {
    fn of(app: &App) -> Self {
        let reading = app.meter().read();
        let stats = reading.stats;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: app.uptime_seconds(),
            connections: Connections {
                open: reading.open_connections,
                total: reading.connections,
                full: reading.full,
                failed_accepts: reading.failed_accepts,
                refused: reading.refused_connections,
                turned_away: reading.evicted_newcomers,
                violations: stats.violations,
                setup_timeouts: stats.setup_timeouts,
                handshake_timeouts: reading.handshake_timeouts,
                keepalive_timeouts: stats.keepalive_timeouts,
                paused_reads: stats.paused_reads,
                cores: app
                    .connections_by_runtime()
                    .into_iter()
                    .map(|(open, total)| Core { open, total })
                    .collect(),
            },
            memory: Memory {
                max: app.memory().max(),
                used: app.memory().used(),
                refused: stats.refused_memory,
                paused: reading.paused_for_memory,
                paused_for_handlers: reading.paused_for_consumers,
                given_up_streams: reading.given_up_streams,
                ended: reading.ended_for_memory,
                stalled_parts: stats.stalled_parts,
            },
            sessions: Sessions {
                suspended: reading.suspended_sessions,
                resumed: stats.resumes,
                broken_transports: stats.broken_transports,
                refused: reading.refused_sessions,
                evicted: reading.evicted_sessions,
                replayed_frames: stats.replayed_frames,
                overflows: stats.retention_overflows,
            },
            streams: Streams {
                open: reading.open_streams,
                credit_violations: stats.credit_violations,
                refused_payloads: stats.refused_assemblies,
            },
            requests: Requests {
                received: stats.requests_in,
                refused: stats.refused_streams + stats.refused_request_bytes + stats.refused_memory,
                beyond_lease: stats.refused_leases,
            },
            leases: Leases {
                connections: reading.leased_connections,
                running: reading.leased_requests,
            },
            fire_and_forget: FireAndForget {
                taken: app.fire_and_forget(),
                dropped: stats.dropped_fire_and_forget,
            },
            items: InOut { r#in: stats.items_in, out: stats.items_out },
            frames: Frames {
                r#in: stats.frames_in,
                out: stats.frames_out,
                ignored: stats.ignored_unknown_stream
                    + stats.ignored_out_of_place
                    + stats.ignored_on_request,
            },
            bytes: InOut { r#in: stats.bytes_in, out: stats.bytes_out },
            credit_stalls: stats.credit_stalls,
            dropped: Dropped {
                error_texts: stats.cut_error_texts,
                keepalive_replies: stats.dropped_keepalive_replies,
                metadata_pushes: reading.dropped_pushes,
            },
            log: Log {
                lines_left_out: lines_left_out(),
                warnings_left_out: reading.warnings_left_out,
            },
        }
    }
}
