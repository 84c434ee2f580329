//! Served certificates: validity, names, chain, trust, key strength and staleness.

use std::net::IpAddr;
use std::time::Duration;

use opsctl_core::model::address::{join, last_port};
use opsctl_core::model::{
    CertificateRef, CertificateSource, Check, CheckSpec, Code, DependsOn, Finding, Impact, Inventory, Judged, Judgement, KeyKind,
    Kind, Object, Plan, Refusal, Role, Severity, quantity,
};
use opsctl_core::probe::tls::{self, Certificate, CertificateFile, Chain, HandshakeError, ServedCertificates, lineage_of};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, key_of, served_key, validity};
use crate::shared::reload_nginx::{RELOAD, Reload};
use crate::shared::servers::Server;

pub(super) const EXPIRY: Code = Code {
    id: "tls.expiry",
    severities: &[Severity::Warn, Severity::Crit],
    when: "less than {warn_days} and {warn_share} % of a certificate's lifetime are left (warn), or less than {crit_days} and {crit_share} % of it, or it has expired (crit)",
    hint: "renew it: certbot renew --cert-name NAME, or request a new one from its issuer",
    impacts: &[Impact::confirmed(Role::CertificateRejected, KeyKind::Certificate, "certificate has expired")],
    depends_on: &[&[DependsOn::likely(Role::ClockWrong, KeyKind::Host, "")]],
};

const CHAIN_EXPIRY: Code = Code {
    id: "tls.chain-expiry",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a chain certificate has expired or expires soon, before the server certificate (crit; warn if there is another valid path, which old clients do not find)",
    hint: "serve the issuer's current chain",
    ..Code::BASE
};

pub(super) const NOT_YET: Code = Code {
    id: "tls.not-yet-valid",
    severities: &[Severity::Crit],
    when: "a certificate is not valid yet",
    hint: "check the clock of this host first: opsctl time",
    impacts: &[Impact::confirmed(Role::CertificateRejected, KeyKind::Certificate, "certificate is not valid yet")],
    depends_on: &[&[DependsOn::likely(Role::ClockWrong, KeyKind::Host, "")]],
};

const HOSTNAME: Code = Code {
    id: "tls.hostname",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the certificate matches none of the names it is served for (crit), or not all of them (warn)",
    hint: "a wildcard matches one label only; the common name is ignored",
    impacts: &[Impact::confirmed(Role::CertificateRejected, KeyKind::Certificate, "certificate is for another name")],
    ..Code::BASE
};

const INCOMPLETE: Code = Code {
    id: "tls.chain-incomplete",
    severities: &[Severity::Warn],
    when: "the issuer of a certificate is neither sent nor trusted by this host: browsers that have cached it connect, other programs fail",
    hint: "serve the whole chain (fullchain.pem, not cert.pem)",
    impacts: &[Impact::confirmed(Role::CertificateRejected, KeyKind::Certificate, "certificate chain is incomplete")],
    ..Code::BASE
};

const UNTRUSTED: Code = Code {
    id: "tls.untrusted",
    severities: &[Severity::Info, Severity::Warn],
    when: "the certificate is self-signed, or its chain leads to an authority that this host does not trust (info for internal names)",
    hint: "add the file of a private authority to ca_files in [runbooks.tls]",
    impacts: &[Impact::confirmed(Role::CertificateRejected, KeyKind::Certificate, "certificate is not trusted")],
    ..Code::BASE
};

const ORDER: Code = Code {
    id: "tls.order",
    severities: &[Severity::Info],
    when: "the chain is sent in the wrong order, or contains a duplicate certificate",
    hint: "most clients reorder it; old ones fail",
    ..Code::BASE
};

const STALE: Code = Code {
    id: "tls.stale-served",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the certificate on disk is newer than the served one (crit if the served one has less than 7 days left)",
    hint: "reload the server; then add a reload to every renewal",
    depends_on: &[&[DependsOn::confirmed(Role::OldFile, KeyKind::Container, "its")]],
    ..Code::BASE
};

