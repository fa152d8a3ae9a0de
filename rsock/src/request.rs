//! A request as layers and handlers see it.

use std::{
    any::{Any, TypeId},
    fmt, mem,
    sync::Arc,
};

use bytes::Bytes;
use once_cell::race::OnceBox;
use rsock_proto::{
    Payload,
    metadata::{Authentication, Extensions, MetadataError, Mime, Route},
};

use crate::{
    error::Error,
    peer::{Identity, Peer},
};

/// A request on its way to its handler: its payload, who asks, and what its metadata say.
///
/// Metadata are read when somebody first asks for something in them, and once. A layer can leave
/// something for those behind it with [`attach`](Self::attach).
#[derive(Clone)]
pub struct Request {
    payload: Payload,
    peer: Peer,
    /// Of a request that nobody looks into there is none; std's cell would cost ten times as much to
    /// fill.
    reading: OnceBox<Reading>,
    /// Most requests have none of this.
    more: Option<Box<More>>,
}

#[derive(Clone, Default)]
struct More {
    params: Params,
    /// The values that layers left, by type.
    values: Vec<(TypeId, Arc<dyn Any + Send + Sync>)>,
    identity: Option<Identity>,
}

/// The values of the parameters in a route's pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(pub(crate) Vec<(String, String)>);

impl Params {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the parameter with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The contents of the metadata, or what is wrong with them.
type Reading = Result<(Extensions, Option<Route>), MetadataError>;

impl Request {
    /// A request of this peer; without a connection, of [`Peer::local`].
    #[inline]
    pub fn new(payload: Payload, peer: Peer) -> Self {
        Self { payload, peer, reading: OnceBox::new(), more: None }
    }

    /// The peer that asks.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Its payload; of a channel, the first.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Its data.
    pub fn data(&self) -> &Bytes {
        &self.payload.data
    }

    /// The payload alone.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// Takes the payload out. What the metadata say is still to be had, the payload is empty.
    pub fn take_payload(&mut self) -> Payload {
        self.reading();
        mem::take(&mut self.payload)
    }

    /// Puts a payload back that was taken out.
    pub(crate) fn give_payload(&mut self, payload: Payload) {
        self.payload = payload;
    }

    /// Puts another payload in the place of this: what is read from here on are its metadata. Parameters
    /// of a route that has been found stay.
    pub fn set_payload(&mut self, payload: Payload) {
        self.payload = payload;
        self.reading = OnceBox::new();
    }

    #[inline]
    fn reading(&self) -> &Reading {
        self.reading.get_or_init(|| Box::new(read(&self.payload, &self.peer)))
    }

    fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The route asked for: the first tag of the routing metadata, whether that sits inside composite
    /// metadata or is the connection's own metadata type (ROUTE-09). `None` if the request names
    /// none, or its metadata are malformed.
    pub fn route(&self) -> Option<&str> {
        self.reading().as_ref().ok()?.1.as_ref().map(Route::as_str)
    }

    /// The extensions in its metadata.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the metadata are malformed (CMETA-11), or name a data type that cannot
    /// be read (MIME-09).
    pub fn extensions(&self) -> Result<&Extensions, Error> {
        match self.reading() {
            Ok((extensions, _)) => Ok(extensions),
            Err(error) => Err(Error::invalid(format_args!("the metadata is malformed: {error}"))),
        }
    }

    /// The values of its route's parameters, once a router has found that.
    pub fn params(&self) -> &Params {
        static NONE: Params = Params(Vec::new());
        self.more.as_ref().map_or(&NONE, |more| &more.params)
    }

    /// A router has found the route, whose pattern has parameters.
    pub(crate) fn set_params(&mut self, params: Params) {
        self.more_mut().params = params;
    }

    /// The connection's metadata MIME type.
    pub fn metadata_mime(&self) -> &[u8] {
        &self.peer.setup().metadata_mime
    }

