//! TLS to an engine, with the files of the Docker CLI: `ca.pem`, `cert.pem` and `key.pem` in one directory ("Use TLS (HTTPS) to protect
//! the Docker daemon socket").

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use crate::model::address::split_port;
use crate::probe::io::http::HttpError;
use crate::probe::io::trusted;
use crate::probe::{blocking, lag};

use super::connect::Stream;
use super::tcp::TcpHost;

/// Time limit of reading the three files.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Size limit of one of them, in bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// An engine behind TLS. Its certificate is always verified, by its name and its authority.
pub struct TlsHost {
    host: TcpHost,
    /// Directory of the three files. Those that do not exist are omitted: without `ca.pem` the authorities of this machine count.
    directory: Option<PathBuf>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl PartialEq for TlsHost {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, &self.directory) == (&other.host, &other.directory)
    }
}

impl Eq for TlsHost {}

impl fmt::Debug for TlsHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsHost").field("address", &self.address()).field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl TlsHost {
    /// `host:port`, and the directory of the files.
    pub(super) fn new(address: String, directory: Option<PathBuf>) -> Self {
        Self { host: TcpHost::new(address), directory, config: OnceCell::new() }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        self.host.address()
    }

    /// A new connection with a verified certificate.
    pub(super) async fn open(&self, timeout: Duration) -> Result<Stream, HttpError> {
        let closed = |e: std::io::Error| HttpError::Closed(e.to_string());
        let directory = self.directory.clone();
        let read = || async move {
            let from = directory.as_deref().map_or_else(|| "this machine".to_owned(), |path| path.display().to_string());
            let read =
                blocking::run("TLS files of the engine", &from, READ_TIMEOUT, move |_| configuration(directory.as_deref()));
            read.await.map_err(|e| e.to_string()).flatten().map(Arc::new).map_err(HttpError::Closed)
        };
        let config = self.config.get_or_try_init(read).await?.clone();
        let name = ServerName::try_from(split_port(self.address()).0.to_owned())
            .map_err(|_| HttpError::Closed(format!("{} is no name that a certificate can have", self.address())))?;
        let stream = self.host.connect(timeout).await?;
        let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        let stream = lag::timeout(timeout, Box::pin(connecting)).await.map_err(|_| HttpError::Timeout)?;
        Ok(Box::new(stream.map_err(closed)?))
    }
}

/// The configuration from the files. As root only files that no other user can change are read.
fn configuration(directory: Option<&Path>) -> Result<ClientConfig, String> {
    let file = |name: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(path) = directory.map(|directory| directory.join(name)) else { return Ok(None) };
        match trusted::read(&path, MAX_PEM_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    };
    let certificates =
        |bytes: &[u8]| -> Vec<CertificateDer<'static>> { CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok).collect() };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(match file("ca.pem")? {
        Some(bytes) => certificates(&bytes),
        None => rustls_native_certs::load_native_certs().certs,
    });
    if store.is_empty() {
        return Err("there is no certificate authority to verify the engine with".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(store);
    match (file("cert.pem")?, file("key.pem")?) {
        (Some(chain), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| format!("key.pem: {e}"))?;
            builder.with_client_auth_cert(certificates(&chain), key).map_err(|e| format!("cert.pem and key.pem: {e}"))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn directory_without_usable_authority_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), "no certificate").unwrap();
        let error = configuration(Some(directory.path())).unwrap_err();
        assert!(error.contains("certificate authority") || error.contains("others"), "{error}");
    }

    #[test]
    fn key_that_is_no_key_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cert.pem"), "").unwrap();
        std::fs::write(directory.path().join("key.pem"), "no key").unwrap();
        assert!(configuration(Some(directory.path())).is_err());
    }
}
