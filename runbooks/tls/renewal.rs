//! Renewal of a certbot lineage, and the reload of its servers.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Action, CertificateRef, CertificateSource, Check, CheckSpec, Code, DependsOn, Finding, FixSpec, Inventory, Judged, Judgement,
    KeyKind, Kind, Object, Plan, Refusal, Risk, Role, Severity, ends, quantity,
};
use opsctl_core::probe::network::listeners;
use opsctl_core::probe::tls::{Lineage, Renewers};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::served::HOOK;
use crate::shared::processes::of_host;
use crate::shared::servers::READ_TIMEOUT;

const FAILING: Code = Code {
    id: "tls.renewal-failing",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the last run of certbot could not renew the certificate, or its renewal is not configured (warn; crit if less than {warn_share} % of its lifetime is left)",
    hint: "the reason is the response of the certificate authority; `certbot renew --cert-name NAME --dry-run` retries without counting against its rate limits",
    depends_on: &[&[
        DependsOn::likely(Role::NoRoom, KeyKind::Filesystem, "its"),
        DependsOn::likely(Role::PacketsDropped, KeyKind::Host, ""),
        DependsOn::likely(Role::NamesBroken, KeyKind::Names, ""),
    ]],
    ..Code::BASE
};

const RENEW: FixSpec =
    FixSpec { id: "certbot.renew", risk: Risk::R2, title: "dry-run the renewal of one certificate, then renew it if it is due" };

static SPEC: CheckSpec = CheckSpec {
    id: "tls.renewal",
    title: "certificates are renewed and their servers reloaded",
    codes: &[FAILING, HOOK],
    fixes: &[RENEW],
    timeout: Duration::from_secs(5),
};

pub(super) struct Renewal {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    reference: Option<CertificateRef>,
    lineage: Lineage,
    renewers: Renewers,
    /// Names of the nginx servers that use the certificate.
    users: Vec<String>,
    /// The filesystem of certbot's directory.
    filesystem: Option<String>,
    /// Port 80 has a listener; read only if the last run could not bind it.
    port_80_taken: Option<bool>,
}

