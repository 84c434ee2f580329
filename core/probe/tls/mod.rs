//! Certificates: served, on disk, and their renewal. Chains are collected even if they are not trusted; the judge evaluates them.

#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod handshake;
mod renewal;
mod trust;
mod x509;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use handshake::HandshakeError;
pub use renewal::{Lineage, Renewers, lineage_of, lineages};
pub use trust::authorities;
pub use x509::Certificate;

use super::io::Root;
use super::{Memo, ProbeCx, ProbeError, blocking};
use crate::model::address::join;
use crate::model::{CertificateRef, CertificateSource, StartTls};
use crate::probe::io::clock;
use crate::probe::names;
use crate::probe::network::netns;
use crate::probe::network::netns::ConnectError;
use crate::probe::proc::table::SharedProcessTable;
use handshake::{Handshake, KeyType, perform_handshake};
use trust::{Authorities, Trust};

/// Timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a handshake after the connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);

/// Timeout of reading a file.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Size limit of a certificate file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Length limit of a chain; the rest is ignored.
const MAX_CHAIN_LENGTH: usize = 50;

/// Concurrent handshakes: each takes a thread for its connection, and CPU time for its cryptography.
const MAX_HANDSHAKES: usize = 64;

/// State shared by all certificate checks of a run.
pub struct Tls {
    trust: Trust,
    permits: Semaphore,
    renewers: Memo<(), Result<Arc<Renewers>, ProbeError>>,
    lineages: Memo<String, Result<Arc<Lineage>, ProbeError>>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            trust: Trust::default(),
            permits: Semaphore::new(MAX_HANDSHAKES),
            renewers: Memo::default(),
            lineages: Memo::default(),
        }
    }
}

impl Tls {
    /// Programs and cron lines that renew certificates on this host; read once per run.
    pub async fn renewers(&self, processes: &SharedProcessTable) -> Result<Arc<Renewers>, ProbeError> {
        self.renewers.get((), || async { renewal::renewers(processes).await.map(Arc::new) }).await
    }

    /// A lineage in the root of `pid`, or of this process; read once per run.
    pub async fn lineage(&self, pid: Option<i32>, name: &str) -> Result<Arc<Lineage>, ProbeError> {
        self.lineages.get(name.to_owned(), || async { renewal::lineage(pid, name.to_owned()).await.map(Arc::new) }).await
    }
}

impl ProbeCx {
    /// The trust store for certificates, and the limit of concurrent handshakes.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        self.shared.get()
    }
}

/// A certificate chain and its verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chain {
    /// In the order they were sent, or of the file.
    pub certificates: Vec<Certificate>,
    /// Number of certificates.
    pub length: usize,
    /// Error of verifying it against the trusted authorities of this host, now.
    pub refused: Option<String>,
    /// The same at a time at which the first certificate is valid.
    pub refused_in_time: Option<String>,
    /// Whether the issuer of each certificate is trusted on this host, by its name.
    pub issuer_trusted: Vec<bool>,
    /// This host has no store of authorities: that the chain is refused is no evidence about it.
    pub unverifiable: bool,
}

impl Chain {
    /// The first certificate.
    #[must_use]
    pub fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first()
    }
}

/// The result for one server name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServedCertificate {
    /// The requested server name, or `None` without SNI.
    pub name: Option<String>,
    /// Index of the chain.
    pub chain: Option<usize>,
    /// Error of the handshake.
    pub failed: Option<HandshakeError>,
    /// `TLSv1.3`.
    pub version: String,
}

/// All certificates served at one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServedCertificates {
    /// The address.
    pub address: String,
    /// The distinct chains.
    pub chains: Vec<Chain>,
    /// One per server name, and per key type for servers with two.
    pub served: Vec<ServedCertificate>,
}

