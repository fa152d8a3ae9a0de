//! Counters of one connection: plain numbers, read by whoever owns it.

/// One of many figures: what it counts, and how far it has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The name of its field.
    pub name: &'static str,
    /// A line that says what it counts.
    pub help: &'static str,
    /// The number.
    pub value: u64,
    /// Whether it can fall.
    pub kind: FigureKind,
}

/// How a figure changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// It only ever rises.
    Counter,
    /// It tells how many there are now.
    Gauge,
}

macro_rules! stats {
    (
        often { $($often:ident: $often_help:literal;)* }
        rarely { $($rare:ident: $rare_help:literal;)* }
    ) => {
        /// The figures of a connection since it began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $(#[doc = concat!($often_help, ".")] pub $often: u64,)*
            $(#[doc = concat!($rare_help, ".")] pub $rare: u64,)*
        }

        impl Stats {
            /// How many of the figures change with the traffic.
            pub const OFTEN: usize = [$(stringify!($often)),*].len();

            /// How many of the figures do not.
            pub const RARE: usize = [$(stringify!($rare)),*].len();

            /// Every figure.
            pub fn each(&self) -> impl Iterator<Item = Figure> + use<> {
                let figure = |(name, help, value)| {
                    Figure { name, help, value, kind: FigureKind::Counter }
                };
                [
                    $((stringify!($often), $often_help, self.$often),)*
                    $((stringify!($rare), $rare_help, self.$rare),)*
                ]
                .into_iter()
                .map(figure)
            }

            /// The figures that change with the traffic, in the order of `each`.
            #[inline]
            pub const fn often(&self) -> [u64; Self::OFTEN] {
                [$(self.$often),*]
            }

            /// The others, which follow them there.
            #[inline]
            pub const fn rare(&self) -> [u64; Self::RARE] {
                [$(self.$rare),*]
            }

            /// The sum of these others. They never fall, so it tells whether one has changed.
            #[inline]
            pub const fn sum_of_rare(&self) -> u64 {
                0 $(+ self.$rare)*
            }

            /// The figures with these values.
            pub const fn from_values(often: [u64; Self::OFTEN], rare: [u64; Self::RARE]) -> Self {
                let [$($often),*] = often;
                let [$($rare),*] = rare;
                Self { $($often,)* $($rare),* }
            }
        }
    };
}

stats! {
    often {
        frames_in: "Frames received, whatever became of them";
        frames_out: "Frames written to the send buffer";
        bytes_in: "Bytes of frames received, without transport prefixes";
        bytes_out: "Bytes written, with the transport's prefixes";
        requests_in: "Requests the peer opened that reached the application";
        requests_out: "Requests opened towards the peer";
        fire_and_forget_out: "Fire-and-forgets among them, once they are written whole";
        items_in: "Items received on streams and channels";
        items_out: "Items sent on streams and channels";
    }
    rarely {
        credit_stalls:
            "Times a sender had spent its credit and had to wait for the peer's REQUEST_N";
        ignored_unknown_stream: "Frames ignored because no stream accounts for them"; // UNX-04
        ignored_out_of_place:
            "Frames ignored because they make no sense where they came"; // UNX-01
        ignored_on_request:
            "Frames of unknown type, or malformed, dropped because their ignore flag was set"; // FRAME-11, FRAME-13
        refused_streams:
            "Requests refused because the peer holds as many streams as it may"; // DOS-02
        refused_request_bytes:
            "Requests refused because the peer's open requests hold as many bytes as they may";
        refused_memory:
            "Requests refused and fragmented payloads given up because there was no memory left \
             for this connection";
        stalled_parts:
            "Frames and fragmented payloads given up because no more of them came in time";
        dropped_fire_and_forget: "Fire-and-forget requests dropped for one of these reasons";
        refused_assemblies:
            "Fragmented payloads given up: too large, too many fragments, or in disorder"; // FRAG-22
        dropped_keepalive_replies:
            "KEEPALIVE replies dropped because the peer does not read"; // KA-15
        refused_leases:
            "Requests refused, and fire-and-forgets dropped, because the peer had no lease for \
             them"; // LEASE-11
        resumes: "Times the session was resumed on a new transport";
        replayed_frames: "Frames written again after a resume";
        retention_overflows:
            "Retained frames dropped although the peer may not have them, because it does not \
             acknowledge any: a resume may fail"; // RESUME-37
        refused_calls:
            "Pings and metadata pushes of ours that were not taken, because as many wait to be \
             written as may";
        paused_reads:
            "Times nothing more was read because as many refusals as may wait were unwritten"; // DOS-01
        cut_error_texts:
            "Texts of the peer's errors of which no more was kept than max_error_text_bytes";
        violations: "Times a peer broke the protocol, and was sent away for it";
        broken_transports:
            "Times a transport was given up for bytes that were no frames, and the session stayed";
        setup_timeouts:
            "Times SETUP, or the acceptor's answer to it, did not come in time"; // SETUP-30
        keepalive_timeouts:
            "Times the peer was silent for longer than its keepalive lifetime"; // KA-10
        credit_violations:
            "Streams ended because the peer sent more than it was granted"; // RS-14, RC-21
    }
}

#[cfg(test)]
mod tests {
    use std::array;

    use super::*;

    #[test]
    fn each_figure_comes_once_with_its_own_value() {
        let often = array::from_fn(|index| 1 + index as u64);
        let rare = array::from_fn(|index| (1 + Stats::OFTEN + index) as u64);
        let stats = Stats::from_values(often, rare);
        assert_eq!((stats.often(), stats.rare()), (often, rare));
        assert_eq!((stats.frames_in, stats.credit_violations), (1, 32));
        let values: Vec<u64> = stats.each().map(|figure| figure.value).collect();
        assert_eq!(values, (1..=32).collect::<Vec<_>>());
        let credit_stalls = stats.each().find(|figure| figure.name == "credit_stalls");
        assert_eq!(credit_stalls.map(|figure| figure.value), Some(stats.credit_stalls));
        assert!(stats.each().all(|figure| !figure.help.is_empty() && !figure.help.ends_with('.')));
    }
}
