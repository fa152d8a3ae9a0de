//! A program written for the crate rsocket_rust: nothing here knows of rsock.

use std::sync::Arc;

use rsocket_rust::{Result, async_trait, error::RSocketError, prelude::*, stream};

fn text(payload: &Payload) -> &str {
    payload.data_utf8().unwrap_or_default()
}

fn payload(text: &str) -> Payload {
    Payload::builder().set_data_utf8(text).build()
}

/// The responder that serves a client.
struct Numbers {
    /// Towards the client.
    client: Arc<dyn RSocket>,
}

#[async_trait]
impl RSocket for Numbers {
    async fn metadata_push(&self, _: Payload) -> Result<()> {
        Ok(())
    }

    async fn fire_and_forget(&self, _: Payload) -> Result<()> {
        Ok(())
    }

    /// Greets, and asks back whom.
    async fn request_response(&self, req: Payload) -> Result<Option<Payload>> {
        if text(&req).is_empty() {
            return Err(RSocketError::RequestInvalid("no greeting".into()).into());
        }
        let name = self.client.request_response(payload("who are you?")).await?;
        let name = name.unwrap_or_else(|| payload("nobody"));
        Ok(Some(payload(&format!("{}, {}", text(&req), text(&name)))))
    }

    /// Counts as far as the request says, or without an end.
    fn request_stream(&self, req: Payload) -> Flux<Result<Payload>> {
        let end = text(&req).parse().unwrap_or(u64::MAX);
        Box::pin(stream! {
            for n in 0..end {
                yield Ok(payload(&n.to_string()));
            }
        })
    }

    /// Doubles the numbers that come.
    fn request_channel(&self, mut reqs: Flux<Result<Payload>>) -> Flux<Result<Payload>> {
        Box::pin(stream! {
            while let Some(req) = reqs.next().await {
                let n: u64 = text(&req?).parse()?;
                yield Ok(payload(&(2 * n).to_string()));
            }
        })
    }
}

/// The responder that a client answers with.
struct Named(&'static str);

#[async_trait]
impl RSocket for Named {
    async fn metadata_push(&self, _: Payload) -> Result<()> {
        Ok(())
    }

    async fn fire_and_forget(&self, _: Payload) -> Result<()> {
        Ok(())
    }

    async fn request_response(&self, _: Payload) -> Result<Option<Payload>> {
        Ok(Some(payload(self.0)))
    }

    fn request_stream(&self, req: Payload) -> Flux<Result<Payload>> {
        Box::pin(stream! { yield Ok(req) })
    }

    fn request_channel(&self, reqs: Flux<Result<Payload>>) -> Flux<Result<Payload>> {
        reqs
    }
}

/// The server's acceptor.
pub(crate) fn acceptor() -> ServerResponder {
    Box::new(|_setup, socket| Ok(Box::new(Numbers { client: socket.into() })))
}

/// The client's acceptor.
pub(crate) fn client_acceptor() -> ClientResponder {
    Box::new(|| Box::new(Named("Ada")))
}

/// Asks as the client does, and returns the lines it prints.
pub(crate) async fn ask(socket: &dyn RSocket) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let greeting = socket.request_response(payload("hello")).await?;
    lines.extend(greeting.map(|greeting| text(&greeting).to_owned()));

    let mut numbers = socket.request_stream(payload("100")).take(3);
    while let Some(number) = numbers.next().await {
        lines.push(text(&number?).to_owned());
    }
    drop(numbers);

    let requests = stream! {
        for n in 10..13 {
            yield Ok(payload(&n.to_string()));
        }
    };
    let mut doubled = socket.request_channel(Box::pin(requests)).take(3);
    while let Some(number) = doubled.next().await {
        lines.push(text(&number?).to_owned());
    }
    Ok(lines)
}
