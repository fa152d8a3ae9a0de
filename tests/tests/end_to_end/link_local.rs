//! Addresses of one link, which are nothing without their zone.

use std::{fs, net::Ipv6Addr};

use rsock::{Client, Server};
use rsock_tests::fixture::Fixture;

use crate::resume::within;

/// An address of a link of this machine, and the link's name.
fn link_local() -> Option<(Ipv6Addr, String)> {
    let table = fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok().map(Ipv6Addr::from)?;
        address.is_unicast_link_local().then_some((address, words.last()?.to_owned()))
    })
}

#[tokio::test]
async fn a_server_at_an_address_of_a_link_is_reached_with_its_zone() {
    let Some((address, link)) = link_local() else {
        eprintln!("SKIPPED: no link of this machine has an IPv6 address of its own (fe80::)");
        return;
    };
    for (scheme, path) in [("tcp", ""), ("ws", "/rsocket")] {
        let uri = format!("{scheme}://[{address}%25{link}]:0{path}");
        let server = Server::bind(&uri).await.expect("the link has the address");
        let uri = server.addresses().remove(0);
        assert!(uri.starts_with(&format!("{scheme}://[{address}%25{link}]:")), "{uri}");
        let serving = tokio::spawn(server.serve(Fixture::default()).into_future());
        // RFC 6874's way to write it, and the one that people use.
        for uri in [uri.clone(), uri.replacen("%25", "%", 1)] {
            let client = Client::connect(&uri).await.expect("a connection");
            let answer = within(client.request_response("hi")).await.expect("an answer");
            assert_eq!(answer.data, "hi");
            let reason = client.close().await;
            assert!(matches!(reason, rsock::CloseReason::Finished(_)), "{reason:?}");
        }
        serving.abort();
    }
}
