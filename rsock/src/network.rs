//! The networks that peers come from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address that stands for all that one host may have: without its port, and of IPv6 the /64.
pub(crate) fn network_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}