pub(super) const WEAK: Code = Code {
    id: "tls.weak",
    severities: &[Severity::Info, Severity::Warn],
    when: "an RSA key under 2048 bits or a signature with SHA-1 or MD5, which clients reject (warn); TLS 1.0 or 1.1 is enabled (info)",
    hint: "reissue the certificate with a key of 2048 bits or more",
    ..Code::BASE
};

const DEFAULT: Code = Code {
    id: "tls.default-cert",
    severities: &[Severity::Info],
    when: "the default server presents a certificate that is self-signed or has expired",
    hint: "harmless if every name has a server block of its own; `ssl_reject_handshake on` rejects unknown names",
    ..Code::BASE
};

const HANDSHAKE: Code = Code {
    id: "tls.handshake",
    severities: &[Severity::Crit],
    when: "the TLS handshake fails: connection refused, timeout, connection closed, TLS alert, or another protocol",
    hint: "check the process that listens there, and its log",
    impacts: &[Impact::confirmed(Role::Unresponsive, KeyKind::Certificate, "TLS handshake fails")],
    depends_on: &[&[
        DependsOn::confirmed(Role::Unresponsive, KeyKind::Server, "its"),
        DependsOn::likely(Role::PacketsDropped, KeyKind::Address, ""),
    ]],
};

pub(super) const HOOK: Code = Code {
    id: "tls.renewal-hook",
    severities: &[Severity::Warn],
    when: "the server is not reloaded after a renewal: no deploy hook, no installer, no periodic reload; or the file was replaced without a reload",
    hint: "certbot: add a script with `nginx -s reload` to /etc/letsencrypt/renewal-hooks/deploy/; hooks do not run for the first certificate",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "tls.served",
    title: "served certificates are valid and do not expire soon",
    codes: &[EXPIRY, CHAIN_EXPIRY, NOT_YET, HOSTNAME, INCOMPLETE, UNTRUSTED, ORDER, STALE, WEAK, DEFAULT, HANDSHAKE, HOOK],
    fixes: &[RELOAD],
    timeout: Duration::from_secs(9),
};

/// The gap of every chain on a host without authorities, where each of them would look incomplete or untrusted.
const NO_AUTHORITIES: &str =
    "chains of certificates are not verified: this host has no certificate authorities (package ca-certificates)";

/// Remaining validity below which a stale certificate is crit, in seconds.
const STALE_CRIT_S: i64 = 7 * 86400;

pub(super) struct Served {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    reference: Option<CertificateRef>,
    server: Server,
    looked: ServedCertificates,
    /// The configured certificate files.
    files: Vec<CertificateFile>,
    /// Set only if a newer certificate is on disk.
    reload: Option<Reload>,
}