/// Requests the certificates of `reference`.
pub async fn served(cx: &ProbeCx, reference: &CertificateRef, authorities: &[String]) -> Result<ServedCertificates, ProbeError> {
    let authorities = cx.tls().trust.get(authorities).await?;
    let (pid, address, first, kinds) = match &reference.source {
        CertificateSource::Nginx { pid, address, files, .. } => {
            let kinds: &[KeyType] = if files.len() > 1 { &[KeyType::Rsa, KeyType::Ecdsa] } else { &[KeyType::Any] };
            (Some(*pid), address.parse::<SocketAddr>().ok(), None, kinds)
        }
        CertificateSource::Endpoint { host, port, first, from } => {
            let pid = match from {
                Some(name) => Some(cx.pid_of(name).await?),
                None => None,
            };
            match names::first_address(pid, host, *port).await? {
                Ok(address) => (pid, Some(address), *first, &[KeyType::Any][..]),
                Err(why) => {
                    let failed = ServedCertificate {
                        name: Some(host.clone()),
                        failed: Some(HandshakeError::Unreachable(why)),
                        ..ServedCertificate::default()
                    };
                    return Ok(ServedCertificates {
                        address: join(host, *port),
                        served: vec![failed],
                        ..ServedCertificates::default()
                    });
                }
            }
        }
        _ => return Err(ProbeError::Skip("it is not served".to_owned())),
    };
    let address = address.ok_or_else(|| ProbeError::Skip("it has no address to connect to".to_owned()))?;
    let mut presented = ServedCertificates { address: address.to_string(), ..ServedCertificates::default() };
    let names: Vec<Option<&str>> =
        if reference.names.is_empty() { vec![None] } else { reference.names.iter().map(|n| Some(n.as_str())).collect() };
    let requests = names.iter().flat_map(|name| kinds.iter().map(move |kind| (*name, *kind)));
    let results = futures_util::future::join_all(requests.map(|(name, kind)| async move {
        // never closed, so acquiring cannot fail
        let _permit = cx.tls().permits.acquire().await;
        (name, request_certificate(pid, address, name, first, kind).await)
    }))
    .await;
    let mut known: Vec<Vec<CertificateDer<'static>>> = Vec::new();
    for (name, result) in results {
        let mut served = ServedCertificate { name: name.map(str::to_owned), ..ServedCertificate::default() };
        match result? {
            Ok(completed) => {
                let index = known.iter().position(|c| *c == completed.chain).unwrap_or_else(|| {
                    presented.chains.push(chain(&completed.chain, &authorities));
                    known.push(completed.chain);
                    known.len() - 1
                });
                served.chain = Some(index);
                served.version = completed.version;
            }
            Err(why) => served.failed = Some(why),
        }
        presented.served.push(served);
    }
    Ok(presented)
}

/// The server name to request: for a wildcard, a name that it covers.
#[must_use]
pub fn requested_name(name: &str) -> String {
    name.strip_prefix("*.").map_or_else(|| name.to_owned(), |rest| format!("www.{rest}"))
}

async fn request_certificate(
    pid: Option<i32>,
    address: SocketAddr,
    name: Option<&str>,
    first: Option<StartTls>,
    kind: KeyType,
) -> Result<Result<Handshake, HandshakeError>, ProbeError> {
    let stream = match netns::connect_as(pid, address, CONNECT_TIMEOUT).await? {
        Ok(stream) => stream,
        Err(ConnectError::Refused) => return Ok(Err(HandshakeError::Refused)),
        Err(ConnectError::Timeout) => return Ok(Err(HandshakeError::Timeout)),
        Err(ConnectError::Other(why)) => return Ok(Err(HandshakeError::Unreachable(why))),
    };
    let name = name.map(requested_name).filter(|n| n.parse::<IpAddr>().is_err());
    Ok(perform_handshake(stream, name.as_deref(), first, kind, HANDSHAKE_TIMEOUT).await)
}

