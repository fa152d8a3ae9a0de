//! Addresses for those who run the service: health, readiness and figures over HTTP, and nothing else.

use std::sync::Arc;

use rsock::{Error, MemoryBudget, Peer, Router, Server, tls::ServerTls};
use tokio::task::JoinHandle;

use crate::{
    app::App,
    http::{Front, WebDoor},
    service::StartError,
    settings::Options,
};

/// Connections there at a time: of monitors, and of whoever looks at it by hand.
const MAX_CONNECTIONS: usize = 256;
/// Nobody goes there by WebSocket.
const NO_PATH: &str = "/-";

/// The listeners of these addresses, which are open and not served yet.
#[derive(Debug)]
pub(crate) struct Admin(Server);

impl Admin {
    /// Opens them; none if settings have none.
    pub(crate) async fn bind(
        options: &Options,
        front: &Front,
        door: &WebDoor,
        memory: &Arc<MemoryBudget>,
        tls: Option<&ServerTls>,
    ) -> Result<Option<Self>, StartError> {
        if options.admin_listen.is_empty() {
            return Ok(None);
        }
        let door = door.clone();
        let mut builder = Server::builder()
            .filter_http(move |head| door.refusal(head))
            .max_connections(MAX_CONNECTIONS)
            .memory(Arc::clone(memory))
            .http_limits(options.http_limits())
            .http(front.clone());
        if let Some(tls) = tls {
            builder = builder.tls(tls.clone());
        }
        // HTTP is what is beside WebSockets.
        let uris: Vec<_> = options
            .admin_listen
            .iter()
            .map(|uri| format!("{}{NO_PATH}", uri.trim_end_matches('/').replacen("http", "ws", 1)))
            .collect();
        Ok(Some(Self(builder.bind(&uris).await.map_err(StartError::Listen)?)))
    }

    /// The addresses, with the ports they were given.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let addresses = self.0.addresses().into_iter();
        addresses.map(|uri| uri.trim_end_matches(NO_PATH).replacen("ws", "http", 1)).collect()
    }

    /// Serves them for as long as what is returned is kept.
    pub(crate) fn serve(self) -> Serving {
        let refuse = async |_: Peer| {
            Err::<Router<App>, _>(Error::rejected("here are health and figures alone"))
        };
        Serving(tokio::spawn(self.0.serve(refuse).into_future()))
    }
}

/// Somebody who answers there, until it is dropped.
#[derive(Debug)]
pub(crate) struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}
