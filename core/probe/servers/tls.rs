//! TLS for connections to servers. The certificates themselves are checked by the tls runbook. A discovered server is proven by
//! its process, a server on another host only by its certificate.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Stream;
use crate::probe::{Io, blocking};

/// Timeout of reading the certificate authorities of this machine.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Required proof of identity of a server behind TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// None: the connection is encrypted, and the server is not authenticated (`sslmode=require`).
    Encrypted,
    /// A certificate of one of these authorities; `None` for the trust store of this machine.
    Verified {
        /// Path of a PEM file.
        authorities: Option<String>,
        /// Whether the host name has to match too (`verify-full`).
        name: bool,
    },
}

impl Trust {
    /// From `sslmode` and `sslrootcert` (libpq, "SSL Mode Descriptions"); `None` if TLS is not required.
    #[must_use]
    pub fn of_sslmode(mode: &str, root: Option<String>) -> Option<Self> {
        let authorities = root.filter(|r| r != "system");
        match mode {
            "require" if authorities.is_none() => Some(Self::Encrypted),
            // libpq: with a root certificate `require` means `verify-ca`
            "require" | "verify-ca" => Some(Self::Verified { authorities, name: false }),
            "verify-full" => Some(Self::Verified { authorities, name: true }),
            _ => None,
        }
    }

    /// Whether a server that passes verification may receive a password.
    #[must_use]
    pub fn proves(&self) -> bool {
        match self {
            Self::Encrypted => false,
            // a private authority vouches for its own servers; public ones for every holder of a host name
            Self::Verified { authorities, name } => *name || authorities.is_some(),
        }
    }
}

/// Accepts any certificate, or any certificate of known authorities regardless of the name; the handshake itself is verified.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authorities: Option<RootCertStore>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, authorities, chain, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Client configuration for a level of trust. Reads the authorities.
fn client(io: &Io, trust: &Trust) -> std::io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(std::io::Error::other)?;
    let lenient = |authorities| Arc::new(Lenient { provider: provider.clone(), authorities });
    Ok(match trust {
        Trust::Encrypted => builder.dangerous().with_custom_certificate_verifier(lenient(None)).with_no_client_auth(),
        Trust::Verified { authorities, name: false } => {
            let store = store(io, authorities.as_deref())?;
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(store))).with_no_client_auth()
        }
        Trust::Verified { authorities, name: true } => {
            builder.with_root_certificates(store(io, authorities.as_deref())?).with_no_client_auth()
        }
    })
}

/// Authorities in a PEM file, or the trust store of this machine.
fn store(io: &Io, file: Option<&str>) -> std::io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let certificates = match file {
        Some(path) => {
            let bytes =
                io.read(path).map_err(|e| std::io::Error::new(e.kind(), format!("certificate authorities {path}: {e}")))?;
            CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect()
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        let source = file.unwrap_or("the certificate store of this machine");
        return Err(std::io::Error::other(format!("{source} contains no certificate authority")));
    }
    Ok(store)
}

/// Establishes TLS on a connection to the server called `name`.
pub(in crate::probe) async fn over_tls(stream: Stream, name: &str, trust: &Trust) -> std::io::Result<Stream> {
    let trust = trust.clone();
    let config = blocking::run("certificate authorities", "this machine", READ_TIMEOUT, move |io| client(io, &trust)).await;
    let config = config.map_err(std::io::Error::other)??;
    let name =
        ServerName::try_from(name.to_owned()).or_else(|_| ServerName::try_from("localhost")).map_err(std::io::Error::other)?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_is_mapped_like_libpq() {
        let of = |mode: &str, root: Option<&str>| Trust::of_sslmode(mode, root.map(str::to_owned));
        assert_eq!((of("prefer", None), of("require", None)), (None, Some(Trust::Encrypted)));
        let file = || Some("/ca.pem".to_owned());
        assert_eq!(of("require", Some("/ca.pem")), Some(Trust::Verified { authorities: file(), name: false }));
        assert_eq!(of("verify-full", Some("system")), Some(Trust::Verified { authorities: None, name: true }));
        assert!(of("verify-full", None).is_some_and(|t| t.proves()) && of("verify-ca", None).is_some_and(|t| !t.proves()));
    }
}
