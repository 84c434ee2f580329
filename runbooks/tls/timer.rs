//! The schedule of certbot: timers, cron and containers.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    CertificateSource, Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity, SystemdState,
    quantity,
};
use opsctl_core::probe::systemd::linked;
use opsctl_core::probe::tls::Renewers;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::READ_TIMEOUT;

const TIMER: Code = Code {
    id: "tls.renewal-timer",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the host has certbot lineages and certbot is not scheduled: no active timer, no effective cron entry, no container (warn; crit if a certificate is due); or certbot has not run for {silent_days} (warn)",
    hint: "systemctl enable --now certbot.timer",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "tls.renewal-timer",
    title: "certificate renewal is scheduled",
    codes: &[TIMER],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Timers that run certbot: Debian's, snap's, Fedora's.
const TIMERS: &[&str] =
    &["certbot.timer", "snap.certbot.renew.timer", "certbot-renew.timer", "acme.timer", "dehydrated.timer", "lego.timer"];

/// Parts of the image names of containers that renew certificates.
const IMAGES: &[&str] = &["certbot", "acme", "letsencrypt", "lego", "dehydrated"];

pub(super) struct Timer {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// Lineages of this host: name, end of validity, lifetime in seconds.
    lineages: Vec<(String, Option<Timestamp>, i64)>,
    /// Timers that run certbot: name, active state, state of the unit file.
    timers: Vec<(String, String, String)>,
    /// systemd is PID 1.
    systemd: bool,
    /// systemd did not answer.
    blind: bool,
    renewers: Renewers,
    /// Running containers that renew.
    containers: Vec<String>,
    last_log: Option<Timestamp>,
    /// Boot time: no run is expected before it.
    up_since: Option<Timestamp>,
}

impl Check for Timer {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let any = inventory.certificates.iter().any(|c| matches!(c.source, CertificateSource::Lineage { .. }));
        if any { vec![Object::host()] } else { Vec::new() }
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { renewers: (*cx.tls().renewers(&cx.process_table).await?).clone(), ..Evidence::default() };
        for c in &cx.inventory.certificates {
            if let CertificateSource::Lineage { pid, .. } = c.source {
                let lineage = cx.tls().lineage(pid, &c.name).await?;
                e.last_log = e.last_log.max(lineage.last_log);
                e.lineages.push((c.name.clone(), lineage.not_after, lineage.lifetime_s));
            }
        }
        if let Some(systemd) = &cx.inventory.systemd {
            e.systemd = !matches!(systemd.state, SystemdState::NotInit);
            e.blind = e.systemd && !matches!(systemd.state, SystemdState::Answers);
            let states = if e.systemd {
                blocking::run("unit files", "/etc/systemd/system", READ_TIMEOUT, linked).await?
            } else {
                BTreeMap::default()
            };
            for name in TIMERS {
                let unit = systemd.units.iter().find(|u| u.name == *name);
                // a disabled timer is not in the list of units
                let state = states.get(*name).copied().unwrap_or_default();
                if unit.is_some() || !state.is_empty() {
                    e.timers.push(((*name).to_owned(), unit.map_or("inactive", |u| &u.active).to_owned(), state.to_owned()));
                }
            }
        }
        let renews = |image: &str| IMAGES.iter().any(|i| image.rsplit('/').next().unwrap_or_default().contains(i));
        e.containers = cx.inventory.running().filter(|c| renews(&c.image)).map(|c| c.name.clone()).collect();
        e.up_since = Some(opsctl_core::probe::io::clock::boot_time());
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let timer_runs = e.timers.iter().any(|(_, active, _)| active == "active");
        let cron_runs =
            e.renewers.cron_runs && (!e.renewers.crons.is_empty() || (!e.systemd && !e.renewers.idle_crons.is_empty()));
        let runs = timer_runs || cron_runs || !e.renewers.loops.is_empty() || !e.containers.is_empty();
        let due = e.lineages.iter().filter(|(_, until, life)| {
            // certbot renews at a third of the lifetime (at half of it below ten days)
            until.is_some_and(|t| (t.duration_since(judged.taken_at).as_secs() as f64) < *life as f64 / 4.0)
        });
        let due: Vec<&str> = due.map(|(name, ..)| name.as_str()).collect();
        let tied = |mut f: Finding| {
            for (name, ..) in &e.lineages {
                f = f.key(KeyKind::Certificate, format!("lineage:{name}"));
            }
            vec![f.cite("due now", due.join(", "))].into()
        };
        if runs {
            let silent = SignedDuration::from_hours(24 * self.settings.silent_days);
            let (Some(last), Some(up)) = (e.last_log, e.up_since) else { return Judgement::default() };
            // a host that was down could not run certbot, and a certbot container has its log in the container
            let old = judged.taken_at.duration_since(last) > silent && judged.taken_at.duration_since(up) > silent;
            if old && e.containers.is_empty() && e.renewers.loops.is_empty() {
                let message = format!("certbot has not run since {}, expected twice a day", quantity::ago(judged.taken_at, last));
                return tied(Finding::new(&TIMER, Severity::Warn, Object::host(), message));
            }
            return Judgement::default();
        }
        if e.blind {
            return Judgement {
                gaps: vec!["whether a timer runs certbot: systemd does not answer".to_owned()],
                ..Judgement::default()
            };
        }
        let severity = if due.is_empty() { Severity::Warn } else { Severity::Crit };
        let message =
            format!("no renewal is scheduled for the {} of this host", quantity::count(e.lineages.len(), "certificate"));
        let mut f = Finding::new(&TIMER, severity, Object::host(), message);
        for (name, active, state) in &e.timers {
            f = f.cite(name, format!("{active} {state}").trim());
        }
        if let Some(line) = e.renewers.idle_crons.first().filter(|_| e.systemd) {
            f = f.cite("cron", format!("{line} (does nothing where systemd runs)"));
        }
        if !e.renewers.cron_runs && (!e.renewers.crons.is_empty() || !e.renewers.idle_crons.is_empty()) && !e.systemd {
            f = f.cite("cron", "has an entry for certbot, but is not running").hint("start cron");
        }
        if e.timers.iter().any(|(_, _, state)| state == "masked") {
            f = f.hint("systemctl unmask certbot.timer && systemctl enable --now certbot.timer");
        }
        tied(f)
    }
}