    /// The type of the data: the request's own, or that of SETUP (MIME-02).
    pub fn data_mime(&self) -> Mime {
        let own = self.reading().as_ref().ok();
        let own = own.and_then(|(extensions, _)| extensions.data_mime().ok().flatten());
        own.unwrap_or_else(|| Mime::from_setup(self.peer.setup().data_mime.clone()))
    }

    /// Its credentials, of several the first (AUTH-11). They are no one's until they are checked.
    ///
    /// # Errors
    /// [`Error::Rejected`] if they cannot be read, which is a failed authentication (AUTH-05), and
    /// [`Error::Invalid`] if the metadata as a whole cannot be.
    pub fn authentication(&self) -> Result<Option<Authentication>, Error> {
        self.extensions()?.authentication().map_err(|error| {
            Error::rejected(format_args!("the credentials are malformed: {error}"))
        })
    }

    /// The identity of who asks, if somebody has said so: of this request, or of the connection as
    /// a whole.
    pub fn identity(&self) -> Option<&Identity> {
        let own = self.more.as_ref().and_then(|more| more.identity.as_ref());
        own.or_else(|| self.peer.identity())
    }

    /// Says who asks, for whoever sees the request behind this: for example because it has credentials
    /// of its own, which were checked.
    pub fn identify(&mut self, identity: Identity) {
        self.more_mut().identity = Some(identity);
    }

    /// Leaves something for whoever sees the request behind this, in the place of what was left of the
    /// same type before.
    pub fn attach<T: Any + Send + Sync>(&mut self, value: T) {
        let (id, values) = (TypeId::of::<T>(), &mut self.more_mut().values);
        values.retain(|(other, _)| *other != id);
        values.push((id, Arc::new(value)));
    }

    /// The value of this type that was left.
    pub fn attached<T: Any + Send + Sync>(&self) -> Option<&T> {
        let values = &self.more.as_ref()?.values;
        let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref()
    }
}

/// Reads the metadata of a payload. All that can be wrong with them is found here, but for
/// credentials, which are the matter of those who ask for them, and traces, which fail no one.
fn read(payload: &Payload, peer: &Peer) -> Reading {
    let Some(metadata) = &payload.metadata else {
        return Ok((Extensions::default(), None));
    };
    let extensions = Extensions::read(metadata, &peer.setup().metadata_mime)?;
    let route = extensions.route()?;
    // MIME-09: whether or not the handler looks at them.
    extensions.data_mime()?;
    extensions.accepted_mimes()?;
    Ok((extensions, route))
}

/// Shows sizes, and no contents: there may be credentials.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("route", &self.route())
            .field("bytes", &self.payload.size())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PayloadExt;

    #[test]
    fn what_is_left_is_found_by_its_type() {
        let mut request = Request::new(Payload::default(), Peer::local());
        assert_eq!(request.attached::<u32>(), None);
        request.attach(1_u32);
        request.attach("text");
        let before = request.clone();
        request.attach(2_u32);
        assert_eq!((request.attached::<u32>(), before.attached::<u32>()), (Some(&2), Some(&1)));
        assert_eq!(request.attached::<&str>(), Some(&"text"));
    }

    #[test]
    fn who_asks_with_a_request_goes_before_whose_connection_it_is() {
        let peer = Peer::local();
        peer.identify(Identity::new("service")).expect("nobody was before");
        let mut request = Request::new(Payload::default(), peer);
        assert_eq!(request.identity().expect("the connection's").name(), "service");
        request.identify(Identity::new("alice"));
        assert_eq!(request.identity().expect("its own").name(), "alice");
    }

    #[test]
    fn metadata_are_read_when_they_are_asked_for() {
        let payload = Payload::default().route("some.route").expect("a short route");
        let request = Request::new(payload, Peer::local());
        assert!(request.reading.get().is_none());
        assert_eq!(request.route(), Some("some.route"));
        assert!(request.reading.get().is_some());
        let broken = Payload { metadata: Some("x".into()), ..Payload::default() };
        let request = Request::new(broken, Peer::local());
        assert_eq!(request.route(), None);
        let error = request.extensions().expect_err("it is malformed").to_string();
        assert!(error.contains("the metadata is malformed"), "{error}");
    }
}
