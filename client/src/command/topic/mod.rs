//! Topics: publish and subscribe, presence and history.

mod admin;
mod chat;
mod history;
mod kept;
mod list;
mod presence;
mod publish;
mod shown;
mod subscribe;

use rsock::{
    metadata::WellKnownMime,
    topic::{PublishError, SubscriptionEvent},
};
use rsock_cli::Rounded;

use crate::{
    args::{ConnectionArgs, MetadataArgs},
    credentials,
    exit::Failure,
    metadata,
    render::say,
    topic_args::TopicCommand,
};

pub(crate) async fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Sub(args) => subscribe::run(args).await,
        TopicCommand::Pub(args) => publish::run(args).await,
        TopicCommand::Join(args) => chat::run(args).await,
        TopicCommand::Presence(args) => presence::run(args).await,
        TopicCommand::History(args) => history::run(args).await,
        TopicCommand::Ls(args) => list::run(args).await,
        TopicCommand::Purge(args) => admin::purge(args).await,
        TopicCommand::Rm(args) => admin::delete(args).await,
    }
}

/// A connection as topics need it: with room for their options, and followed by another where it is lost.
fn connection(mut connection: ConnectionArgs) -> Result<ConnectionArgs, Failure> {
    let mime = metadata::mime_name(&connection.metadata_mime)?;
    if !mime.eq_ignore_ascii_case(WellKnownMime::CompositeMetadata.as_str()) {
        return Err(Failure::usage(format_args!(
            "--metadata-mime {mime}: topics have their options in composite metadata"
        )));
    }
    if connection.auth.auth_in.is_in_request() {
        return Err(Failure::usage(
            "--auth-in request: topics are asked for again after a break, by whoever the connection is of; \
             credentials go into SETUP",
        ));
    }
    credentials::warn_if_in_clear(&connection, &MetadataArgs::default());
    connection.reconnect = true;
    Ok(connection)
}

/// The events between those of a subscription that are worth a line. Of a connection that is lost, it says
/// itself.
fn tell(event: &SubscriptionEvent) {
    if let SubscriptionEvent::Refused { error, pause } = event {
        say(format_args!("rsock: not yet: {error}; asking again in {}", Rounded(*pause)));
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Failed(error) => Self::Error(error),
            PublishError::TooLarge { .. } => Self::usage(error),
            error => Self::Local(error.to_string()),
        }
    }
}
