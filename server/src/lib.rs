//! `rsockd`, a ready-to-run RSocket service, as a library: to run it inside another program or a
//! test, on ports of the system's choice.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rsock::{Client, Payload, PayloadExt};
//! use rsock_server::{Options, Service};
//!
//! let listen = vec!["tcp://127.0.0.1:0".to_owned()];
//! let service = Service::bind(Options { listen, ..Options::default() }).await?;
//! let uri = service.addresses().remove(0);
//! tokio::spawn(service.run(std::future::pending()));
//!
//! let client = Client::connect(&uri).await?;
//! let reply = client.request_response(Payload::new("hello").route("echo")?).await?;
//! assert_eq!(reply.data, "hello");
//! # Ok(())
//! # }
//! ```

mod access;
mod admin;
mod api;
mod app;
mod cores;
mod doors;
mod files;
mod frames;
mod gateway;
mod http;
mod logging;
mod metrics;
mod notify;
mod operations;
mod owner;
mod plain;
mod reload;
mod service;
mod settings;
mod sockets;
mod tls;
mod topics;
mod users;
mod visitors;
mod web;

pub use access::AccessError;
pub use app::{App, app};
pub use files::OpenFiles;
pub use logging::{Log, LogFilter, LogFormat};
pub use notify::{notify_ready, notify_reloading, notify_stopping, watchdog};
pub use owner::UnixOwner;
pub use reload::Reloader;
pub use service::{Live, Service, StartError, try_it};
pub use settings::{
    AccessFile, Changes, ClientAddressKind, ClientAuthKind, ConfigCommand, ConsoleKind,
    DefaultRoute, Flags, Loaded, Options, Problems, ProxyKind, RuntimeKind, Source,
};
pub use topics::TopicRule;
pub use users::UserCommand;