impl Check for Served {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.certificate_targets(|s| matches!(s, CertificateSource::Nginx { .. } | CertificateSource::Endpoint { .. }))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let removed = || ProbeError::Skip("it no longer exists".to_owned());
        let reference = cx.inventory.certificate(&target.id).ok_or_else(removed)?.clone();
        let authorities = &self.settings.ca_files;
        let mut e = Evidence::default();
        if let CertificateSource::Nginx { server, pid, files, .. } = &reference.source {
            let at = cx.inventory.server(server).ok_or_else(removed)?;
            let target = at.object();
            e.server = Server::of(cx, &target)?;
            let nginx = cx.nginx(&target)?;
            e.looked = tls::served(cx, &reference, authorities).await?;
            let paths = files.iter().map(|(c, k)| (c.clone(), Some(k.clone()))).collect();
            e.files = tls::files(cx, Some(*pid), paths, authorities).await?;
            if pairs(&e).next().is_some() {
                e.reload = Some(Reload::of(cx, &e.server, &nginx).await);
            }
        } else {
            e.looked = tls::served(cx, &reference, authorities).await?;
        }
        e.reference = Some(reference);
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(reference) = &e.reference else { return Judgement::default() };
        let mut judgement = Judgement::default();
        let about = About { judged, e, reference, settings: &self.settings };
        if let Some(finding) = about.handshake() {
            judgement.findings.push(finding);
        }
        let nameless = reference.names.is_empty();
        for chain in &e.looked.chains {
            let Some(leaf) = chain.leaf() else {
                if chain.length > 0 {
                    judgement.gaps.push("its certificate cannot be read: its ASN.1 is not DER".to_owned());
                }
                continue;
            };
            if nameless && (leaf.self_issued || leaf.not_after < judged.taken_at) {
                judgement.findings.push(about.default_certificate(leaf));
                continue;
            }
            judgement.measures.push(validity::measure(&self.settings, judged, leaf));
            judgement.findings.extend(about.time(chain, leaf));
            judgement.findings.extend(about.trust(chain, leaf, nameless));
            if chain.unverifiable && !leaf.self_issued && judgement.gaps.is_empty() {
                judgement.gaps.push(NO_AUTHORITIES.to_owned());
            }
            judgement.findings.extend(about.weak(chain));
        }
        judgement.findings.extend(about.names());
        judgement.findings.extend(about.protocols());
        judgement.findings.extend(about.stale());
        let fails_clients =
            |f: &Finding| [HANDSHAKE.id, NOT_YET.id, HOSTNAME.id, UNTRUSTED.id, INCOMPLETE.id].contains(&f.code.as_str());
        let tied = |f: Finding| if fails_clients(&f) { about.link_to_clients(f) } else { f };
        judgement.findings = judgement.findings.into_iter().map(tied).collect();
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let refuse = |why: String| Err(Refusal::Precondition(why));
        for (served, file) in pairs(e) {
            let Some(disk) = file.chain.leaf() else { continue };
            if disk.not_after <= judged.taken_at || disk.not_before > judged.taken_at {
                return refuse(format!("the certificate on disk is not valid now: {}", validity::words(disk, judged.taken_at)));
            }
            match (file.key_matches, &file.key_problem) {
                (Some(true), _) => {}
                (Some(false), _) => return refuse(format!("the private key of {} does not match it", file.path)),
                (None, why) => {
                    return refuse(format!(
                        "cannot check whether its key matches: {}",
                        why.as_deref().unwrap_or("no key is configured")
                    ));
                }
            }
            if let Some(lost) = served.names.iter().find(|n| !covers(disk, n) && !disk.names.contains(n)) {
                return refuse(format!("the certificate on disk does not cover {lost}, the served one does"));
            }
        }
        match &e.reload {
            Some(reload) => reload.plan(&SPEC, finding, judged.target),
            None => refuse("no newer certificate is on disk".to_owned()),
        }
    }
}

/// Served certificates, each with a newer file with the same key type.
fn pairs(e: &Evidence) -> impl Iterator<Item = (&Certificate, &CertificateFile)> {
    let leaves = e.looked.chains.iter().filter_map(Chain::leaf);
    leaves.filter_map(|served| {
        let newer = |f: &&CertificateFile| {
            f.chain.leaf().is_some_and(|disk| {
                disk.sha256 != served.sha256 && disk.key_type == served.key_type && disk.not_before > served.not_before
            })
        };
        // with several files, one of them may be the served one
        let is_on_disk = e.files.iter().any(|f| f.chain.leaf().is_some_and(|d| d.sha256 == served.sha256));
        e.files.iter().find(newer).filter(|_| !is_on_disk).map(|f| (served, f))
    })
}

/// Whether a certificate covers this name (RFC 9525 §6.3: a wildcard is the whole first label, and matches one label).
fn covers(c: &Certificate, name: &str) -> bool {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return c.names.iter().any(|n| n.parse() == Ok(ip));
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    c.names.iter().any(|pattern| match pattern.strip_prefix("*.") {
        Some(rest) => name.split_once('.').is_some_and(|(first, tail)| tail == rest && !first.is_empty()),
        None => *pattern == name,
    })
}