impl Check for Renewal {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.certificate_targets(|s| matches!(s, CertificateSource::Lineage { .. }))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let removed = || ProbeError::Skip("it no longer exists".to_owned());
        let reference = cx.inventory.certificate(&target.id).ok_or_else(removed)?.clone();
        let CertificateSource::Lineage { pid, used_by, .. } = &reference.source else { return Err(removed()) };
        let lineage = cx.tls().lineage(*pid, &reference.name).await?;
        let users = used_by.iter().filter_map(|id| cx.inventory.server(id)).map(|s| s.name.clone()).collect();
        let filesystem = match lineage.last_run {
            Some((_, Some(_))) if pid.is_none() => cx.filesystems.of("/etc/letsencrypt".as_ref()).await.ok().map(|f| f.dev),
            _ => None,
        };
        let needs_port = matches!(&lineage.last_run, Some((_, Some(why))) if is_port_taken(why));
        let port_80_taken = if needs_port && pid.is_none() {
            let read =
                |io: &Io| listeners::listeners_of(io, i64::from(std::process::id())).map(|all| all.iter().any(|l| l.port == 80));
            blocking::run("listening sockets", "/proc/self/net/tcp", READ_TIMEOUT, read).await.ok().flatten()
        } else {
            None
        };
        let renewers = (*cx.tls().renewers(&cx.process_table).await?).clone();
        Ok(Evidence { renewers, reference: Some(reference), lineage: (*lineage).clone(), users, filesystem, port_80_taken })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        let l = &e.lineage;
        let name = &judged.target.name;
        if let Some(message) = why_not_renewed(e) {
            let short = l.not_after.is_some_and(|until| {
                let left = until.duration_since(judged.taken_at).as_secs_f64();
                left < l.lifetime_s as f64 * self.settings.warn_share / 100.0
            });
            let severity = if short { Severity::Crit } else { Severity::Warn };
            let when = l.last_run.as_ref().map(|(at, _)| quantity::ago(judged.taken_at, *at));
            let left = l.not_after.map(|t| quantity::duration(t.duration_since(judged.taken_at).max(SignedDuration::ZERO)));
            let mut f = finding(&FAILING, severity, judged, e, format!("{name} is not renewed: {message}"))
                .cite_opt("certbot's last run", when)
                .cite_opt("left", left)
                .cite("by", &l.authenticator)
                .cite("missing directories", l.missing_webroots.join(", "))
                .fix(RENEW.id);
            if let Some(dev) = &e.filesystem {
                f = f.key(KeyKind::Filesystem, dev);
            }
            if l.here && is_resolution_failure(&message) {
                f = f.key(KeyKind::Names, "host");
            }
            if l.here && is_unreachable(&message) {
                f = of_host(f);
            }
            judgement.findings.push(f);
        }
        let reloaded = !l.hooks.is_empty() || l.installer == "nginx" || !e.renewers.reloaders.is_empty();
        if !e.users.is_empty() && !reloaded {
            let users = e.users.join(", ");
            judgement.findings.push(finding(
                &HOOK,
                Severity::Warn,
                judged,
                e,
                format!("no hook reloads {users} after a renewal of {name}"),
            ));
        }
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let name = &judged.target.name;
        if !e.lineage.here {
            return Err(Refusal::ByHand(format!("run `certbot renew --cert-name {name}` in the container that renews it")));
        }
        if !e.lineage.configured {
            return Err(Refusal::ByHand(format!(
                "its file in /etc/letsencrypt/renewal is missing or invalid: `certbot certonly --cert-name {name}` recreates it"
            )));
        }
        if !e.lineage.missing_webroots.is_empty() {
            return Err(Refusal::Precondition(format!(
                "the directory of its challenge does not exist: {}",
                e.lineage.missing_webroots.join(", ")
            )));
        }
        if e.lineage.authenticator == "manual" {
            return Err(Refusal::ByHand(format!(
                "`certbot renew --cert-name {name}`: its challenge is answered by hand (authenticator manual)"
            )));
        }
        if let Some(why) = failed_run(e).filter(|why| is_rate_limited(why)) {
            return Err(Refusal::Precondition(format!("the authority rejects further attempts for now: {}", ends(why, 160))));
        }
        if failed_run(e).is_some_and(is_port_taken) && e.port_80_taken != Some(false) {
            return Err(Refusal::Precondition(
                "port 80, which its challenge needs, is in use: stop its owner in a pre-hook, or use the webroot challenge"
                    .to_owned(),
            ));
        }
        let run = |more: &[&str]| {
            let argv = ["certbot", "renew", "--cert-name", name, "--non-interactive", "--no-random-sleep-on-renew"];
            Action::Run { argv: argv.iter().chain(more).map(|a| (*a).to_owned()).collect() }
        };
        // a dry run uses Let's Encrypt's staging environment unless a server is given
        let mut dry_run = vec!["--dry-run"];
        if let Some(server) = &e.lineage.server {
            dry_run.extend(["--server", server]);
        }
        let plan = Plan::new(&RENEW, &SPEC, finding, judged.target, vec![run(&dry_run), run(&[])])
            .affects(["the certificate authority counts renewals; the certificate is renewed only if it is due, never forced"
                .to_owned()])
            .affects(e.lineage.hooks.iter().map(|h| format!("runs {h} afterwards")))
            .downtime(if e.lineage.authenticator == "standalone" { "port 80 for some seconds" } else { "none" })
            .verified(Duration::from_secs(20), Duration::ZERO);
        Ok(plan)
    }
}

fn finding(code: &'static Code, severity: Severity, judged: &Judged<'_>, e: &Evidence, message: String) -> Finding {
    let identity = e.lineage.not_after.map_or_else(|| judged.target.id.clone(), |t| format!("{}@{t}", judged.target.id));
    let subject = Object::new(Kind::Certificate, judged.target.name.clone(), identity);
    Finding::new(code, severity, subject, message).key(KeyKind::Certificate, format!("lineage:{}", judged.target.name))
}

/// The error of the last run.
fn failed_run(e: &Evidence) -> Option<&str> {
    e.lineage.last_run.as_ref().and_then(|(_, why)| why.as_deref())
}

