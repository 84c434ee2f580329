//! Test data for a peer: the beginning of a usual request, padded to fill packets.

use std::fmt::Write;
use std::sync::Arc;

use rustls::client::ClientConnection;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

use crate::model::address::{join, with_brackets};

/// Protocol for a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Protocol {
    /// An HTTP request with meaningless headers.
    Http {
        /// `Host`.
        host: String,
        /// Path, without its query.
        path: String,
    },
    /// `ClientHello` of a TLS handshake, with names of protocols that do not exist.
    Tls {
        /// Server name, or `None` for an address.
        name: Option<String>,
    },
    /// Nothing is sent: the listener is a database, or unknown.
    Silence,
}

/// Ports of databases, brokers and others that log or count data of other protocols.
const UNPROBED_PORTS: &[u16] = &[
    22, 25, 53, 110, 143, 389, 587, 1433, 1521, 2181, 3306, 4222, 5432, 5433, 5672, 6379, 6380, 6432, 7000, 9042, 9092, 11211,
    26379, 26257, 27017, 27018,
];

/// Ports on which TLS begins immediately.
const TLS_PORTS: &[u16] = &[443, 465, 636, 853, 993, 995, 2376, 5671, 6443, 8443, 9443, 10250];

/// Ports on which HTTP is usual.
const HTTP_PORTS: &[u16] = &[
    80, 81, 591, 2375, 3000, 3100, 3128, 4317, 4318, 5000, 5601, 8000, 8001, 8008, 8069, 8080, 8081, 8082, 8086, 8088, 8090,
    8123, 8200, 8428, 8500, 8888, 9000, 9009, 9090, 9091, 9093, 9100, 9115, 9187, 9200, 12345, 15672,
];

/// Protocol for a peer on `port`. `requested`: named by a user or by the configuration, for which HTTP is worth a try unless the
/// port is that of a database.
#[must_use]
pub fn protocol_of(scheme: Option<&str>, host: &str, port: u16, path: &str, requested: bool) -> Protocol {
    let name = host.parse::<std::net::IpAddr>().is_err().then(|| host.to_owned());
    let path = path.split('?').next().filter(|p| p.starts_with('/')).unwrap_or("/").to_owned();
    let http = || Protocol::Http { host: if port == 80 { with_brackets(host).into_owned() } else { join(host, port) }, path };
    match scheme {
        Some("https" | "tls") => Protocol::Tls { name },
        Some("http") => http(),
        Some("smtp" | "postgres") => Protocol::Silence,
        _ if TLS_PORTS.contains(&port) => Protocol::Tls { name },
        _ if HTTP_PORTS.contains(&port) => http(),
        _ if requested && !UNPROBED_PORTS.contains(&port) => http(),
        _ => Protocol::Silence,
    }
}

/// Length of a padding header. The largest header that a strict server accepts is 8 KiB; ten lines of a thousand pass everywhere.
const HEADER_BYTES: usize = 1000;

/// Test data of at least `length` bytes, or `None` for [`Protocol::Silence`]. It is a complete request, or a complete
/// `ClientHello`.
pub(super) fn build(protocol: &Protocol, length: usize) -> Option<Vec<u8>> {
    match protocol {
        Protocol::Http { host, path } => {
            let mut text = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: opsctl/{} (path check)\r\nAccept: */*\r\nConnection: close\r\n",
                env!("CARGO_PKG_VERSION")
            );
            let mut line = 0;
            while text.len() + 2 < length {
                line += 1;
                let padding = (length - text.len()).min(HEADER_BYTES);
                let _ = write!(text, "X-Padding-{line}: {:a<padding$}\r\n", "");
            }
            text.push_str("\r\n");
            Some(text.into_bytes())
        }
        Protocol::Tls { name } => hello(name.as_deref(), length),
        Protocol::Silence => None,
    }
}

/// A name that a server without virtual hosts accepts as well.
const FALLBACK_NAME: &str = "localhost";

/// `ClientHello` with padding in the list of protocols (RFC 7301); `http/1.1` is one of them.
fn hello(name: Option<&str>, length: usize) -> Option<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let bytes = |padding: usize| {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
            .alpn_protocols
            .extend((0..padding.div_ceil(200)).map(|i| format!("{:x<200}", format!("opsctl-padding-{i}-")).into_bytes()));
        config.enable_sni = name.is_some();
        let server = ServerName::try_from(name.unwrap_or(FALLBACK_NAME).to_owned()).ok()?;
        let mut connection = ClientConnection::new(Arc::new(config), server).ok()?;
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).ok()?;
        Some(hello)
    };
    let plain = bytes(0)?;
    if plain.len() >= length { Some(plain) } else { bytes(length - plain.len()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn ipv6_address_has_brackets_in_the_host_header() {
        let host = |port| match protocol_of(Some("http"), "fd00::2", port, "", true) {
            Protocol::Http { host, .. } => host,
            other => format!("{other:?}"),
        };
        assert_eq!((host(80), host(8080)), ("[fd00::2]".into(), "[fd00::2]:8080".into()));
    }

    #[test]
    fn databases_and_unknown_ports_are_not_probed() {
        let http = |port| matches!(protocol_of(None, "10.0.0.1", port, "", true), Protocol::Http { .. });
        assert!(http(80) && http(7777) && !http(5432) && !http(443));
        assert_eq!(protocol_of(None, "10.0.0.1", 7777, "", false), Protocol::Silence);
        assert_eq!(protocol_of(Some("postgres"), "db", 443, "", true), Protocol::Silence);
        assert_eq!(protocol_of(Some("https"), "a.org", 1, "", false), Protocol::Tls { name: Some("a.org".into()) });
        let secret = protocol_of(Some("http"), "a", 80, "/x?token=1", true);
        assert_eq!(secret, Protocol::Http { host: "a".into(), path: "/x".into() });
        assert_eq!(build(&Protocol::Silence, 100), None);
    }

    #[test]
    fn test_data_is_well_formed_and_has_the_requested_length() {
        for length in [200, 1000, 3000, 9000] {
            let http = build(&Protocol::Http { host: "a:1".into(), path: "/".into() }, length).unwrap();
            assert!(http.len() >= length && http.len() < length + 200, "{length}: {}", http.len());
            let text = String::from_utf8(http).unwrap();
            assert!(text.ends_with("\r\n\r\n") && text.lines().all(|l| l.len() < 1100), "{text}");
            let tls = build(&Protocol::Tls { name: None }, length).unwrap();
            assert!(tls.len() >= length && tls.len() < length + 600, "{length}: {}", tls.len());
            // a handshake record (22); its length is that of the rest
            assert_eq!((tls[0], usize::from(u16::from_be_bytes([tls[3], tls[4]]))), (22, tls.len() - 5));
        }
    }
}