/// Whether a name is internal: RFC 6762, RFC 8375, ICANN's `.internal`, and single labels.
fn is_internal(name: &str) -> bool {
    let ends = [".local", ".internal", ".lan", ".home.arpa", ".localdomain", ".localhost"];
    !name.contains('.') || ends.iter().any(|e| name.ends_with(e)) || name.parse::<IpAddr>().is_ok_and(is_private)
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => a.is_private() || a.is_loopback() || a.is_link_local(),
        IpAddr::V6(a) => a.is_loopback() || a.is_unique_local() || a.is_unicast_link_local(),
    }
}

/// The input of the judgement.
struct About<'a> {
    judged: &'a Judged<'a>,
    e: &'a Evidence,
    reference: &'a CertificateRef,
    settings: &'a Settings,
}

impl About<'_> {
    fn finding(&self, code: &'static Code, severity: Severity, about: Option<&Certificate>, message: String) -> Finding {
        let identity = about.map_or_else(|| self.reference.id.clone(), |c| c.sha256.clone());
        let subject = Object::new(Kind::Certificate, self.judged.target.name.clone(), identity);
        let mut f = Finding::new(code, severity, subject, message).key(KeyKind::Host, "host");
        f = self.e.server.tied(f);
        for at in self.addresses() {
            f = f.key(KeyKind::Address, at);
        }
        if let CertificateSource::Nginx { files, server, .. } = &self.reference.source {
            for (path, _) in files {
                f = f.key(KeyKind::Certificate, key_of(Some(server), path));
            }
        }
        f
    }

    /// Links a finding to the clients that fail because of it.
    fn link_to_clients(&self, finding: Finding) -> Finding {
        self.addresses().iter().fold(finding, |f, at| f.key(KeyKind::Certificate, served_key(at)))
    }

    /// The `host:port` addresses used by clients.
    fn addresses(&self) -> Vec<String> {
        if let CertificateSource::Endpoint { host, port, .. } = &self.reference.source {
            return vec![join(host, *port)];
        }
        let Some(port) = last_port(&self.e.looked.address) else { return Vec::new() };
        self.reference.names.iter().map(|name| join(name, port)).collect()
    }

    /// `example.org and 3 more`, or the address.
    fn label(&self) -> String {
        match self.reference.names.as_slice() {
            _ if matches!(self.reference.source, CertificateSource::Endpoint { .. }) => self.judged.target.name.clone(),
            [] => self.e.looked.address.clone(),
            names => quantity::some_of(names, 1),
        }
    }

    fn handshake(&self) -> Option<Finding> {
        let failed: Vec<&tls::ServedCertificate> = self.e.looked.served.iter().filter(|s| s.chain.is_none()).collect();
        // a server with two certificates may have loaded only one key type: judged by name
        let all = self.reference.names.iter().map(Some).chain(self.reference.names.is_empty().then_some(None));
        let mut without =
            all.filter(|name| self.e.looked.served.iter().filter(|s| s.name.as_ref() == *name).all(|s| s.chain.is_none()));
        let name = without.next()?;
        let why = failed.iter().find(|s| s.name.as_ref() == name).and_then(|s| s.failed.as_ref())?;
        let label = match &self.reference.source {
            CertificateSource::Endpoint { .. } => self.label(),
            _ => name.map_or_else(|| self.e.looked.address.clone(), Clone::clone),
        };
        let why = match why {
            HandshakeError::Refused => "connection refused".to_owned(),
            HandshakeError::Timeout => "timed out".to_owned(),
            HandshakeError::Closed => "the server closed the connection during the handshake".to_owned(),
            HandshakeError::NotTls(reply) => reply.clone(),
            HandshakeError::Alert(alert) => match alert.as_str() {
                "ProtocolVersion" => "it supports neither TLS 1.2 nor 1.3".to_owned(),
                "UnrecognisedName" | "UnrecognizedName" => "the server name is not recognised".to_owned(),
                _ => format!("TLS alert {alert}"),
            },
            HandshakeError::NoStartTls(reply) => format!("it rejects STARTTLS: {reply}"),
            HandshakeError::Unreachable(why) => why.clone(),
        };
        Some(
            self.finding(&HANDSHAKE, Severity::Crit, None, format!("the TLS handshake for {label} fails: {why}"))
                .cite("address", &self.e.looked.address),
        )
    }

    fn default_certificate(&self, leaf: &Certificate) -> Finding {
        let fault = if leaf.self_issued { "is self-signed".to_owned() } else { validity::words(leaf, self.judged.taken_at) };
        self.finding(
            &DEFAULT,
            Severity::Info,
            Some(leaf),
            format!("the certificate of the default server at {} {fault}", self.e.looked.address),
        )
        .cite("certificate", &leaf.subject)
    }

    fn time(&self, chain: &Chain, leaf: &Certificate) -> Vec<Finding> {
        let now = self.judged.taken_at;
        let mut findings = Vec::new();
        if leaf.not_before > now {
            let message = format!("the certificate for {} is not valid before {}", self.label(), leaf.not_before);
            findings.push(self.finding(&NOT_YET, Severity::Crit, Some(leaf), message));
        } else if let Some(severity) = validity::too_short(self.settings, leaf, now) {
            let message = format!("the certificate for {} {}", self.label(), validity::words(leaf, now));
            let finding = self
                .finding(&EXPIRY, severity, Some(leaf), message)
                .cite("until", validity::life(leaf))
                .cite("issued by", &leaf.issuer)
                .cite("kind", if self.e.looked.chains.len() > 1 { &leaf.key_type } else { "" });
            // clients fail only once it has expired
            findings.push(if leaf.not_after <= now { self.link_to_clients(finding) } else { finding });
        }
        for above in chain.certificates.iter().skip(1) {
            // a chain certificate that outlives the server certificate does not shorten its validity
            let ends_first = above.not_after < leaf.not_after || above.not_after <= now;
            let Some(severity) = validity::too_short(self.settings, above, now).filter(|_| ends_first) else { continue };
            let another_path = above.not_after <= now && chain.refused.is_none();
            let severity = if another_path { Severity::Warn } else { severity };
            let message = format!("{}, sent in the chain for {}, {}", above.subject, self.label(), validity::words(above, now));
            findings.push(
                self.finding(&CHAIN_EXPIRY, severity, Some(leaf), message)
                    .cite("until", validity::life(above))
                    .cite("another path", if another_path { "valid; old clients do not find it" } else { "" }),
            );
        }
        findings
    }

    fn trust(&self, chain: &Chain, leaf: &Certificate, nameless: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(twice) = out_of_order(chain) {
            findings.push(self.finding(&ORDER, Severity::Info, Some(leaf), format!("the chain for {} {twice}", self.label())));
        }
        let Some(refused) = &chain.refused_in_time else { return findings };
        if chain.unverifiable && !leaf.self_issued {
            return findings;
        }
        let internal = nameless || self.reference.names.iter().all(|n| is_internal(n));
        let severity = if internal { Severity::Info } else { Severity::Warn };
        let untrusted = |message: String| self.finding(&UNTRUSTED, severity, Some(leaf), message).cite("verification", refused);
        match end_of(chain) {
            End::SelfSigned if leaf.self_issued => {
                findings.push(untrusted(format!("the certificate for {} is self-signed", self.label())));
            }
            End::SelfSigned | End::Loop => {
                let last = chain.certificates.last().map_or("", |c| c.issuer.as_str());
                findings.push(untrusted(format!(
                    "the certificate for {} is issued by {last}, which this host does not trust",
                    self.label()
                )));
            }
            // a private authority: the root is not sent, and unlike public ones it has no URL of the issuer's certificate
            End::Missing { issuer, of } if !of.tells_issuer && (internal || of.is_ca) => {
                findings.push(untrusted(format!(
                    "the certificate for {} is issued by {issuer}, which this host does not trust",
                    self.label()
                )));
            }
            End::Missing { issuer, .. } => {
                findings.push(
                    self.finding(
                        &INCOMPLETE,
                        Severity::Warn,
                        Some(leaf),
                        format!(
                            "the certificate for {} is sent without its issuer: {issuer} is neither in the chain nor trusted by this host",
                            self.label()
                        ),
                    )
                    .cite("sent", quantity::count(chain.length, "certificate"))
                    .cite("verification", refused),
                );
            }
            // the chain ends at a trusted name and is rejected regardless; a weak key is reported by tls.weak
            End::Trusted if !weak(chain) && !expired_above(chain, self.judged.taken_at) => {
                findings.push(untrusted(format!("the chain for {} does not verify", self.label())));
            }
            End::Trusted => {}
        }
        findings
    }

    fn weak(&self, chain: &Chain) -> Option<Finding> {
        let weak = |c: &&Certificate| {
            (c.key_type == "RSA" && c.key_bits > 0 && c.key_bits < 2048) || (c.weak_signature && !c.self_issued)
        };
        let c = chain.certificates.iter().find(weak)?;
        let key = (c.key_type == "RSA" && c.key_bits < 2048).then(|| format!("has an RSA key of {} bits", c.key_bits));
        let signature = (c.weak_signature && !c.self_issued).then(|| "is signed with SHA-1 or MD5".to_owned());
        let faults = [key, signature].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let which = if Some(c) == chain.leaf() { format!("the certificate for {}", self.label()) } else { c.subject.clone() };
        Some(self.finding(&WEAK, Severity::Warn, chain.leaf(), format!("{which} {faults}, which clients reject")))
    }

    fn names(&self) -> Option<Finding> {
        let mut wrong: Vec<(&str, &Certificate)> = Vec::new();
        let mut right = 0;
        for served in &self.e.looked.served {
            let (Some(name), Some(leaf)) =
                (&served.name, served.chain.and_then(|i| self.e.looked.chains.get(i)).and_then(Chain::leaf))
            else {
                continue;
            };
            if covers(leaf, &tls::requested_name(name)) {
                right += 1;
            } else if !wrong.iter().any(|(n, _)| n == name) {
                wrong.push((name, leaf));
            }
        }
        // if a public name matches, clients do not use `localhost` or the host's own address
        if right > 0 {
            wrong.retain(|(name, _)| !is_internal(name));
        }
        let (first, leaf) = wrong.first()?;
        let severity = if right == 0 { Severity::Crit } else { Severity::Warn };
        let names = quantity::some_of(&wrong.iter().map(|(n, _)| *n).collect::<Vec<_>>(), 3);
        let is_for = match leaf.names.as_slice() {
            [] => format!("none (its common name {} is ignored)", leaf.subject),
            names => names.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
        };
        let deep = leaf.names.iter().any(|n| n.strip_prefix("*.").is_some_and(|rest| first.ends_with(&format!(".{rest}"))));
        let mut f = self
            .finding(&HOSTNAME, severity, Some(leaf), format!("the certificate served for {names} does not cover that name"))
            .cite("certificate names", is_for);
        if deep {
            f = f.hint("its wildcard matches one label only");
        }
        Some(f)
    }

    fn protocols(&self) -> Option<Finding> {
        let CertificateSource::Nginx { protocols, .. } = &self.reference.source else { return None };
        let old: Vec<&str> =
            protocols.iter().map(String::as_str).filter(|p| matches!(*p, "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1")).collect();
        let leaf = self.e.looked.chains.first().and_then(Chain::leaf);
        (!old.is_empty()).then(|| {
            self.finding(&WEAK, Severity::Info, leaf, format!("{} has {} enabled", self.label(), old.join(" and ")))
                .hint("RFC 8996: only very old clients need them; `ssl_protocols TLSv1.2 TLSv1.3`")
        })
    }

    fn stale(&self) -> Vec<Finding> {
        let now = self.judged.taken_at;
        let mut findings = Vec::new();
        for (served, file) in pairs(self.e) {
            let Some(disk) = file.chain.leaf() else { continue };
            let left = served.not_after.duration_since(now).as_secs();
            let severity = if left < STALE_CRIT_S { Severity::Crit } else { Severity::Warn };
            let age = file.modified.map_or_else(String::new, |t| format!(", modified {}", quantity::ago(now, t)));
            let message = format!(
                "{} serves an old certificate for {}: it {}, the one on disk {}",
                self.e.server.get().map_or("the server", |s| s.name.as_str()),
                self.label(),
                validity::words(served, now),
                validity::words(disk, now)
            );
            findings.push(
                self.finding(&STALE, severity, Some(served), message)
                    .since(file.modified)
                    .cite("on disk", format!("{}{age}", file.path))
                    .cite("kind", if self.e.looked.chains.len() > 1 { &served.key_type } else { "" })
                    .fix(RELOAD.id),
            );
            // deploy hooks of a lineage are checked by tls.renewal
            if lineage_of(&file.path).is_none() {
                let message = format!(
                    "{} was replaced and {} was not reloaded",
                    file.path,
                    self.e.server.get().map_or("its server", |s| s.name.as_str())
                );
                findings.push(
                    self.finding(&HOOK, Severity::Warn, Some(disk), message)
                        .hint("the program that replaces the certificate must reload the server afterwards"),
                );
            }
        }
        findings
    }
}

