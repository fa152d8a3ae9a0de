//! A request as layers and handlers see it.

use std::{
    any::{Any, TypeId},
    fmt, mem,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use once_cell::race::OnceBox;
use rsock_proto::{
    Payload,
    metadata::{
        Authentication, Extensions, MetadataError, Mime, Notice, Route, WellKnownMime, plain_route,
    },
};
use tokio::time::Instant;

use crate::{
    connection::handle::Asked,
    demand::Demand,
    error::Error,
    pattern::Pattern,
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
    /// The route, where metadata have that and nothing else that could be wrong.
    plain: PlainRoute,
    /// Of most requests there is none: nobody looks into them, or a plain route is all there is. std's
    /// cell would cost ten times as much to fill.
    reading: OnceBox<Reading>,
    /// The pattern by which a router has found the route.
    pattern: Option<Arc<Pattern>>,
    /// The number of a route that a router has found by its name, from 1 on; 0 of others.
    number: u32,
    /// Of one that the peer asks for items with.
    asked: Option<Asked>,
    /// Most requests have none of this.
    more: Option<Box<More>>,
}

#[derive(Clone, Default)]
struct More {
    /// The route that the pattern was found by, if that is not what the metadata say.
    route: Option<Box<str>>,
    /// The values that layers left, by type.
    values: Vec<(TypeId, Arc<dyn Any + Send + Sync>)>,
    identity: Option<Identity>,
}

/// The place of a plain route in the metadata, once somebody has looked: what is found is the same for
/// all who look.
#[derive(Default)]
struct PlainRoute(AtomicU64);

impl PlainRoute {
    const UNKNOWN: u64 = 0;
    /// The metadata have to be read for it.
    const NONE: u64 = 1;
    /// Beside where it begins and ends, 24 bits each.
    const FOUND: u64 = 2;
    const END: u32 = 8;
    const START: u32 = 32;

    #[inline]
    fn get_or_find(&self, find: impl FnOnce() -> Option<Range<usize>>) -> Option<Range<usize>> {
        let mut known = self.0.load(Relaxed);
        if known == Self::UNKNOWN {
            let found = find();
            known = found.map_or(Self::NONE, |Range { start, end }| {
                (start as u64) << Self::START | (end as u64) << Self::END | Self::FOUND
            });
            self.0.store(known, Relaxed);
        }
        let part = |shift: u32| (known >> shift & 0xFF_FFFF) as usize;
        (known != Self::NONE).then(|| part(Self::START)..part(Self::END))
    }

    fn forget(&mut self) {
        *self.0.get_mut() = Self::UNKNOWN;
    }
}

impl Clone for PlainRoute {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Relaxed)))
    }
}

/// The time until which the answer is waited for.
struct Deadline(Instant);

