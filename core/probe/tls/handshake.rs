//! One TLS handshake that takes whatever certificate comes, to look at it.

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

/// Which kind of key the certificate should have, for servers with two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whatever the server likes best.
    Any,
    /// RSA.
    Rsa,
    /// ECDSA.
    Ecdsa,
}

/// Why there is no certificate to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum NoHandshake {
    /// Nobody listens.
    Refused,
    /// No connection in time, or no answer.
    Timeout,
    /// Closed in the middle.
    Closed,
    /// It does not speak TLS; what it said.
    NotTls(String),
    /// It said no; what it said.
    Alert(String),
    /// Before TLS began; what it said.
    NoStartTls(String),
    /// The connection could not be made.
    Unreachable(String),
}

/// What a handshake brought.
#[derive(Debug, Clone, Default)]
pub(super) struct Shaken {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// `TLSv1.3`.
    pub(super) version: String,
}

/// Keeps the chain, also when the handshake fails after it.
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

    // nothing is sent to this server: whether it holds the key is no question here, and a weak key must not hide the certificate
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
    // a certificate signed so is sent only to who says that it takes it
    SignatureScheme::RSA_PKCS1_SHA1,
];

const ECDSA: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

/// Shakes hands over `stream` with a server that is called `name` (an address is sent as no name).
pub(super) async fn shake<S>(
    mut stream: S,
    name: Option<&str>,
    first: Option<StartTls>,
    wanted: Wanted,
    patience: Duration,
) -> Result<Shaken, NoHandshake>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let schemes = match wanted {
        Wanted::Any => [ECDSA, RSA].concat(),
        Wanted::Rsa => RSA.to_vec(),
        Wanted::Ecdsa => ECDSA.to_vec(),
    };
    let collector = Arc::new(Collector { chain: Mutex::default(), schemes });
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|b| b.dangerous().with_custom_certificate_verifier(collector.clone()).with_no_client_auth());
    let mut config = config.map_err(|e| NoHandshake::Unreachable(e.to_string()))?;
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
    let ended = lag::timeout(patience, conversation).await.unwrap_or(Err(NoHandshake::Timeout));
    let chain = collector.chain.lock().map(|c| c.clone()).unwrap_or_default();
    match ended {
        Ok(version) => Ok(Shaken { chain, version }),
        // it wants a certificate from us, for example: what it is was seen all the same
        Err(_) if !chain.is_empty() => Ok(Shaken { chain, version: String::new() }),
        Err(e) => Err(e),
    }
}

fn why(error: &std::io::Error) -> NoHandshake {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(alert)) => NoHandshake::Alert(format!("{alert:?}")),
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. }) => {
            NoHandshake::NotTls("what it answers is not TLS".to_owned())
        }
        Some(Error::PeerIncompatible(e)) => NoHandshake::Alert(format!("{e:?}")),
        Some(other) => NoHandshake::NotTls(other.to_string()),
        None => NoHandshake::Closed,
    }
}

async fn start_tls<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, first: StartTls) -> Result<(), NoHandshake> {
    let closed = |_| NoHandshake::Closed;
    match first {
        StartTls::Postgres => {
            // length 8, code 80877103 (protocol message formats, SSLRequest)
            stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.map_err(closed)?;
            match stream.read_u8().await.map_err(closed)? {
                b'S' => Ok(()),
                b'N' => Err(NoHandshake::NoStartTls("it has TLS switched off".to_owned())),
                _ => Err(NoHandshake::NotTls("it does not speak PostgreSQL's protocol".to_owned())),
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
async fn smtp_reply<S: AsyncRead + Unpin>(stream: &mut S, wanted: &str) -> Result<(), NoHandshake> {
    let mut line = Vec::new();
    for _ in 0..4096 {
        let byte = stream.read_u8().await.map_err(|_| NoHandshake::Closed)?;
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if text.as_bytes().get(3) != Some(&b'-') {
            return if text.starts_with(wanted) {
                Ok(())
            } else {
                Err(NoHandshake::NoStartTls(text.chars().take(100).collect()))
            };
        }
        line.clear();
    }
    Err(NoHandshake::NoStartTls("it talks without end".to_owned()))
}