fn weak(chain: &Chain) -> bool {
    chain.certificates.iter().any(|c| c.weak_signature || (c.key_type == "RSA" && c.key_bits < 2048))
}

fn expired_above(chain: &Chain, now: jiff::Timestamp) -> bool {
    chain.certificates.iter().skip(1).any(|c| c.not_after <= now)
}

/// The end of a chain, by names.
enum End<'a> {
    /// An authority that this host trusts.
    Trusted,
    /// A self-issued certificate.
    SelfSigned,
    /// An issuer that is not in the chain.
    Missing {
        /// Name of the issuer.
        issuer: &'a str,
        /// The certificate it has issued.
        of: &'a Certificate,
    },
    /// None: the chain is a loop.
    Loop,
}

fn end_of(chain: &Chain) -> End<'_> {
    let Some(mut at) = chain.leaf() else { return End::Loop };
    for _ in 0..=chain.certificates.len() {
        let index = chain.certificates.iter().position(|c| c == at);
        if index.and_then(|i| chain.issuer_trusted.get(i)) == Some(&true) {
            return End::Trusted;
        }
        if at.self_issued {
            return End::SelfSigned;
        }
        match chain.certificates.iter().find(|c| c.subject_hash == at.issuer_hash) {
            Some(issuer) => at = issuer,
            None => return End::Missing { issuer: &at.issuer, of: at },
        }
    }
    End::Loop
}

