//! The topics that there are.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{position::Epoch, wire};
use crate::{error::Error, requester::Requester, streams::RequestStream};

/// A topic, as the service tells of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// Its kind: `memory`, `durable`, `latest` or `none`.
    #[serde(default)]
    pub kind: String,
    /// The numbering.
    pub epoch: Epoch,
    /// The oldest message that is kept: one more than the newest where none is.
    #[serde(default)]
    pub base: u64,
    /// The newest message.
    #[serde(default)]
    pub head: u64,
    /// The bytes of what is kept.
    #[serde(default)]
    pub bytes: u64,
    /// How many subscribe to it, where the asker may know.
    #[serde(default)]
    pub subscribers: Option<u64>,
    /// How many are present, where the asker may know.
    #[serde(default)]
    pub members: Option<u64>,
    /// Messages a second that are published.
    #[serde(default)]
    pub publishes_per_s: f64,
    /// How many messages the slowest subscriber is behind, where the asker may know.
    #[serde(default, deserialize_with = "behind")]
    pub slowest: Option<u64>,
}

fn behind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Slowest {
        behind: u64,
    }
    Ok(Option::<Slowest>::deserialize(deserializer)?.map(|slowest| slowest.behind))
}

#[derive(Serialize)]
struct ListOptions<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    prefix: &'a str,
}

/// The topics whose names begin so, ordered by name: those that the asker may see. An empty prefix is that of
/// all.
///
/// ```
/// use futures_util::TryStreamExt;
/// use rsock::{Client, Error, topic};
///
/// # async fn run(client: &Client) -> Result<(), Error> {
/// let mut rooms = topic::topics(client, "room.");
/// while let Some(room) = rooms.try_next().await? {
///     println!("{}: {} messages", room.topic, room.head + 1 - room.base);
/// }
/// # Ok(())
/// # }
/// ```
pub fn topics(requester: &Requester, prefix: &str) -> Topics {
    let request = wire::request("topics", &ListOptions { prefix });
    Topics { items: Some(request.map(|request| requester.request_stream(request))) }
}

/// The topics that there are, as a stream that ends. Made by [`topics`].
#[must_use = "nothing is asked for before it is polled"]
pub struct Topics {
    /// None at its end.
    items: Option<Result<RequestStream, Error>>,
}

impl Stream for Topics {
    type Item = Result<TopicInfo, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let told = match &mut self.items {
            Some(Ok(items)) => ready!(Pin::new(items).poll_next(cx)),
            Some(Err(error)) => Some(Err(error.clone())),
            None => None,
        };
        let told = told.map(|told| told.and_then(|payload| wire::answer(&payload)));
        if !matches!(told, Some(Ok(_))) {
            self.items = None;
        }
        Poll::Ready(told)
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}
