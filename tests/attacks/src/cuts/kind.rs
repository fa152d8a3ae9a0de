//! The ways in which a transport is disturbed.

/// A way to disturb a transport, after so many bytes have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both sides are closed at once, wherever in a frame.
    Cut,
    /// Both sides are reset at once.
    Reset,
    /// It is cut within the first frame of the client, or right behind it.
    CutInOpening,
    /// It is cut within the first frame of the server, or right behind it.
    CutInAnswer,
    /// The server learns of it, the client does not.
    ClientHalfOpen,
    /// The client learns of it, the server does not.
    ServerHalfOpen,
    /// Nothing more gets to the server, for a while.
    StalledUp,
    /// Nothing more gets to the client, for a while.
    StalledDown,
    /// Everything comes late, and in pieces.
    Delayed,
    /// It is cut, and an old SETUP or RESUME comes once more beside the new transport.
    Replayed,
    /// Its RESUME comes when the client has given it up and has another.
    LateResume,
    /// A proxy's error page comes in the middle, to the client.
    PageDown,
    /// The same to the server.
    PageUp,
    /// A proxy that stops says so to the client, with what its framing has for that.
    GoingAway,
    /// One direction ends, and the other does not.
    HalfClosed,
    /// Those that follow are cut at once, a dozen of them.
    Storm,
    /// The server takes its time before it takes the connection.
    SlowAccept,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 17] = [
        Self::Cut,
        Self::Reset,
        Self::CutInOpening,
        Self::CutInAnswer,
        Self::ClientHalfOpen,
        Self::ServerHalfOpen,
        Self::StalledUp,
        Self::StalledDown,
        Self::Delayed,
        Self::Replayed,
        Self::LateResume,
        Self::PageDown,
        Self::PageUp,
        Self::GoingAway,
        Self::HalfClosed,
        Self::Storm,
        Self::SlowAccept,
    ];

    /// It in words.
    pub fn story(self) -> &'static str {
        match self {
            Self::Cut => "cut anywhere",
            Self::Reset => "reset anywhere",
            Self::CutInOpening => "cut in or behind RESUME",
            Self::CutInAnswer => "cut in or behind RESUME_OK",
            Self::ClientHalfOpen => "half open: the client is not told",
            Self::ServerHalfOpen => "half open: the server is not told",
            Self::StalledUp => "nothing gets to the server",
            Self::StalledDown => "nothing gets to the client",
            Self::Delayed => "late, and in pieces",
            Self::Replayed => "an old SETUP or RESUME comes again",
            Self::LateResume => "a RESUME comes late, beside a newer one",
            Self::PageDown => "an error page of a proxy, to the client",
            Self::PageUp => "the same, to the server",
            Self::GoingAway => "a proxy that stops, in the words of its framing",
            Self::HalfClosed => "one direction ends",
            Self::Storm => "cuts in a storm",
            Self::SlowAccept => "taken late",
        }
    }
}