/// Whether the authority counts and rejects attempts, by error types of RFC 8555 (6.7) and texts of Let's Encrypt.
fn is_rate_limited(why: &str) -> bool {
    ["rateLimited", "too many certificates", "too many failed authorizations", "too many new orders"]
        .iter()
        .any(|w| why.contains(w))
}

/// Whether certbot's own web server could not bind its port, by certbot's error text.
fn is_port_taken(why: &str) -> bool {
    why.contains("Could not bind TCP port 80") || why.contains("Problem binding to port 80")
}

/// Whether this host could not resolve the authority's name, by error texts of Python and libc.
fn is_resolution_failure(why: &str) -> bool {
    ["name resolution", "NameResolutionError", "Name or service not known", "Failed to resolve"].iter().any(|w| why.contains(w))
}

/// Whether the authority could not reach this host, by error texts of Let's Encrypt.
fn is_unreachable(why: &str) -> bool {
    ["Timeout during connect", "likely firewall problem"].iter().any(|w| why.contains(w))
}

/// The reason of a missing renewal.
fn why_not_renewed(e: &Evidence) -> Option<String> {
    let l = &e.lineage;
    if let Some((_, Some(why))) = &l.last_run {
        return Some(why.clone());
    }
    if !l.configured {
        return Some("its file in /etc/letsencrypt/renewal is missing or invalid".to_owned());
    }
    (!l.missing_webroots.is_empty())
        .then(|| format!("the directory of its challenge does not exist: {}", l.missing_webroots.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// A lineage of this host after a run with this error.
    fn failed(why: &str) -> Evidence {
        let lineage = Lineage {
            name: "shop.example".into(),
            configured: true,
            authenticator: "webroot".into(),
            last_run: Some((jiff::Timestamp::UNIX_EPOCH, Some(why.to_owned()))),
            here: true,
            ..Lineage::default()
        };
        Evidence { lineage, ..Evidence::default() }
    }

    fn plan(e: &Evidence) -> Result<Plan, Refusal> {
        let target = Object::named(Kind::Certificate, "shop.example");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Renewal { settings: Settings::default() };
        let finding = check.judge(&judged, e).findings.remove(0);
        check.plan(RENEW.id, &finding, &judged, e)
    }

    #[test]
    fn failed_renewal_is_rehearsed_first() {
        let plan = plan(&failed("Timeout during connect (likely firewall problem)")).unwrap();
        let dry_run = |action: &Action| matches!(action, Action::Run { argv } if argv.contains(&"--dry-run".to_owned()));
        assert!(plan.actions.len() == 2 && dry_run(&plan.actions[0]) && !dry_run(&plan.actions[1]), "{plan:?}");
    }

    #[test]
    fn renewal_is_not_tried_against_a_rate_limit() {
        let refused = plan(&failed("urn:ietf:params:acme:error:rateLimited :: too many certificates already issued"));
        assert!(matches!(refused, Err(Refusal::Precondition(why)) if why.contains("rejects further attempts for now")));
    }

    #[test]
    fn renewal_waits_for_its_port() {
        let taken = failed("Could not bind TCP port 80 because it is already in use by another process on this system");
        assert!(plan(&taken).unwrap_err().to_string().contains("port 80, which its challenge needs, is in use"));
        assert!(plan(&Evidence { port_80_taken: Some(true), ..taken.clone() }).is_err());
        // its owner was stopped since
        assert!(plan(&Evidence { port_80_taken: Some(false), ..taken }).is_ok());
    }

    #[test]
    fn renewal_that_opsctl_cannot_run_is_left_to_the_operator() {
        let mut elsewhere = failed("x");
        elsewhere.lineage.here = false;
        let mut manual = failed("x");
        manual.lineage.authenticator = "manual".into();
        let mut removed = failed("x");
        removed.lineage.configured = false;
        for e in [elsewhere, manual, removed] {
            assert!(matches!(plan(&e), Err(Refusal::ByHand(_))), "{e:?}");
        }
        let mut webroot = failed("x");
        webroot.lineage.missing_webroots = vec!["/var/www/shop".into()];
        assert!(plan(&webroot).unwrap_err().to_string().contains("the directory of its challenge does not exist"));
    }
}
