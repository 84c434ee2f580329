//! Certificates: what is served, what lies on disk, and what renews them. Everything is collected first, also from a chain that nobody
//! should trust; what it means is for the judge.

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

pub use handshake::NoHandshake;
pub use renewal::{Lineage, Renewers, lineage_of, lineages};
pub use trust::authorities;
pub use x509::Certificate;

use super::io::Root;
use super::names;
use super::netns::{self, NoConnection};
use super::table::SharedProcessTable;
use super::{Memo, ProbeCx, ProbeError, blocking, clock};
use crate::model::{CertificateRef, CertificateSource, StartTls};
use handshake::{Shaken, Wanted, shake};
use trust::{Authorities, Trust};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a handshake may take once connected.
const SHAKE: Duration = Duration::from_secs(4);

/// How long reading a file may take.
const READ: Duration = Duration::from_secs(2);

/// A larger file is no certificate, in bytes.
const LARGEST: u64 = 16 << 20;

/// Of a longer chain only the beginning is looked at.
const LONGEST_CHAIN: usize = 50;

/// Handshakes at once: each takes a thread for its connection, and the processor for its mathematics.
const AT_ONCE: usize = 64;

/// What is shared by all certificate checks of a run.
pub struct Tls {
    trust: Trust,
    permits: Semaphore,
    renewers: Memo<(), Result<Arc<Renewers>, ProbeError>>,
    lineages: Memo<String, Result<Arc<Lineage>, ProbeError>>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { trust: Trust::default(), permits: Semaphore::new(AT_ONCE), renewers: Memo::default(), lineages: Memo::default() }
    }
}

impl Tls {
    /// Programs and cron lines that renew certificates on this host; read once per run.
    pub async fn renewers(&self, processes: &SharedProcessTable) -> Result<Arc<Renewers>, ProbeError> {
        self.renewers.get((), || async { renewal::renewers(processes).await.map(Arc::new) }).await
    }

    /// What is known of a lineage in the root of `pid`, or of this process; read once per run.
    pub async fn lineage(&self, pid: Option<i32>, name: &str) -> Result<Arc<Lineage>, ProbeError> {
        self.lineages.get(name.to_owned(), || async { renewal::lineage(pid, name.to_owned()).await.map(Arc::new) }).await
    }
}

/// A chain, and where it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chain {
    /// In the order they were sent or stand in the file.
    pub certificates: Vec<Certificate>,
    /// How many there are.
    pub length: usize,
    /// Why it does not lead to an authority that is trusted here, at this moment.
    pub refused: Option<String>,
    /// The same at a moment at which the first certificate is valid.
    pub refused_in_time: Option<String>,
    /// Which of the certificates have an issuer that is trusted here, by its name.
    pub issuer_trusted: Vec<bool>,
}

impl Chain {
    /// The first certificate.
    #[must_use]
    pub fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first()
    }
}

/// What was served for one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// The name that was asked for; none asked without.
    pub name: Option<String>,
    /// Index of the chain.
    pub chain: Option<usize>,
    /// Why there is none.
    pub failed: Option<NoHandshake>,
    /// `TLSv1.3`.
    pub version: String,
}

/// Everything that was served at one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Looked {
    /// Where.
    pub address: String,
    /// The different chains.
    pub chains: Vec<Chain>,
    /// One for each name, and for each kind of key where there are two.
    pub served: Vec<Served>,
}

/// Asks for the certificates of `reference`.
pub async fn served(cx: &ProbeCx, reference: &CertificateRef, authorities: &[String]) -> Result<Looked, ProbeError> {
    let authorities = cx.tls.trust.get(authorities).await?;
    let (pid, address, first, kinds) = match &reference.source {
        CertificateSource::Nginx { pid, address, files, .. } => {
            let kinds: &[Wanted] = if files.len() > 1 { &[Wanted::Rsa, Wanted::Ecdsa] } else { &[Wanted::Any] };
            (Some(*pid), address.parse::<SocketAddr>().ok(), None, kinds)
        }
        CertificateSource::Endpoint { host, port, first, from } => {
            let pid = match from {
                Some(name) => Some(cx.pid_of(name).await?),
                None => None,
            };
            match names::first_address(pid, host, *port).await? {
                Ok(address) => (pid, Some(address), *first, &[Wanted::Any][..]),
                Err(why) => {
                    let failed =
                        Served { name: Some(host.clone()), failed: Some(NoHandshake::Unreachable(why)), ..Served::default() };
                    return Ok(Looked { address: format!("{host}:{port}"), served: vec![failed], ..Looked::default() });
                }
            }
        }
        _ => return Err(ProbeError::Skip("it is not served".to_owned())),
    };
    let address = address.ok_or_else(|| ProbeError::Skip("it has no address to connect to".to_owned()))?;
    let mut looked = Looked { address: address.to_string(), ..Looked::default() };
    let names: Vec<Option<&str>> =
        if reference.names.is_empty() { vec![None] } else { reference.names.iter().map(|n| Some(n.as_str())).collect() };
    let asks = names.iter().flat_map(|name| kinds.iter().map(move |kind| (*name, *kind)));
    let answers = futures_util::future::join_all(asks.map(|(name, kind)| async move {
        // never closed, so acquiring cannot fail
        let _permit = cx.tls.permits.acquire().await;
        (name, ask(pid, address, name, first, kind).await)
    }))
    .await;
    let mut known: Vec<Vec<CertificateDer<'static>>> = Vec::new();
    for (name, answer) in answers {
        let mut served = Served { name: name.map(str::to_owned), ..Served::default() };
        match answer? {
            Ok(shaken) => {
                let index = known.iter().position(|c| *c == shaken.chain).unwrap_or_else(|| {
                    looked.chains.push(chain(&shaken.chain, &authorities));
                    known.push(shaken.chain);
                    known.len() - 1
                });
                served.chain = Some(index);
                served.version = shaken.version;
            }
            Err(why) => served.failed = Some(why),
        }
        looked.served.push(served);
    }
    Ok(looked)
}

