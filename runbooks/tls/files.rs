//! Certificate files on disk and their private keys.

use std::time::Duration;

use opsctl_core::model::{
    CertificateRef, CertificateSource, Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object,
    Severity,
};
use opsctl_core::probe::tls::{self, CertificateFile};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::served::{EXPIRY, NOT_YET, WEAK};
use super::{Settings, key_of, validity};

const FILE: Code = Code {
    id: "tls.file",
    severities: &[Severity::Info, Severity::Crit],
    when: "a certificate file in a server's configuration is missing, empty, damaged or contains no certificate: the server keeps running, but would not restart (crit); the file contains its private key, or over 10 certificates (info)",
    hint: "restore the file before the server is restarted",
    ..Code::BASE
};

const MISMATCH: Code = Code {
    id: "tls.key-mismatch",
    severities: &[Severity::Crit],
    when: "the private key does not match its certificate: the server keeps running with the loaded one, but would not restart",
    hint: "find the private key of the certificate's signing request, or reissue the certificate",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "tls.files",
    title: "certificate files are valid and match their private keys",
    codes: &[FILE, MISMATCH, EXPIRY, NOT_YET, WEAK],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Number of certificates in a file above which it is reported.
const MAX_CERTIFICATES: usize = 10;

pub(super) struct Files {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    reference: Option<CertificateRef>,
    file: CertificateFile,
}

impl Check for Files {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.certificate_targets(|s| matches!(s, CertificateSource::File { .. }))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let removed = || ProbeError::Skip("it no longer exists".to_owned());
        let reference = cx.inventory.certificate(&target.id).ok_or_else(removed)?.clone();
        let CertificateSource::File { path, key, pid, .. } = &reference.source else { return Err(removed()) };
        let files = tls::files(cx, *pid, vec![(path.clone(), key.clone())], &self.settings.ca_files).await?;
        Ok(Evidence { file: files.into_iter().next().unwrap_or_default(), reference: Some(reference) })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(CertificateRef { source: CertificateSource::File { server, served, .. }, .. }) = &e.reference else {
            return Judgement::default();
        };
        let file = &e.file;
        let leaf = file.chain.leaf();
        let finding = |code: &'static Code, severity, message: String| {
            let identity = leaf.map_or_else(|| judged.target.id.clone(), |c| c.sha256.clone());
            let subject = Object::new(Kind::Certificate, judged.target.name.clone(), identity);
            let f =
                Finding::new(code, severity, subject, message).key(KeyKind::Certificate, key_of(server.as_deref(), &file.path));
            match server {
                Some(server) => f.key(KeyKind::Server, server),
                None => f,
            }
        };
        let mut judgement = Judgement::default();
        if file.denied {
            judgement.gaps.push(format!("reading {}: permission denied; needs root", file.path));
            return judgement;
        }
        if let Some(why) = &file.problem {
            judgement.findings.push(finding(&FILE, Severity::Crit, format!("{} cannot be used: {why}", file.path)));
            return judgement;
        }
        if file.der && *served {
            judgement.findings.push(finding(
                &FILE,
                Severity::Crit,
                format!("{} cannot be used: it is in DER format, and nginx requires PEM", file.path),
            ));
            return judgement;
        }
        let Some(leaf) = leaf else {
            judgement.findings.push(finding(
                &FILE,
                Severity::Crit,
                format!("{} cannot be used: its first certificate is damaged", file.path),
            ));
            return judgement;
        };
        match (file.key_matches, &file.key, &file.key_problem) {
            (Some(false), Some(key), _) => {
                judgement.findings.push(
                    finding(&MISMATCH, Severity::Crit, format!("{key} is not the key of {}", file.path))
                        .cite("certificate", &leaf.subject),
                );
            }
            (None, Some(key), Some(why)) if why == "it is not there" => {
                judgement.findings.push(finding(
                    &FILE,
                    Severity::Crit,
                    format!("{key}, the key of {}, does not exist", file.path),
                ));
            }
            (None, Some(key), Some(why)) if why == "it holds no private key" => {
                judgement.findings.push(finding(
                    &FILE,
                    Severity::Crit,
                    format!("{key}, the key of {}, cannot be used: {why}", file.path),
                ));
            }
            // a key that clients reject is reported by tls.weak
            (None, Some(key), Some(why)) if leaf.key_bits >= 2048 || leaf.key_type != "RSA" => {
                judgement.gaps.push(format!("whether {key} matches {}: {why}", file.path));
            }
            _ => {}
        }
        // some servers require the key and the certificate in one file
        if file.holds_key && file.key.as_deref().is_some_and(|k| k != file.path) {
            judgement.findings.push(
                finding(&FILE, Severity::Info, format!("{} contains a private key in addition to the certificate", file.path))
                    .hint("every user that can read the certificate can read the key: move the key to a separate file"),
            );
        }
        if file.chain.length > MAX_CERTIFICATES {
            judgement.findings.push(
                finding(&FILE, Severity::Info, format!("{} contains {} certificates", file.path, file.chain.length))
                    .hint("all of them are sent with every handshake; the chain needs two or three"),
            );
        }
        // served certificates are judged by the check of the served chain
        if !served {
            if leaf.not_before > judged.taken_at {
                judgement.findings.push(finding(
                    &NOT_YET,
                    Severity::Crit,
                    format!("{} is not valid before {}", file.path, leaf.not_before),
                ));
            } else if let Some(severity) = validity::too_short(&self.settings, leaf, judged.taken_at) {
                judgement.findings.push(
                    finding(&EXPIRY, severity, format!("{} {}", file.path, validity::words(leaf, judged.taken_at)))
                        .cite("until", validity::life(leaf)),
                );
            }
        } else if leaf.key_type == "RSA" && leaf.key_bits < 2048 {
            judgement.findings.push(finding(
                &WEAK,
                Severity::Warn,
                format!("{} has an RSA key of {} bits, which clients reject", file.path, leaf.key_bits),
            ));
        }
        judgement
    }
}
