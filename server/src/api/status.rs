//! `status`: how the service is.

use futures_util::StreamExt;
use rsock::{Json, MeterReading, MethodRoute, request_response};
use rsock_topics::{TopicFigures, store::StoreFigures};
use serde::Serialize;

use super::{Every, JsonOptions, ticks::Ticks};
use crate::{
    access::{Access, AccessFigures},
    app::App,
    logging::lines_left_out,
};

pub(super) fn status() -> MethodRoute<App> {
    request_response(async |app: App, (): ()| Json(status_of(&app)))
        .request_stream(|app: App, JsonOptions(Every { interval_ms })| {
            Ticks::every(interval_ms).map(move |_| Json(status_of(&app)))
        })
        .about(
            "the figures of the service as JSON; a stream tells them each {\"interval_ms\":1000}",
        )
}

fn status_of(app: &App) -> Status {
    Status::of(app, &app.meter().read())
}

/// Makes each section of the status a type that takes its figures from the service and its meter.
macro_rules! sections {
    ($app:ident, $reading:ident; $($(#[$about:meta])* $section:ident {
        $($(#[$attribute:meta])* $figure:ident: $type:ty = $value:expr;)*
    })*) => {$(
        $(#[$about])*
        #[derive(Debug, Serialize)]
        struct $section {
            $($(#[$attribute])* $figure: $type,)*
        }

        impl $section {
            #[allow(unused_variables, reason = "some sections need one of the two")]
            fn of($app: &App, $reading: &MeterReading) -> Self {
                Self { $($figure: $value,)* }
            }
        }
    )*};
}

sections! {
    app, reading;

    /// Figures since the start, over all connections; `open` ones are those of now.
    Status {
        version: &'static str = env!("CARGO_PKG_VERSION");
        uptime_seconds: u64 = app.uptime_seconds();
        connections: Connections = Connections::of(app, reading);
        proxies: Proxies = Proxies::of(app, reading);
        tls: Tls = Tls::of(app, reading);
        http: Http = Http::of(app, reading);
        memory: Memory = Memory::of(app, reading);
        sessions: Sessions = Sessions::of(app, reading);
        streams: Streams = Streams::of(app, reading);
        requests: Requests = Requests::of(app, reading);
        leases: Leases = Leases::of(app, reading);
        fire_and_forget: FireAndForget = FireAndForget::of(app, reading);
        items: Items = Items::of(app, reading);
        topics: TopicFigures = app.topics().figures();
        /// The data directory, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        disk: Option<StoreFigures> = app.topics().store_figures();
        frames: Frames = Frames::of(app, reading);
        bytes: Bytes = Bytes::of(app, reading);
        credit_stalls: u64 = reading.stats.credit_stalls;
        dropped: Dropped = Dropped::of(app, reading);
        log: Log = Log::of(app, reading);
        /// Figures of who came in and what was not permitted, where people are asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        access: Option<AccessFigures> = app.access().map(Access::figures);
    }

    Connections {
        open: u64 = reading.open_connections;
        total: u64 = reading.connections;
        full: u64 = reading.full;
        failed_accepts: u64 = reading.failed_accepts;
        refused: u64 = reading.refused_connections;
        turned_away: u64 = reading.evicted_newcomers;
        /// Of addresses that had as many as they may, or came too often.
        refused_addresses: u64 = reading.refused_addresses;
        violations: u64 = reading.stats.violations;
        setup_timeouts: u64 = reading.stats.setup_timeouts;
        handshake_timeouts: u64 = reading.handshake_timeouts;
        keepalive_timeouts: u64 = reading.stats.keepalive_timeouts;
        /// Times a client was not read from because it did not read.
        paused_reads: u64 = reading.stats.paused_reads;
        /// Times a client was not read for a while because more came than may.
        paused_for_rate: u64 = reading.paused_for_rate;
        /// With a runtime for each core, how they are shared out among them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        cores: Vec<Core> = cores(app);
    }

    /// Connections that came from no proxy that is trusted, or without its header.
    Proxies {
        refused: u64 = reading.refused_proxy_headers;
    }

    /// TLS handshakes of clients, and what became of them.
    Tls {
        handshakes: u64 = reading.tls_handshakes;
        failed: u64 = reading.failed_tls_handshakes;
        timeouts: u64 = reading.tls_handshake_timeouts;
    }

    /// Plain HTTP on the ports of WebSockets. Its connections are not among the others.
    Http {
        open: u64 = reading.open_http_connections;
        requests: u64 = reading.http_requests;
        refused: u64 = reading.refused_http_requests;
        /// Of pages of other sites, by names that are not known, or by proxies that nobody trusts.
        forbidden: u64 = reading.forbidden_http_requests;
        timeouts: u64 = reading.http_timeouts;
        evicted: u64 = reading.evicted_http_connections;
    }

    /// The memory that connections hold for their peers, and what followed from it.
    Memory {
        /// Bytes they may hold together.
        max: usize = app.memory().max();
        /// Bytes they hold.
        used: usize = app.memory().used();
        refused: u64 = reading.stats.refused_memory;
        paused: u64 = reading.paused_for_memory;
        paused_for_handlers: u64 = reading.paused_for_consumers;
        given_up_streams: u64 = reading.given_up_streams;
        ended: u64 = reading.ended_for_memory;
        stalled_parts: u64 = reading.stats.stalled_parts;
    }

    Sessions {
        suspended: u64 = reading.suspended_sessions;
        resumed: u64 = reading.stats.resumes;
        broken_transports: u64 = reading.stats.broken_transports;
        refused: u64 = reading.refused_sessions;
        refused_transports: u64 = reading.refused_transports;
        evicted: u64 = reading.evicted_sessions;
        replayed_frames: u64 = reading.stats.replayed_frames;
        overflows: u64 = reading.stats.retention_overflows;
    }

    Streams {
        open: u64 = reading.open_streams;
        credit_violations: u64 = reading.stats.credit_violations;
        refused_payloads: u64 = reading.stats.refused_assemblies;
    }

    Requests {
        received: u64 = reading.stats.requests_in;
        refused: u64 = reading.stats.refused_streams
            + reading.stats.refused_request_bytes
            + reading.stats.refused_memory;
        beyond_lease: u64 = reading.stats.refused_leases;
        beyond_rate: u64 = reading.rate_limited_requests;
    }

    /// Among whom leases share the room, and what they use of it.
    Leases {
        connections: u64 = reading.leased_connections;
        running: u64 = reading.leased_requests;
    }

    FireAndForget {
        taken: u64 = app.fire_and_forget();
        /// Refused by the router, as for an unknown route.
        failed: u64 = reading.failed_fire_and_forget;
        dropped: u64 = reading.stats.dropped_fire_and_forget;
    }

    Items {
        r#in: u64 = reading.stats.items_in;
        out: u64 = reading.stats.items_out;
    }

    Frames {
        r#in: u64 = reading.stats.frames_in;
        out: u64 = reading.stats.frames_out;
        ignored: u64 = reading.stats.ignored_unknown_stream
            + reading.stats.ignored_out_of_place
            + reading.stats.ignored_on_request;
    }

    Bytes {
        r#in: u64 = reading.stats.bytes_in;
        out: u64 = reading.stats.bytes_out;
    }

    Dropped {
        error_texts: u64 = reading.stats.cut_error_texts;
        keepalive_replies: u64 = reading.stats.dropped_keepalive_replies;
        metadata_pushes: u64 = reading.dropped_pushes;
    }

    Log {
        /// Lines that stderr did not take in time.
        lines_left_out: u64 = lines_left_out();
        /// Warnings about peers beyond what is logged of them.
        warnings_left_out: u64 = reading.warnings_left_out;
    }
}

#[derive(Debug, Serialize)]
struct Core {
    open: usize,
    total: usize,
}

fn cores(app: &App) -> Vec<Core> {
    app.connections_by_runtime().into_iter().map(|(open, total)| Core { open, total }).collect()
}
