//! HTTP requests with a time limit. Errors never contain the URL: the URL of a webhook is a secret.

use std::sync::Arc;
use std::time::Duration;

use opsctl_core::probe::blocking;
use opsctl_core::probe::tls::authorities;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

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
        Self { agent: config.into() }
    }

    pub(super) fn post(&self, url: &str, body: &serde_json::Value) -> DeliveryResult {
        judged(self.agent.post(url).header("content-type", "application/json").send(body.to_string()))
    }

    pub(super) fn get(&self, url: &str) -> DeliveryResult {
        judged(self.agent.get(url).call())
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
