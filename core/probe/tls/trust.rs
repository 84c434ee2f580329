//! Whether a chain leads to an authority that is trusted here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use tokio::sync::OnceCell;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::x509;
use crate::probe::{Io, ProbeError, blocking};

/// The authorities that are trusted here.
pub(super) struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    subjects: HashSet<String>,
}

/// Loads those of this machine once per run.
#[derive(Default)]
pub(super) struct Trust(OnceCell<Result<Arc<Authorities>, ProbeError>>);

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

/// The certificates of all authorities that are trusted here, for a client of ours; a file that cannot be read is left out.
#[must_use]
pub fn authorities(io: &Io, more: &[String]) -> Vec<CertificateDer<'static>> {
    let mut all = rustls_native_certs::load_native_certs().certs;
    let files = more.iter().filter_map(|path| x509::certificates(&io.read(path).ok()?).ok());
    all.extend(files.flatten());
    all
}

fn load(io: &Io, more: &[String]) -> Result<Arc<Authorities>, ProbeError> {
    // a machine without a store trusts nobody, which every certificate then says
    let mut all = rustls_native_certs::load_native_certs().certs;
    for path in more {
        let bytes = io.read(path).map_err(|e| ProbeError::io("an authority of [runbooks.tls] ca_files", path, &e))?;
        let certificates =
            x509::certificates(&bytes).map_err(|e| ProbeError::failed("an authority of [runbooks.tls] ca_files", path, &e))?;
        all.extend(certificates);
    }
    let anchors: Vec<TrustAnchor<'static>> =
        all.iter().filter_map(|c| anchor_from_trusted_cert(c).ok().map(|a| a.to_owned())).collect();
    let subjects = all.iter().filter_map(|c| x509::facts(c).ok()).map(|f| f.subject_hash).collect();
    Ok(Arc::new(Authorities { anchors, subjects }))
}

impl Authorities {
    /// Whether one of them has this subject (by its hash).
    pub(super) fn knows(&self, subject_hash: &str) -> bool {
        self.subjects.contains(subject_hash)
    }

    /// Why a chain does not lead to one of them at that moment; none when it does.
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