/// A wildcard is asked for with a name that it covers.
#[must_use]
pub fn asked_name(name: &str) -> String {
    name.strip_prefix("*.").map_or_else(|| name.to_owned(), |rest| format!("www.{rest}"))
}

async fn ask(
    pid: Option<i32>,
    address: SocketAddr,
    name: Option<&str>,
    first: Option<StartTls>,
    kind: Wanted,
) -> Result<Result<Shaken, NoHandshake>, ProbeError> {
    let stream = match netns::connect_as(pid, address, CONNECT).await? {
        Ok(stream) => stream,
        Err(NoConnection::Refused) => return Ok(Err(NoHandshake::Refused)),
        Err(NoConnection::Timeout) => return Ok(Err(NoHandshake::Timeout)),
        Err(NoConnection::Other(why)) => return Ok(Err(NoHandshake::Unreachable(why))),
    };
    let name = name.map(asked_name).filter(|n| n.parse::<IpAddr>().is_err());
    Ok(shake(stream, name.as_deref(), first, kind, SHAKE).await)
}

fn chain(ders: &[CertificateDer<'static>], authorities: &Authorities) -> Chain {
    let ders = &ders[..ders.len().min(LONGEST_CHAIN)];
    let certificates: Vec<Certificate> = ders.iter().filter_map(|d| x509::facts(d).ok()).collect();
    let now = clock::now();
    let mut chain = Chain { length: ders.len(), ..Chain::default() };
    chain.refused = authorities.refuses(ders, now);
    if let Some(leaf) = certificates.first() {
        let minute = SignedDuration::from_mins(1);
        let from = leaf.not_before.saturating_add(minute).unwrap_or(now);
        let until = leaf.not_after.saturating_sub(minute).unwrap_or(now);
        let in_time = now.max(from).min(until.max(leaf.not_before));
        // signatures are dear: mostly it is in time now
        chain.refused_in_time = if in_time == now { chain.refused.clone() } else { authorities.refuses(ders, in_time) };
    }
    chain.issuer_trusted = certificates.iter().map(|c| authorities.knows(&c.issuer_hash)).collect();
    chain.certificates = certificates;
    chain
}

/// A certificate file, and the key beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateFile {
    /// As its server sees it.
    pub path: String,
    /// What stands in it.
    pub chain: Chain,
    /// Why nothing was read.
    pub problem: Option<String>,
    /// It is there and not ours to read.
    pub denied: bool,
    /// It is in DER, which servers that want PEM do not take.
    pub der: bool,
    /// A private key stands in it too.
    pub holds_key: bool,
    /// When what is read there changed.
    pub modified: Option<Timestamp>,
    /// The key's path.
    pub key: Option<String>,
    /// Whether the key is that of the first certificate; none when that cannot be told.
    pub key_matches: Option<bool>,
    /// Why that cannot be told.
    pub key_problem: Option<String>,
}

/// Reads certificate files as `pid` (or this process) sees them.
pub async fn files(
    cx: &ProbeCx,
    pid: Option<i32>,
    paths: Vec<(String, Option<String>)>,
    authorities: &[String],
) -> Result<Vec<CertificateFile>, ProbeError> {
    let authorities = cx.tls.trust.get(authorities).await?;
    let from = pid.map_or_else(|| "/".to_owned(), Root::name);
    blocking::run("certificates", &from.clone(), READ, move |io| {
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
    let bytes = match root.bytes(&file.path, LARGEST) {
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
    let public = match root.bytes(key, LARGEST) {
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