/// The fault in the order of a chain.
fn out_of_order(chain: &Chain) -> Option<&'static str> {
    let c = &chain.certificates;
    if c.iter().enumerate().any(|(i, a)| c[..i].iter().any(|b| a.sha256 == b.sha256)) {
        return Some("contains a duplicate certificate");
    }
    let follows = c.windows(2).all(|w| w[0].issuer_hash == w[1].subject_hash);
    // a second path (cross-signed) may follow the first
    let all_needed = c.windows(2).any(|w| w[0].issuer_hash == w[1].subject_hash);
    (!follows && c.len() > 2 && !all_needed).then_some("is sent in the wrong order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_covers_one_label_and_addresses_are_names() {
        let c = Certificate {
            names: vec!["*.a.org".into(), "b.org".into(), "10.0.0.1".into(), "::1".into()],
            ..Certificate::default()
        };
        for (name, covered) in [
            ("x.a.org", true),
            ("X.A.org.", true),
            ("a.org", false),
            ("y.x.a.org", false),
            ("b.org", true),
            ("10.0.0.1", true),
            ("0:0:0:0:0:0:0:1", true),
            ("10.0.0.2", false),
        ] {
            assert_eq!(covers(&c, name), covered, "{name}");
        }
        assert!(is_internal("db") && is_internal("a.internal") && is_internal("10.0.0.1") && !is_internal("a.org"));
    }
}
