//! Topics over real connections: the routes of `rsock-topics`, asked by our client and by frames of a script.

mod disk;
mod durable;
mod history;
mod join;
mod latest;
mod list;
mod members;
mod options;
mod presence;
mod subscribe;

use rsock::{Client, Payload, PayloadExt, Router, Server, topic::Topic};
use rsock_tests::record::limit_time;
use rsock_topics::{Permit, Service, Settings};
use tokio::task::AbortHandle;

/// A service, and a client of it.
struct World {
    service: Service,
    uri: String,
    client: Client,
    server: AbortHandle,
}

impl World {
    async fn new() -> Self {
        Self::of(Service::new(Settings::default())).await
    }

    async fn with_permit(permit: impl Permit) -> Self {
        Self::of(Service::with_permit(Settings::default(), permit)).await
    }

    async fn of(service: Service) -> Self {
        limit_time();
        let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
        let uri = server.addresses().remove(0);
        let app = service.add_to(Router::new(()));
        let server = tokio::spawn(server.serve(app).into_future()).abort_handle();
        let client = Client::connect(&uri).await.expect("it listens");
        Self { service, uri, client, server }
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::new(&self.client, name)
    }

    /// Publishes these numbers.
    async fn publish(&self, name: &str, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            self.topic(name).publish(number.to_string()).await.expect("room");
        }
    }
}

/// A request for a route with these options as its data.
fn ask(route: &str, options: &str) -> Payload {
    Payload::new(options.to_owned()).route(route).expect("a short route")
}
