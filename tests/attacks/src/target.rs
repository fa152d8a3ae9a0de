//! The target of an attack, and its size.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use rsock_wire::{COMPOSITE, Frame, Framing, I, MAX_N, ext, setup_of, setup_resumable};

use crate::wire::Wire;

/// The longest frame there is.
pub const MAX_FRAME: usize = (1 << 24) - 1;
/// Addresses of this machine that connections of a crowd come from.
const SOURCES: u32 = 64;

/// A server to be attacked.
#[derive(Debug)]
pub struct Target {
    /// The address it listens on for TCP.
    pub tcp: SocketAddr,
    /// The address it listens on for WebSockets.
    pub ws: SocketAddr,
    /// The part of an attack's full size that is wanted, in percent.
    pub percent: usize,
    serial: AtomicU32,
}

impl Target {
    /// Of what `rsockd` says of itself: `tcp://…` and `ws://…/rsocket`.
    pub fn new(uris: &[String], percent: usize) -> Self {
        let address = |scheme: &str| {
            let uri = uris.iter().find_map(|uri| uri.strip_prefix(scheme));
            let authority = uri.and_then(|rest| rest.split('/').next());
            authority.and_then(|authority| authority.parse().ok()).expect("an address in the URI")
        };
        Self::at(address("tcp://"), address("ws://"), percent)
    }

    /// The same, of its addresses.
    pub fn at(tcp: SocketAddr, ws: SocketAddr, percent: usize) -> Self {
        Self { tcp, ws, percent, serial: AtomicU32::new(0) }
    }

    /// A part of the full number, at least one.
    pub fn many(&self, full: usize) -> usize {
        (full * self.percent / 100).max(1)
    }

    /// A number that no other attacker has got.
    pub fn serial(&self) -> u32 {
        self.serial.fetch_add(1, Relaxed)
    }

    /// A connection without SETUP; `None` if it is not to be had.
    pub async fn connect(&self, framing: Framing) -> Option<Wire> {
        Wire::connect(self.address(framing), framing, None).await.ok()
    }

    /// A connection without SETUP from one of many addresses, as a crowd has them.
    pub async fn connect_from_many(&self, framing: Framing) -> Option<Wire> {
        let source = Ipv4Addr::from_bits(0x7f00_0102 + self.serial() % SOURCES);
        Wire::connect(self.address(framing), framing, Some(source)).await.ok()
    }

    /// A connection that never times out.
    pub async fn established(&self, framing: Framing) -> Option<Wire> {
        let mut wire = self.connect(framing).await?;
        wire.send([patient_setup()]).await;
        Some(wire)
    }

    /// A connection with a session that never times out.
    pub async fn session(&self, framing: Framing) -> Option<Wire> {
        let mut wire = self.connect(framing).await?;
        wire.send([session_setup(self.serial())]).await;
        Some(wire)
    }

    fn address(&self, framing: Framing) -> SocketAddr {
        match framing {
            Framing::Tcp => self.tcp,
            Framing::WebSocket => self.ws,
        }
    }
}

/// SETUP of a client that says it will be silent for weeks.
pub fn patient_setup() -> Frame {
    setup_of((1, 0), MAX_N, MAX_N, COMPOSITE.as_bytes(), b"application/octet-stream")
}

/// The same, with a token of its own.
pub fn session_setup(serial: u32) -> Frame {
    let mut setup = patient_setup();
    let token = format!("attacker-{}-{serial}", std::process::id());
    // Where the token is is known to what makes SETUPs with one.
    let with_token = setup_resumable(token.as_bytes());
    setup.fixed.splice(12..12, with_token.fixed[12..14 + token.len()].iter().copied());
    setup.flags = with_token.flags;
    setup
}

/// A frame that is ignored, of so many bytes: it makes the block large in which its neighbours lie.
pub fn junk(bytes: usize) -> Frame {
    ext(0, I, 1).data(vec![b'j'; bytes.min(MAX_FRAME) - 10])
}
