//! Renewed certificates, by the modification time of files that are served or kept.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{CertificateRef, CertificateSource, Change, ChangeKind};
use crate::probe::io::Root;
use crate::probe::{Io, ProbeCx, ProbeError, blocking};

/// Directory of certbot with the current certificates.
const LIVE_DIRECTORY: &str = "/etc/letsencrypt/live";

pub(super) async fn read(cx: &ProbeCx, since: Timestamp, timeout: Duration) -> Result<Vec<Change>, ProbeError> {
    let files: Vec<File> = cx.inventory.certificates.iter().flat_map(files).collect();
    blocking::run("changes of certificates", "their files", timeout, move |io| changes(io, &files, since)).await
}

/// A file below the root of a process, with the objects that use it.
struct File {
    pid: Option<i32>,
    path: String,
    certificate: String,
    servers: Vec<String>,
}

fn files(c: &CertificateRef) -> Vec<File> {
    let file = |pid: Option<i32>, path: &str, servers: Vec<String>| File {
        pid,
        path: path.to_owned(),
        certificate: c.name.clone(),
        servers,
    };
    match &c.source {
        CertificateSource::Nginx { server, pid, files, .. } => {
            files.iter().map(|(certificate, _)| file(Some(*pid), certificate, vec![server.clone()])).collect()
        }
        CertificateSource::File { path, server, pid, .. } => vec![file(*pid, path, server.iter().cloned().collect())],
        CertificateSource::Lineage { pid, used_by, .. } => {
            vec![file(*pid, &format!("{LIVE_DIRECTORY}/{}/cert.pem", c.name), used_by.clone())]
        }
        CertificateSource::Endpoint { .. } => Vec::new(),
    }
}

/// One change per certificate and second: a server with ten names may have one file.
fn changes(io: &Io, files: &[File], since: Timestamp) -> Vec<Change> {
    let mut found: BTreeMap<(i64, String), Change> = BTreeMap::new();
    for f in files {
        // the process may have exited
        let Ok(root) = Root::of_or_own(io, f.pid) else { continue };
        let Some(at) = root.modified(&f.path).filter(|at| *at >= since) else { continue };
        let lineage = f.path.strip_prefix(LIVE_DIRECTORY).and_then(|p| p.trim_start_matches('/').split('/').next());
        let subject = format!("certificate:{}", lineage.unwrap_or(&f.path));
        let change = found.remove(&(at.as_second(), subject.clone())).unwrap_or_else(|| {
            let description = if lineage.is_some() { "renewed" } else { "written" };
            Change::new(at, ChangeKind::Certificate, &subject, description)
        });
        let change = change.concerning(format!("certificate:{}", f.certificate)).concerning(format!("file:{}", f.path));
        let change = f.servers.iter().fold(change, |c, id| c.concerning(format!("server:{id}")));
        found.insert((at.as_second(), subject), change);
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn file_with_two_names_is_one_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.pem").display().to_string();
        std::fs::write(&path, "").unwrap();
        let file = |certificate: &str| File { pid: None, path: path.clone(), certificate: certificate.into(), servers: vec![] };
        let files = [file("a.org"), file("b.org")];
        let found = changes(&Io::for_test(), &files, Timestamp::UNIX_EPOCH);
        assert_eq!((found.len(), found[0].what.as_str()), (1, "written"));
        for entry in ["certificate:a.org", "certificate:b.org"] {
            assert!(found[0].concerns.contains(&entry.to_owned()), "{found:?}");
        }
        assert!(changes(&Io::for_test(), &files, Timestamp::MAX).is_empty());
        assert!(
            changes(&Io::for_test(), &[File { path: "/nonexistent".into(), ..file("c.org") }], Timestamp::UNIX_EPOCH).is_empty()
        );
    }
}