/// The values of the parameters in a route's pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
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
        let (plain, reading) = (PlainRoute::default(), OnceBox::new());
        Self { payload, peer, plain, reading, pattern: None, number: 0, asked: None, more: None }
    }

    /// A request for items.
    pub(crate) fn of_items(payload: Payload, peer: Peer, asked: Asked) -> Self {
        Self { asked: Some(asked), ..Self::new(payload, peer) }
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

    /// Its metadata as they came, if it has any.
    pub fn metadata(&self) -> Option<&Bytes> {
        self.payload.metadata.as_ref()
    }

    /// The payload alone.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// Takes the payload out. What the metadata say is still to be had, the payload is empty.
    pub fn take_payload(&mut self) -> Payload {
        self.reading();
        self.plain = PlainRoute(AtomicU64::new(PlainRoute::NONE));
        mem::take(&mut self.payload)
    }

    /// Takes the data out of the payload, which keeps its metadata.
    pub fn take_data(&mut self) -> Bytes {
        mem::take(&mut self.payload.data)
    }

    /// Puts a payload back that was taken out.
    pub(crate) fn give_payload(&mut self, payload: Payload) {
        self.payload = payload;
    }

    /// Puts another payload in the place of this: what is read from here on are its metadata. Parameters
    /// of a route that has been found stay.
    pub fn set_payload(&mut self, payload: Payload) {
        if self.pattern.is_some() && self.more.as_ref().is_none_or(|more| more.route.is_none()) {
            let route = self.route().map(Box::from);
            self.more_mut().route = route;
        }
        self.payload = payload;
        self.plain.forget();
        self.number = 0;
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
        match self.plain_route() {
            Some(plain) => str::from_utf8(plain).ok(),
            None => self.reading().as_ref().ok()?.1.as_ref().map(Route::as_str),
        }
    }

    /// The bytes of the route, and whether these and all other metadata are as they should be but for
    /// one thing: whether the route is UTF-8, which [`check_route`](Self::check_route) tells, is not
    /// known yet.
    ///
    /// # Errors
    /// As for [`extensions`](Self::extensions).
    #[inline]
    pub(crate) fn find_route(&self) -> Result<Option<&[u8]>, Error> {
        match self.plain_route() {
            Some(plain) => Ok(Some(plain)),
            None => {
                self.read_route().map(|route| route.as_ref().map(|route| route.as_str().as_bytes()))
            }
        }
    }

    /// The route of metadata that have to be read, and are.
    fn read_route(&self) -> Result<&Option<Route>, Error> {
        match self.reading() {
            Ok((_, route)) => Ok(route),
            Err(error) => Err(malformed(error)),
        }
    }

    /// Looks whether the route is UTF-8 (ROUTE-07).
    ///
    /// # Errors
    /// As for [`extensions`](Self::extensions).
    pub(crate) fn check_route(&self) -> Result<(), Error> {
        match self.plain_route() {
            Some(plain) if plain.is_ascii() => Ok(()),
            _ => self.read_route().map(drop),
        }
    }

    #[inline]
    fn plain_route(&self) -> Option<&[u8]> {
        let metadata = self.payload.metadata.as_ref()?;
        let place = self.plain.get_or_find(|| {
            let route = plain_route(metadata).filter(|_| self.peer.is_composite())?;
            let start = route.as_ptr().addr() - metadata.as_ptr().addr();
            Some(start..start + route.len())
        })?;
        metadata.get(place)
    }

    /// The extensions in its metadata.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the metadata are malformed (CMETA-11), or name a data type that cannot
    /// be read (MIME-09).
    pub fn extensions(&self) -> Result<&Extensions, Error> {
        match self.reading() {
            Ok((extensions, _)) => Ok(extensions),
            Err(error) => Err(malformed(error)),
        }
    }

    /// The notice that a push of metadata is, of those that a client [heeds](crate::ClientBuilder::heed); none
    /// if it is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be read.
    pub fn notice(&self) -> Result<Option<Notice>, Error> {
        let metadata = self.payload.metadata.as_deref().unwrap_or_default();
        Notice::find(metadata, self.metadata_mime()).map_err(|error| malformed(&error))
    }

    /// The values of its route's parameters, once a router has found that.
    pub fn params(&self) -> Params {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Params(self.values().map(own).collect())
    }

    /// The value of one parameter of its route, once a router has found that.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.values().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        let found = self.more.as_ref().and_then(|more| more.route.as_deref());
        let pattern = self.pattern.iter();
        pattern
            .filter_map(move |pattern| Some(pattern.values(found.or_else(|| self.route())?)))
            .flatten()
    }

    /// A router has found the route by this pattern: its own, or this one.
    pub(crate) fn set_pattern(&mut self, pattern: Arc<Pattern>, route: Option<&str>) {
        self.pattern = Some(pattern);
        if route.is_some() || self.more.is_some() {
            self.more_mut().route = route.map(Box::from);
        }
    }

    /// The number of its route, for whoever [admits](crate::Router::admit) it to a router: the same for all
    /// requests of one name, and of that alone, in the order in which routes were added. `None` where no route has just this
    /// name, but perhaps a pattern that matches it.
    #[inline]
    pub fn route_number(&self) -> Option<u32> {
        self.number.checked_sub(1)
    }

    pub(crate) fn set_route_number(&mut self, number: Option<u32>) {
        self.number = number.map_or(0, |number| number.saturating_add(1));
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
        if self.has_route_alone() {
            return Ok(None);
        }
        self.extensions()?.authentication().map_err(|error| {
            Error::rejected(format_args!("the credentials are malformed: {error}"))
        })
    }

    /// Whether its metadata are one entry, which is a route, or none: so they are of most requests, of which
    /// nothing else has to be read to know that they have no credentials.
    #[inline]
    fn has_route_alone(&self) -> bool {
        const ROUTING: u8 = 0x80 | WellKnownMime::Routing.id();
        let Some(metadata) = &self.payload.metadata else { return true };
        match **metadata {
            [ROUTING, high, middle, low, ref rest @ ..] if self.peer.is_composite() => {
                u32::from_be_bytes([0, high, middle, low]) as usize == rest.len()
            }
            _ => false,
        }
    }

    /// The identity of who asks, if somebody has said so: of this request, or of the connection as
    /// a whole.
    pub fn identity(&self) -> Option<&Identity> {
        let own = self.more.as_ref().and_then(|more| more.identity.as_ref());
        own.or_else(|| self.peer.identity())
    }

    /// Whether somebody has said who sends this very request, and not only whose connection it is.
    pub fn is_identified(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.identity.is_some())
    }

    /// Says who asks, for whoever sees the request behind this: for example because it has credentials
    /// of its own, which were checked.
    pub fn identify(&mut self, identity: Identity) {
        self.more_mut().identity = Some(identity);
    }

    /// The demand for the items of a request-stream or channel: how many the peer has asked for in all,
    /// from its request on. Nobody who does not ask for it pays for it. What asks for one answer, and a
    /// request made by hand for which nobody [says](Self::set_demand) otherwise, has no bound: it asks by
    /// polling alone.
    pub fn demand(&mut self) -> Demand {
        if let Some(demand) = self.attached::<Demand>() {
            return demand.clone();
        }
        let demand = match self.asked {
            Some(Asked { stream, granted }) => {
                self.peer.requester().demand_of(stream, granted.into())
            }
            None => Demand::unbounded(),
        };
        self.attach(demand.clone());
        demand
    }

    /// Says how many items are asked for, for whoever sees the request behind this: because it is called
    /// in this process, or a layer makes other items of what comes.
    pub fn set_demand(&mut self, demand: Demand) {
        self.attach(demand);
    }

    /// The time that is left until who asks does not wait for the answer any more; zero once it is over.
    /// `None` where nobody has [said](Self::set_deadline) so.
    pub fn time_left(&self) -> Option<Duration> {
        let Deadline(deadline) = self.attached()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Says until when the answer is waited for, for whoever sees the request behind this.
    pub fn set_deadline(&mut self, deadline: impl Into<Instant>) {
        self.attach(Deadline(deadline.into()));
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

fn malformed(error: &MetadataError) -> Error {
    Error::invalid(format_args!("the metadata is malformed: {error}"))
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

    fn found(pattern: &str, route: &str) -> Request {
        let payload = Payload::new("data").route(route).expect("a short route");
        let mut request = Request::new(payload, Peer::local());
        let pattern = Pattern::parse(pattern).expect("it is well-formed");
        request.set_pattern(Arc::new(pattern), None);
        request
    }

    #[test]
    fn parameters_outlive_the_metadata_that_name_the_route() {
        let mut request = found("a.{b}", "a.1");
        assert_eq!((request.param("b"), request.param("a")), (Some("1"), None));
        assert_eq!(request.params().get("b"), Some("1"));
        assert_eq!(request.take_data(), "data");
        assert_eq!(request.param("b"), Some("1"));
        request.take_payload();
        assert_eq!((request.param("b"), request.route()), (Some("1"), Some("a.1")));
        request.set_payload(Payload::default().route("c").expect("a short route"));
        assert_eq!((request.param("b"), request.route()), (Some("1"), Some("c")));
        let mut request = found("a.{b}", "a.1");
        request.set_payload(Payload::default());
        assert_eq!((request.param("b"), request.route()), (Some("1"), None));
        // Another router, another pattern.
        request.set_payload(Payload::default().route("x.2").expect("a short route"));
        request.set_pattern(Arc::new(Pattern::parse("x.{b}").expect("it is")), None);
        assert_eq!(request.param("b"), Some("2"));
    }

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

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_left_grows_less() {
        let mut request = Request::new(Payload::default(), Peer::local());
        assert_eq!(request.time_left(), None);
        request.set_deadline(Instant::now() + Duration::from_secs(3));
        assert_eq!(request.clone().time_left(), Some(Duration::from_secs(3)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(request.time_left(), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(request.time_left(), Some(Duration::ZERO));
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
    fn credentials_are_found_wherever_they_stand_and_nothing_is_read_where_there_are_none() {
        let route = Payload::default().route("a").expect("a short route");
        let own = Authentication::bearer("tok");
        let first = Payload::default().authentication(&own).expect("it fits");
        for payload in [
            route.clone().authentication(&own).expect("it fits"),
            first.clone().route("a").expect("a short route"),
            first,
        ] {
            let request = Request::new(payload, Peer::local());
            let found = request.authentication().expect("they are well-formed");
            assert!(matches!(found, Some(Authentication::Bearer { token }) if token == "tok"));
        }
        for payload in [route, Payload::default()] {
            let request = Request::new(payload, Peer::local());
            assert!(request.authentication().expect("there are none").is_none());
            assert!(request.reading.get().is_none(), "it was read");
        }
    }

    #[test]
    fn metadata_are_read_when_they_are_asked_for() {
        let payload = Payload::default().route("some.route").expect("a short route");
        let request = Request::new(payload.clone(), Peer::local());
        assert_eq!(request.route(), Some("some.route"));
        // For that alone nothing is kept.
        assert!(request.reading.get().is_none());
        assert!(
            request.extensions().is_ok_and(|all| all.route().is_ok_and(|route| route.is_some()))
        );
        assert!(request.reading.get().is_some());
        let typed = payload.clone().data_mime(WellKnownMime::Json).expect("a known type");
        let request = Request::new(typed, Peer::local());
        assert_eq!(request.route(), Some("some.route"));
        // It might be malformed.
        assert!(request.reading.get().is_some());
        let broken = Payload { metadata: Some("x".into()), ..Payload::default() };
        let request = Request::new(broken, Peer::local());
        assert_eq!(request.route(), None);
        let error = request.extensions().expect_err("it is malformed").to_string();
        assert!(error.contains("the metadata is malformed"), "{error}");
    }
}
