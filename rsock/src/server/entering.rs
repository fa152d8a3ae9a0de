//! The way of a connection from its socket to its first byte: whose it is, and for how long it may take.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
};

use crate::{
    connection::Newcomer,
    server::{Service, log},
    transport::{listen::Remote, socket::Socket},
};

impl Service {
    /// Does this until its time is up, which began when the client came; none where the client has to go
    /// for another.
    pub(super) async fn in_time<T>(
        &self,
        newcomer: &Newcomer,
        doing: impl Future<Output = io::Result<T>>,
    ) -> Option<io::Result<T>> {
        let mut doing = pin!(doing);
        let until_turned_away = poll_fn(|cx| {
            if let Poll::Ready(outcome) = doing.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            newcomer.poll_turned_away(cx).map(|()| None)
        });
        let until = newcomer.since() + self.config().setup_timeout;
        let outcome = tokio::time::timeout_at(until, until_turned_away).await;
        outcome.unwrap_or_else(|_| Some(Err(io::ErrorKind::TimedOut.into())))
    }

    /// The socket, and whose it is: of one that comes from a proxy, the proxy says so. None if that is asked
    /// for, and not to be had.
    pub(super) async fn passed_on(
        &self,
        socket: Socket,
        remote: Remote,
        newcomer: &mut Newcomer,
    ) -> Option<(Socket, Remote)> {
        let Some(proxies) = &self.builder.proxies else { return Some((socket, remote)) };
        match (socket, remote) {
            (Socket::Tcp(mut socket), Remote::Address(proxy)) => {
                // It is done with when the header is read: it is not to be part of what comes after.
                let reading = Box::pin(proxies.read(&mut socket, proxy));
                match self.in_time(newcomer, reading).await? {
                    Ok(client) => {
                        newcomer.passed_on_for(client.into());
                        Some((Socket::Tcp(socket), Remote::Address(client)))
                    }
                    Err(error) => {
                        self.builder.settings.meter.refused_proxy_header();
                        log::not_passed_on(proxy, &error);
                        None
                    }
                }
            }
            // A Unix socket, which no proxy of another machine comes by.
            (socket, remote) => Some((socket, remote)),
        }
    }
}
