//! Which host a request is for. A page that a browser loaded from elsewhere may have its own name resolved to 127.0.0.1
//! (DNS rebinding) and then ask the daemon; but it cannot make the browser send another `Host` than its own name. So
//! without a token only requests for this machine's loopback, or the address listened on, are answered.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;

use crate::problem::{Kind, Problem};

/// The hosts that requests may be for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hosts {
    address: SocketAddr,
}

impl Hosts {
    /// Loopback, and the address listened on.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Refuses a request for another host.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Problem> {
        let authority = match request.uri().authority() {
            Some(authority) => authority.clone(),
            None => named(request)?,
        };
        if self.is_ours(authority.host()) {
            return Ok(());
        }
        let detail = format!(
            "the request is for another host; ask {} by its address, by 127.0.0.1 or by localhost",
            self.address
        );
        Err(Problem::new(Kind::Misdirected, detail).field("Host"))
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let ip = bare.parse::<IpAddr>();
        ip.is_ok_and(|ip| ip.to_canonical().is_loopback() || ip == self.address.ip())
    }
}

/// What the header `Host` says.
fn named(request: &Request) -> Result<Authority, Problem> {
    let mut values = request.headers().get_all(HOST).iter();
    let problem = |detail: &str| Problem::new(Kind::BadRequest, detail).field("Host");
    let Some(value) = values.next() else { return Err(problem("the header `Host` is missing")) };
    if values.next().is_some() {
        return Err(problem("there is more than one header `Host`"));
    }
    let authority = Authority::try_from(value.as_bytes());
    authority.map_err(|_| problem("the header `Host` is not a host and a port"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn check(uri: &str, hosts: &[&str]) -> Option<Kind> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let ours = Hosts::new("192.0.2.7:80".parse().unwrap());
        ours.check(&request.body(Body::empty()).unwrap()).err().map(|problem| problem.kind())
    }

    #[test]
    fn only_this_machine_is_meant() {
        for host in [
            "localhost",
            "LocalHost:7340",
            "localhost.",
            "127.0.0.1",
            "127.1.2.3:1",
            "[::1]:7340",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:9",
        ] {
            assert_eq!(check("/", &[host]), None, "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com:7340",
            "127.0.0.1.example.com",
            "192.0.2.8",
            "[::2]",
            "0.0.0.0",
        ] {
            assert_eq!(check("/", &[host]), Some(Kind::Misdirected), "{host}");
        }
    }

    #[test]
    fn the_host_is_named_once() {
        assert_eq!(check("/", &[]), Some(Kind::BadRequest));
        assert_eq!(check("/", &["localhost", "localhost"]), Some(Kind::BadRequest));
        assert_eq!(check("/", &["a b"]), Some(Kind::BadRequest));
        // The target's own word counts, whatever the header says.
        assert_eq!(check("http://example.com/", &["localhost"]), Some(Kind::Misdirected));
        assert_eq!(check("http://localhost:1/", &["example.com"]), None);
    }
}
