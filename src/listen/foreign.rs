//! Rejection of requests sent by a web page in a browser: from another origin, or to this host under a name that is not its own.
//!
//! A browser on this host can reach the loopback address, and a page can make it send any body there. The page cannot omit
//! `Origin` from a POST, nor set `Sec-Fetch-Site` or `Host`: a name of the page that resolves to this host (DNS rebinding)
//! appears in `Host`.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri, Version, header};
use opsctl_core::model::address::without_brackets;

/// Whether the sending page belongs to this host (Fetch Metadata, w3.org/TR/fetch-metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names and origins of this host.
#[derive(Debug, Clone)]
pub(super) struct Own {
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
    origins: Vec<String>,
}

/// Reason why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForeignRequest {
    /// Sent by a page of another origin.
    Origin,
    /// Addressed to another host.
    Host,
}

impl Own {
    /// Names, addresses and origins of the configuration, and the host name.
    pub(super) fn new(hostname: &str, hosts: &[String], addresses: Vec<IpAddr>, origins: &[String]) -> Self {
        // people type the first label alone; a longer name that begins with it may belong to another party
        let short = hostname.split('.').next().unwrap_or_default();
        let names = ["localhost", hostname, short].into_iter().chain(hosts.iter().map(String::as_str));
        let hosts = names.map(plain).filter(|name| !name.is_empty()).collect();
        Self { hosts, addresses, origins: origins.to_vec() }
    }

    /// Rejects pages of other origins.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), ForeignRequest> {
        let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
        let named = origins.peek().is_some();
        let own = |value: &header::HeaderValue| {
            value.to_str().is_ok_and(|origin| self.origins.iter().any(|own| own.eq_ignore_ascii_case(origin)))
        };
        if !origins.all(own) {
            return Err(ForeignRequest::Origin);
        }
        // images and links have no `Origin`; an allowed page is cross-site by nature
        let site = |value: &header::HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin");
        let foreign = !headers.get_all(SEC_FETCH_SITE).iter().all(site);
        if foreign && !named { Err(ForeignRequest::Origin) } else { Ok(()) }
    }

    /// Rejects requests for other hosts. `local` is the address that the client connected to.
    pub(super) fn check_host(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        version: Version,
        local: Option<IpAddr>,
    ) -> Result<(), ForeignRequest> {
        let own = |text: &str| self.is_own(text, local);
        let mut hosts = headers.get_all(header::HOST).iter();
        let host_is_own = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().is_ok_and(own),
            // HTTP/1.0 has no `Host`, and no browser uses it
            (None, _) => version < Version::HTTP_11,
            (Some(_), Some(_)) => false,
        };
        let target_is_own = uri.authority().is_none_or(|authority| own(authority.as_str()));
        if host_is_own && target_is_own { Ok(()) } else { Err(ForeignRequest::Host) }
    }

    fn is_own(&self, text: &str, local: Option<IpAddr>) -> bool {
        let Ok(authority) = text.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = plain(authority.host());
        let address = without_brackets(&host).parse::<IpAddr>();
        match address.map(|address| address.to_canonical()) {
            Ok(address) => {
                address.is_loopback() || Some(address) == local.map(|l| l.to_canonical()) || self.addresses.contains(&address)
            }
            Err(_) => self.hosts.contains(&host),
        }
    }
}

/// Whether a host without configuration accepts a request for this `Host`; for the fuzzer.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn is_loopback_host(text: &str) -> bool {
    Own::new("", &[], Vec::new(), &[]).is_own(text, None)
}

/// A host name in its compared form.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn own() -> Own {
        let hosts = ["alias.example.org".to_owned()];
        Own::new("web-1.example.org", &hosts, vec!["192.0.2.7".parse().unwrap()], &["https://ops.example.org".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        map
    }

    fn host(value: &str) -> bool {
        let local = Some("10.0.0.5".parse().unwrap());
        own().check_host(&headers(&[("host", value)]), &Uri::from_static("/"), Version::HTTP_11, local).is_ok()
    }

    #[test]
    fn own_hosts() {
        for good in [
            "localhost",
            "LOCALHOST:9797",
            "localhost.",
            "127.0.0.1:9797",
            "127.8.8.8",
            "[::1]:9797",
            "[::ffff:127.0.0.1]",
            "10.0.0.5:80",
            "192.0.2.7",
            "web-1.example.org:9797",
            "web-1",
            "alias.example.org",
        ] {
            assert!(host(good), "{good}");
        }
    }

    #[test]
    fn foreign_hosts() {
        for bad in [
            "evil.example.org",
            "web-1.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x@localhost",
            "localhost@evil.example",
            "10.0.0.6",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "",
            "a b",
            ":9797",
        ] {
            assert!(!host(bad), "{bad}");
        }
    }

    #[test]
    fn host_is_required_once() {
        let check = |pairs: &[(&'static str, &str)], uri: &'static str, version| {
            own().check_host(&headers(pairs), &Uri::from_static(uri), version, None).is_ok()
        };
        assert!(!check(&[], "/", Version::HTTP_11) && check(&[], "/", Version::HTTP_10));
        assert!(!check(&[("host", "localhost"), ("host", "evil.example")], "/", Version::HTTP_11));
        assert!(!check(&[("host", "localhost")], "http://evil.example/", Version::HTTP_11));
        assert!(check(&[("host", "localhost")], "http://localhost:9797/", Version::HTTP_11));
    }

    #[test]
    fn origins() {
        let check = |pairs: &[(&'static str, &str)]| own().check_origin(&headers(pairs)).is_ok();
        // no browser, a typed address, an allowed page
        assert!(check(&[]) && check(&[("sec-fetch-site", "none")]) && check(&[("sec-fetch-site", "same-origin")]));
        assert!(check(&[("origin", "https://ops.example.org"), ("sec-fetch-site", "cross-site")]));
        for bad in ["https://evil.example", "null", "", "http://ops.example.org", "http://127.0.0.1:9797"] {
            assert!(!check(&[("origin", bad)]), "{bad}");
        }
        for bad in ["cross-site", "same-site", "", "new-word"] {
            assert!(!check(&[("sec-fetch-site", bad)]), "{bad}");
        }
        assert!(!check(&[("origin", "https://ops.example.org"), ("origin", "https://evil.example")]));
    }

    #[test]
    fn own_origin_does_not_excuse_a_foreign_host() {
        let map = headers(&[("origin", "https://ops.example.org"), ("host", "evil.example")]);
        assert_eq!(own().check_host(&map, &Uri::from_static("/"), Version::HTTP_11, None), Err(ForeignRequest::Host));
    }
}
