//! The `hosts` line of nsswitch.conf: whether programs that use glibc query the name servers.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Object, Role, Severity};
use opsctl_core::probe::names::{
    Answers, DeadEnd, HostSources, LibcLookup, NSSWITCH, NameServer, host_sources, multicast_only, name_sources_of, resolved_only,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::status::{ServerStatus, status_of};
use crate::shared::processes::of_host;

const NSS: Code = Code {
    id: "dns.nsswitch",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the hosts line of nsswitch.conf keeps programs from querying the name servers of resolv.conf: it lists neither dns nor resolve, an action ends the search before them, or it relies on systemd-resolved, which does not run (crit if a name server responds, otherwise warn); mdns ends the search for a name of .local that DNS has (warn); a listed module is not installed (info)",
    hint: "the hosts line of /etc/nsswitch.conf needs `dns` (or `resolve`), and no entry before it may end the search: `hosts: files dns`",
    impacts: &[Impact::confirmed(Role::NamesBroken, KeyKind::Names, "names cannot be resolved")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.nsswitch",
    title: "nsswitch.conf leads to the name servers",
    codes: &[NSS],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const RESOLVED: &str = "systemd-resolved.service";

/// Limit of names of .local that are looked up.
const MAX_LOCAL_NAMES: usize = 2;

/// Time limit of libc for one of them.
const LIBC_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Nsswitch {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    sources: HostSources,
    /// Name servers of resolv.conf; empty if none is listed.
    servers: Vec<NameServer>,
    /// One of them responds.
    responds: bool,
    /// The state of systemd-resolved, if the line relies on it; `None` without systemd or the unit.
    resolved: Option<String>,
    /// Names of .local that DNS has and libc does not find.
    hidden: Vec<String>,
}

impl Check for Nsswitch {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { sources: host_sources(None).await?, ..Evidence::default() };
        let Some(line) = e.sources.line.clone().filter(|_| !e.sources.musl) else { return Ok(e) };
        let by_resolved = resolved_only(&line);
        let multicast = multicast_only(&line).is_some();
        if e.sources.dead_end().is_none() && !by_resolved && !multicast {
            return Ok(e);
        }
        let host = cx.resolvers().host(&self.settings.names, self.settings.query_limits()).await?;
        e.servers.clone_from(&host.file.conf.servers);
        e.responds = host.servers.iter().any(|s: &Answers| status_of(s) == ServerStatus::Good);
        if by_resolved && let Ok(systemd) = cx.systemd() {
            let unit = systemd.unit(RESOLVED).await?;
            e.resolved = (unit.load != "not-found").then(|| unit.active.clone());
        }
        if multicast {
            e.hidden = self.hidden(cx).await;
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(line) = &e.sources.line else { return Judgement::default() };
        if e.sources.musl {
            return Judgement::skip("the C library of this host ignores nsswitch.conf (musl)");
        }
        let mut findings: Vec<Finding> = Vec::new();
        match (e.sources.dead_end(), e.relies_on_resolved(line)) {
            (Some(end), _) => findings.extend(dead(e, line, &end)),
            (None, Some(why)) => findings.extend(unserved(e, line, &why)),
            (None, None) => {}
        }
        findings.extend(hidden(e, line));
        if findings.is_empty() {
            findings.extend(missing(e, line));
        }
        findings.into_iter().map(of_host).collect::<Vec<_>>().into()
    }
}

impl Nsswitch {
    /// The names of .local in the configuration that DNS has and libc does not find.
    async fn hidden(&self, cx: &ProbeCx) -> Vec<String> {
        let endpoints = cx.endpoints().iter().map(|e| e.host.as_str());
        let mut names: Vec<&str> =
            self.settings.names.iter().map(String::as_str).chain(endpoints).filter(|n| is_local(n)).collect();
        names.sort_unstable();
        names.dedup();
        let mut hidden = Vec::new();
        for name in names.into_iter().take(MAX_LOCAL_NAMES) {
            let sources = Box::pin(name_sources_of(name, LIBC_TIMEOUT)).await;
            if sources.libc == LibcLookup::NoSuchName && !sources.in_dns().is_empty() {
                hidden.push(name.to_owned());
            }
        }
        hidden
    }
}

/// A name of multicast DNS (RFC 6762).
pub(super) fn is_local(name: &str) -> bool {
    name.trim_end_matches('.').to_ascii_lowercase().ends_with(".local")
}

impl Evidence {
    /// Reason why the line cannot be served, if only systemd-resolved knows the names of the network.
    fn relies_on_resolved(&self, line: &str) -> Option<String> {
        if !resolved_only(line) {
            return None;
        }
        if self.sources.missing.iter().any(|m| m == "resolve") {
            return Some("its module libnss_resolve.so.2 is not installed".to_owned());
        }
        let state = self.resolved.as_ref().filter(|state| *state != "active")?;
        Some(format!("{RESOLVED} is {state}"))
    }

    fn names(&self) -> String {
        self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// DNS is wanted if resolv.conf lists a name server, and known to work if one responds.
    fn severity(&self) -> Option<Severity> {
        if self.responds {
            return Some(Severity::Crit);
        }
        (!self.servers.is_empty()).then_some(Severity::Warn)
    }
}

fn found(severity: Severity, message: String) -> Finding {
    Finding::new(&NSS, severity, Object::host(), message).key(KeyKind::Names, "host")
}

fn dead(e: &Evidence, line: &str, end: &DeadEnd) -> Option<Finding> {
    let severity = e.severity()?;
    let message = format!("{NSSWITCH} has `hosts: {line}`: {}, so programs do not query the name servers", end.words());
    Some(found(severity, message).cite("name servers", e.names()))
}

fn unserved(e: &Evidence, line: &str, why: &str) -> Option<Finding> {
    let severity = e.severity()?;
    let message = format!("{NSSWITCH} has `hosts: {line}`, without dns, and {why}: programs do not resolve names of the network");
    Some(found(severity, message).cite("name servers", e.names()).key(KeyKind::Unit, RESOLVED))
}

fn hidden(e: &Evidence, line: &str) -> Option<Finding> {
    let action = multicast_only(line)?;
    let first = e.hidden.first()?;
    let message = format!(
        "{NSSWITCH} has `hosts: {line}`: `{action}` ends the search for names of .local, and DNS has {}",
        e.hidden.join(", ")
    );
    let hint =
        format!("move dns before it, or remove `{action}` if this network has a DNS zone .local; then getent ahosts {first}");
    Some(found(Severity::Warn, message).hint(hint))
}

/// Modules that are skipped because they are not installed. The line works without them.
fn missing(e: &Evidence, line: &str) -> Option<Finding> {
    // systemd's packages replace resolve by dns where its module is absent
    let all: Vec<&str> = e.sources.missing.iter().map(String::as_str).filter(|m| *m != "resolve").collect();
    let first = all.first()?;
    let message = format!(
        "{NSSWITCH} has `hosts: {line}`, and {} not installed: libc skips {}",
        match all.len() {
            1 => format!("the module libnss_{first}.so.2 is"),
            _ => format!("the modules of {} are", all.join(", ")),
        },
        if all.len() == 1 { "it" } else { "them" }
    );
    Some(
        Finding::new(&NSS, Severity::Info, Object::host(), message)
            .hint(format!("install the package with the module (libnss-{first}), or remove it from the line")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_local_are_multicast() {
        assert!(is_local("db.corp.local") && is_local("PRINTER.local."));
        assert!(!is_local("local") && !is_local("db.localdomain") && !is_local("db.local.example.org"));
    }

    #[test]
    fn file_without_dns_is_intended_without_name_servers() {
        let e =
            Evidence { sources: HostSources { line: Some("files".to_owned()), ..HostSources::default() }, ..Evidence::default() };
        assert!(dead(&e, "files", &DeadEnd::NoDns).is_none());
    }
}
