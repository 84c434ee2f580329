//! HTTP requests with a time limit. Errors never contain the URL: the URL of a webhook is a secret.

use std::sync::Arc;
use std::time::Duration;

use opsctl_core::probe::blocking;
use opsctl_core::probe::tls::authorities;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::DeliveryResult;

/// Time limit of a request in total.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests.
pub struct Web {
    agent: ureq::Agent,
}

impl Web {
    /// Trusts the CAs of this machine and those in these files.
    #[must_use]
    pub fn new(ca_files: &[String]) -> Self {
        let roots = blocking::run_on_current_thread(|io| authorities(io, ca_files));
        let roots: Vec<Certificate<'static>> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(3)
            .user_agent(concat!("opsctl/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Self { agent: ureq::Agent::with_parts(config, DefaultConnector::default(), HostResolver) }
    }

    pub(super) fn post(&self, url: &str, body: &serde_json::Value) -> DeliveryResult {
        judged(self.agent.post(url).header("content-type", "application/json").send(body.to_string()))
    }

    pub(super) fn get(&self, url: &str) -> DeliveryResult {
        judged(self.agent.get(url).call())
    }
}

/// Limit of addresses of a name: the capacity of [`ResolvedSocketAddrs`].
const MAX_ADDRESSES: usize = 16;

/// Resolves names as all connections of opsctl do: ureq's own resolver needs libraries of the C library at run time.
#[derive(Debug)]
struct HostResolver;

impl Resolver for HostResolver {
    fn resolve(&self, uri: &Uri, config: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found = blocking::run_on_current_thread(|io| io.look_up(host, port)).map_err(|_| ureq::Error::HostNotFound)?;
        let mut addresses = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()).take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

fn judged<B>(answer: Result<ureq::http::Response<B>, ureq::Error>) -> DeliveryResult {
    match answer {
        Ok(answer) => match answer.status().as_u16() {
            200..300 => DeliveryResult::Done,
            // temporary: 408 and 429 by definition, 5xx is a server error
            status @ (408 | 429 | 500..) => DeliveryResult::Later(format!("status {status}")),
            status => DeliveryResult::Never(format!("status {status}; check its URL")),
        },
        Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => DeliveryResult::Never("invalid URL".to_owned()),
        Err(ureq::Error::Timeout(_)) => DeliveryResult::Later(format!("no answer in {} s", REQUEST_TIMEOUT.as_secs())),
        Err(ureq::Error::HostNotFound) => DeliveryResult::Later("its name cannot be resolved".to_owned()),
        Err(ureq::Error::Io(e)) => DeliveryResult::Later(e.to_string()),
        Err(ureq::Error::ConnectionFailed) => DeliveryResult::Later("connection failed".to_owned()),
        Err(ureq::Error::Tls(e)) => DeliveryResult::Later(format!("TLS: {e}")),
        Err(ureq::Error::Rustls(e)) => DeliveryResult::Later(format!("TLS: {e}")),
        Err(_) => DeliveryResult::Later("the request failed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn literal_address_of_a_webhook_has_the_default_port() {
        let timeout = NextTimeout::default();
        for (url, expected) in
            [("https://192.0.2.1/x", "192.0.2.1:443"), ("http://[::1]/", "[::1]:80"), ("http://127.0.0.1:9/", "127.0.0.1:9")]
        {
            let found = HostResolver.resolve(&url.parse().unwrap(), &Config::default(), timeout).unwrap();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected], "{url}");
        }
    }
}
