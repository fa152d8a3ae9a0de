//! SETUP of a client, made for each of its connections.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use rsock_proto::{frame, metadata::Authentication};

use crate::{credentials, error::ConnectError, resume::new_token};

/// Credentials that are on their way.
type Asking = Pin<Box<dyn Future<Output = Result<Authentication, String>> + Send>>;

/// Something that is asked for credentials before each SETUP.
pub(crate) type AskCredentials = Arc<dyn Fn() -> Asking + Send + Sync>;

/// Makes a source of credentials out of a function of the user's.
pub(crate) fn ask_with<F, E>(ask: impl Fn() -> F + Send + Sync + 'static) -> AskCredentials
where
    F: Future<Output = Result<Authentication, E>> + Send + 'static,
    E: fmt::Display,
{
    Arc::new(move || {
        let asking = ask();
        Box::pin(async move { asking.await.map_err(|error| error.to_string()) })
    })
}

/// The parts of a client's SETUP that are the same for all of its connections, and what is asked for
/// the rest.
pub(crate) struct SetupTemplate {
    /// Without a token, and without credentials that are to be asked for.
    pub(crate) frame: frame::Setup,
    pub(crate) credentials: Option<AskCredentials>,
    /// How long asking for them may take.
    pub(crate) limit: Duration,
}

impl SetupTemplate {
    /// The SETUP of one connection, for a session of its own if it is to have one.
    pub(crate) async fn make(&self, is_session: bool) -> Result<frame::Setup, ConnectError> {
        let mut setup = self.frame.clone();
        if let Some(ask) = &self.credentials {
            let given = tokio::time::timeout(self.limit, ask())
                .await
                .unwrap_or_else(|_| Err(format!("there was no answer within {:?}", self.limit)));
            let given = given.map_err(ConnectError::Credentials)?;
            setup.payload = credentials::in_setup(&setup.payload, &given, &setup.metadata_mime)?;
        }
        if setup.payload.size() > rsock_proto::MAX_FRAME_BYTES - 1024 {
            return Err(ConnectError::Setting("the setup payload does not fit one frame"));
        }
        if is_session {
            setup.resume_token = Some(new_token().map_err(|_| {
                ConnectError::Setting("the system gives no random bytes for a resume token")
            })?);
        }
        Ok(setup)
    }
}
