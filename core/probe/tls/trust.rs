//! Verification of chains against the trusted authorities of this host.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use tokio::sync::OnceCell;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::x509;
use crate::probe::io::trusted;
use crate::probe::{Io, ProbeError, blocking, environment};

/// The trusted authorities of this host.
pub(super) struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    subjects: HashSet<String>,
    /// This host has no store of authorities (package `ca-certificates`), at most files of the configuration.
    pub(super) no_store: bool,
}

/// Loads the authorities once per run.
#[derive(Default)]
pub(super) struct Trust(OnceCell<Result<Arc<Authorities>, ProbeError>>);

/// Size limit of a file of certificate authorities, in bytes.
const MAX_AUTHORITIES: u64 = 16 << 20;

/// Stores of trusted authorities of distributions (Debian, Fedora, openSUSE, Alpine).
const STORE_FILES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];
const STORE_DIRECTORIES: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs"];

impl Trust {
    pub(super) async fn get(&self, more: &[String]) -> Result<Arc<Authorities>, ProbeError> {
        let more = more.to_vec();
        self.0
            .get_or_init(|| async {
                blocking::run("trusted authorities", "the system's store", Duration::from_secs(2), move |io| load(io, &more))
                    .await?
            })
            .await
            .clone()
    }
}

/// The certificates of all trusted authorities, for an HTTP client of opsctl; an unreadable file is skipped.
#[must_use]
pub fn authorities(_io: &Io, more: &[String]) -> Vec<CertificateDer<'static>> {
    let mut all = store();
    let files = more.iter().filter_map(|path| x509::certificates(&trusted::read(Path::new(path), MAX_AUTHORITIES).ok()?).ok());
    all.extend(files.flatten());
    // a client rejects the whole set because of one certificate that it cannot parse
    all.retain(|c| anchor_from_trusted_cert(c).is_ok());
    all
}

/// The store of this machine. `SSL_CERT_FILE` and `SSL_CERT_DIR` name another one; for root it must be owned by root: variables
/// preserved by `sudo` must not decide which authorities root trusts.
#[allow(clippy::disallowed_methods, reason = "inside blocking::run")]
fn store() -> Vec<CertificateDer<'static>> {
    let usable = |name: &str| match environment(name) {
        None => true,
        Some(paths) => {
            paths.split(':').all(|path| trusted::open(Path::new(path)).is_ok() || trusted::directory(Path::new(path)).is_ok())
        }
    };
    if ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().all(usable) {
        return rustls_native_certs::load_native_certs().certs;
    }
    let existing = |paths: &[&'static str], is: fn(&Path) -> bool| paths.iter().map(|p| Path::new(*p)).find(|p| is(p));
    rustls_native_certs::load_certs_from_paths(existing(STORE_FILES, Path::is_file), existing(STORE_DIRECTORIES, Path::is_dir))
        .certs
}

fn load(_io: &Io, more: &[String]) -> Result<Arc<Authorities>, ProbeError> {
    let mut all = store();
    let no_store = all.is_empty();
    for path in more {
        let bytes = trusted::read(Path::new(path), MAX_AUTHORITIES)
            .map_err(|e| ProbeError::failed("an authority of [runbooks.tls] ca_files", path, &e.to_string()))?;
        let certificates =
            x509::certificates(&bytes).map_err(|e| ProbeError::failed("an authority of [runbooks.tls] ca_files", path, &e))?;
        all.extend(certificates);
    }
    let anchors: Vec<TrustAnchor<'static>> =
        all.iter().filter_map(|c| anchor_from_trusted_cert(c).ok().map(|a| a.to_owned())).collect();
    let subjects = all.iter().filter_map(|c| x509::facts(c).ok()).map(|f| f.subject_hash).collect();
    Ok(Arc::new(Authorities { anchors, subjects, no_store }))
}

impl Authorities {
    /// Whether one of them has this subject (by its hash).
    pub(super) fn contains_subject(&self, subject_hash: &str) -> bool {
        self.subjects.contains(subject_hash)
    }

    /// The error of verifying a chain at that time; `None` if it is trusted.
    pub(super) fn refuses(&self, chain: &[CertificateDer<'_>], at: Timestamp) -> Option<String> {
        let (leaf, rest) = chain.split_first()?;
        let leaf = match EndEntityCert::try_from(leaf) {
            Ok(leaf) => leaf,
            Err(e) => return Some(format!("{e:?}")),
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0)));
        let verified =
            leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &self.anchors, rest, time, KeyUsage::server_auth(), None, None);
        verified.err().map(|e| format!("{e:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned())
    }
}