fn chain(ders: &[CertificateDer<'static>], authorities: &Authorities) -> Chain {
    let ders = &ders[..ders.len().min(MAX_CHAIN_LENGTH)];
    let read: Vec<Option<Certificate>> = ders.iter().map(|der| x509::facts(der).ok()).collect();
    // without the first certificate, the next one would be taken for it; any other costs only itself
    let leaf_is_read = read.first().is_some_and(Option::is_some);
    let certificates: Vec<Certificate> = read.into_iter().filter(|_| leaf_is_read).flatten().collect();
    let now = clock::now();
    let mut chain = Chain { length: ders.len(), ..Chain::default() };
    chain.refused = authorities.refuses(ders, now);
    if let Some(leaf) = certificates.first() {
        let minute = SignedDuration::from_mins(1);
        let from = leaf.not_before.saturating_add(minute).unwrap_or(now);
        let until = leaf.not_after.saturating_sub(minute).unwrap_or(now);
        let in_time = now.max(from).min(until.max(leaf.not_before));
        // verifying signatures is expensive; mostly the chain is valid now
        chain.refused_in_time = if in_time == now { chain.refused.clone() } else { authorities.refuses(ders, in_time) };
    }
    chain.issuer_trusted = certificates.iter().map(|c| authorities.contains_subject(&c.issuer_hash)).collect();
    chain.unverifiable = authorities.no_store && chain.refused_in_time.is_some();
    chain.certificates = certificates;
    chain
}

/// A certificate file and its key file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateFile {
    /// Path below the root of its server.
    pub path: String,
    /// Its chain.
    pub chain: Chain,
    /// Error of reading it.
    pub problem: Option<String>,
    /// The file exists; permission denied.
    pub denied: bool,
    /// It is DER, which servers that require PEM reject.
    pub der: bool,
    /// It also contains a private key.
    pub holds_key: bool,
    /// Modification time of the file or of its symbolic link.
    pub modified: Option<Timestamp>,
    /// Path of the key file.
    pub key: Option<String>,
    /// Whether the key belongs to the first certificate; `None` if unknown.
    pub key_matches: Option<bool>,
    /// Reason why that is unknown.
    pub key_problem: Option<String>,
}

/// Reads certificate files below the root of `pid` (or of this process).
pub async fn files(
    cx: &ProbeCx,
    pid: Option<i32>,
    paths: Vec<(String, Option<String>)>,
    authorities: &[String],
) -> Result<Vec<CertificateFile>, ProbeError> {
    let authorities = cx.tls().trust.get(authorities).await?;
    let from = pid.map_or_else(|| "/".to_owned(), Root::name);
    blocking::run("certificates", &from.clone(), READ_TIMEOUT, move |io| {
        let root = Root::of_or_own(io, pid).map_err(|e| ProbeError::io("certificates", &from, &e))?;
        Ok(paths.into_iter().map(|(path, key)| one_file(&root, path, key, &authorities)).collect())
    })
    .await?
}

fn one_file(root: &Root, path: String, key: Option<String>, authorities: &Arc<Authorities>) -> CertificateFile {
    let mut file = CertificateFile {
        modified: root.modified(&path),
        key: key.filter(|k| !k.is_empty()),
        path,
        ..CertificateFile::default()
    };
    let bytes = match root.bytes(&file.path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => {
            file.denied = e.kind() == std::io::ErrorKind::PermissionDenied;
            file.problem =
                Some(if e.kind() == std::io::ErrorKind::NotFound { "it is not there".to_owned() } else { e.to_string() });
            return file;
        }
    };
    file.holds_key = x509::has_private_key(&bytes);
    file.der = memchr::memmem::find(&bytes, b"-----BEGIN").is_none();
    match x509::certificates(&bytes) {
        Ok(ders) => {
            file.chain = chain(&ders, authorities);
            file.chain.length = ders.len();
        }
        Err(why) => file.problem = Some(why),
    }
    let (Some(key), Some(leaf)) = (&file.key, file.chain.leaf()) else { return file };
    let public = match root.bytes(key, MAX_FILE_BYTES) {
        Ok(bytes) => x509::public_of(&bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err("it is not there".to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Err("needs root".to_owned()),
        Err(e) => Err(e.to_string()),
    };
    match public {
        Ok(public) => file.key_matches = Some(public == leaf.key_sha256),
        Err(why) => file.key_problem = Some(why),
    }
    file
}
