//! A TLS handshake that accepts every certificate, to examine it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::model::StartTls;
use crate::probe::lag;

/// Key type of the requested certificate, for servers with two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    /// The server chooses.
    Any,
    /// RSA.
    Rsa,
    /// ECDSA.
    Ecdsa,
}

/// Error of a TLS handshake without a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum HandshakeError {
    /// Connection refused.
    Refused,
    /// Timeout of the connection or of the handshake.
    Timeout,
    /// The server closed the connection during the handshake.
    Closed,
    /// The server does not speak TLS; its response.
    NotTls(String),
    /// The server rejected the handshake; its alert.
    Alert(String),
    /// The exchange before TLS failed; the server's response.
    NoStartTls(String),
    /// The connection failed, with the reason.
    Unreachable(String),
}

/// Result of a handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Handshake {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// `TLSv1.3`.
    pub(super) version: String,
}

/// Stores the chain, also if the handshake fails afterwards.
#[derive(Debug)]
struct Collector {
    chain: Mutex<Vec<CertificateDer<'static>>>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Collector {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Ok(mut chain) = self.chain.lock() {
            *chain = std::iter::once(leaf).chain(rest).map(|c| c.clone().into_owned()).collect();
        }
        Ok(ServerCertVerified::assertion())
    }

    // no data is sent to this server: proof of the private key is not needed, and a weak key must not hide the certificate
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

const RSA: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
    // servers send a certificate with this signature only to clients that offer it
    SignatureScheme::RSA_PKCS1_SHA1,
];

const ECDSA: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

/// Performs a handshake over `stream` with server name `name` (an address is not sent as SNI).
pub(super) async fn perform_handshake<S>(
    mut stream: S,
    name: Option<&str>,
    first: Option<StartTls>,
    key_type: KeyType,
    timeout: Duration,
) -> Result<Handshake, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let schemes = match key_type {
        KeyType::Any => [ECDSA, RSA].concat(),
        KeyType::Rsa => RSA.to_vec(),
        KeyType::Ecdsa => ECDSA.to_vec(),
    };
    let collector = Arc::new(Collector { chain: Mutex::default(), schemes });
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|b| b.dangerous().with_custom_certificate_verifier(collector.clone()).with_no_client_auth());
    let mut config = config.map_err(|e| HandshakeError::Unreachable(e.to_string()))?;
    let server = if let Some(Ok(server)) = name.map(|n| ServerName::try_from(n.to_owned())) {
        server
    } else {
        config.enable_sni = false;
        ServerName::IpAddress(IpAddr::from([127, 0, 0, 1]).into())
    };
    let conversation = async {
        if let Some(first) = first {
            start_tls(&mut stream, first).await?;
        }
        let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(server, &mut stream).await;
        match connected {
            Ok(tls) => {
                let version = tls.get_ref().1.protocol_version().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
                Ok(version.replace("TLSv1_", "TLSv1."))
            }
            Err(e) => Err(why(&e)),
        }
    };
    let ended = lag::timeout(timeout, conversation).await.unwrap_or(Err(HandshakeError::Timeout));
    let chain = collector.chain.lock().map(|c| c.clone()).unwrap_or_default();
    match ended {
        Ok(version) => Ok(Handshake { chain, version }),
        // the server may require a client certificate, for example; its own was received
        Err(_) if !chain.is_empty() => Ok(Handshake { chain, version: String::new() }),
        Err(e) => Err(e),
    }
}

fn why(error: &std::io::Error) -> HandshakeError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(alert)) => HandshakeError::Alert(format!("{alert:?}")),
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. }) => {
            HandshakeError::NotTls("the response is not TLS".to_owned())
        }
        Some(Error::PeerIncompatible(e)) => HandshakeError::Alert(format!("{e:?}")),
        Some(other) => HandshakeError::NotTls(other.to_string()),
        None => HandshakeError::Closed,
    }
}

async fn start_tls<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, first: StartTls) -> Result<(), HandshakeError> {
    let closed = |_| HandshakeError::Closed;
    match first {
        StartTls::Postgres => {
            // length 8, code 80877103 (protocol message formats, SSLRequest)
            stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.map_err(closed)?;
            match stream.read_u8().await.map_err(closed)? {
                b'S' => Ok(()),
                b'N' => Err(HandshakeError::NoStartTls("TLS is disabled on the server".to_owned())),
                _ => Err(HandshakeError::NotTls("the response is not PostgreSQL's protocol".to_owned())),
            }
        }
        StartTls::Smtp => {
            smtp_reply(stream, "220").await?;
            stream.write_all(b"EHLO opsctl.localhost\r\n").await.map_err(closed)?;
            smtp_reply(stream, "250").await?;
            stream.write_all(b"STARTTLS\r\n").await.map_err(closed)?;
            smtp_reply(stream, "220").await
        }
    }
}

/// Reads a reply of one or more lines (RFC 5321 §4.2).
async fn smtp_reply<S: AsyncRead + Unpin>(stream: &mut S, code: &str) -> Result<(), HandshakeError> {
    let mut line = Vec::new();
    for _ in 0..4096 {
        let byte = stream.read_u8().await.map_err(|_| HandshakeError::Closed)?;
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if text.as_bytes().get(3) != Some(&b'-') {
            return if text.starts_with(code) {
                Ok(())
            } else {
                Err(HandshakeError::NoStartTls(text.chars().take(100).collect()))
            };
        }
        line.clear();
    }
    Err(HandshakeError::NoStartTls("the reply exceeds 4096 bytes".to_owned()))
}
