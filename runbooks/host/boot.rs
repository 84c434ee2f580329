//! Pending and recent reboots.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, Object, Severity,
    quantity::{ago, duration, some_of},
};
use opsctl_core::probe::kernel::boot;
use opsctl_core::probe::kernel::boot::{Boot, version};
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};

use super::Settings;
use crate::shared::processes::of_host;

const REBOOT_REQUIRED: Code = Code {
    id: "host.reboot-required",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a package requires a reboot or a newer kernel is installed (info; warn after {reboot_warn_days}); the modules of the running kernel were removed (crit)",
    hint: "reboot at a quiet time",
    ..Code::BASE
};
const REBOOT_RECENT: Code = Code {
    id: "host.reboot-recent",
    severities: &[Severity::Info],
    when: "the machine booted less than {recent_boot_min} ago",
    hint: "if the reboot was not planned, the reason is in `journalctl -b -1 -e` or the provider's console",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "host.boot",
    title: "no reboot is due",
    codes: &[REBOOT_REQUIRED, REBOOT_RECENT],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

pub(super) struct BootCheck {
    pub(super) settings: Settings,
}

impl Check for BootCheck {
    type Evidence = Boot;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Boot, ProbeError> {
        // /boot may be a mount that hangs
        blocking::run("kernels", "/boot", Duration::from_secs(2), boot::read).await
    }

    fn judge(&self, judged: &Judged<'_>, e: &Boot) -> Judgement {
        let due = if modules_removed(e) { Some(modules_removed_finding(e)) } else { self.due(judged.taken_at, e) };
        let findings: Vec<Finding> = due.into_iter().map(of_host).chain(self.recent(e)).collect();
        findings.into()
    }
}

/// The module directory of the running kernel was removed with its package: no further module can be loaded.
fn modules_removed(e: &Boot) -> bool {
    // a kernel without a package (a container, a custom kernel) has no module directory either, and needs none
    e.modules_supported && !e.modules_present && !e.in_container && !e.installed.is_empty()
}

fn modules_removed_finding(e: &Boot) -> Finding {
    let message =
        format!("the modules of the running kernel {} were removed: no further module can be loaded until a reboot", e.running);
    let installed: Vec<&str> = e.installed.iter().map(|k| k.release.as_str()).collect();
    Finding::new(&REBOOT_REQUIRED, Severity::Crit, Object::host(), message)
        .cite("kernels in /boot", installed.join(", "))
        .hint("reboot: until then iptables, overlay and other modules cannot be loaded, and containers may not start")
}

impl BootCheck {
    fn due(&self, now: Timestamp, e: &Boot) -> Option<Finding> {
        let newer = newer_kernel(e);
        let since = match (e.required_since, newer.and_then(|k| k.installed)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let age = since.map(|s| now.duration_since(s));
        let late = age.is_some_and(|a| a.as_secs_f64() > self.settings.reboot_warn_days * 86400.0);
        let severity = if late { Severity::Warn } else { Severity::Info };
        let when = since.map(|s| format!(" for {}", ago(now, s).trim_end_matches(" ago"))).unwrap_or_default();
        let limit = if late { format!(", limit {:.0} d", self.settings.reboot_warn_days) } else { String::new() };
        let message = match (e.required_since, newer) {
            (Some(_), _) => format!("a reboot has been due{when}{limit}{}", because_of(&e.required_by)),
            (None, Some(kernel)) => {
                format!("kernel {} has been installed{when}{limit}, and {} is still running", kernel.release, e.running)
            }
            (None, None) => return None,
        };
        Some(Finding::new(&REBOOT_REQUIRED, severity, Object::host(), message).since(since))
    }

    fn recent(&self, e: &Boot) -> Option<Finding> {
        let up = SignedDuration::from_secs(e.uptime_s);
        (up < SignedDuration::from_mins(self.settings.recent_boot_min) && !e.in_container).then(|| {
            let message = format!("the machine booted {} ago", duration(up));
            Finding::new(&REBOOT_RECENT, Severity::Info, Object::host(), message)
        })
    }
}

/// A newer kernel that a reboot would start. `None` if the running kernel is not in /boot: the next kernel is then unknown.
fn newer_kernel(e: &Boot) -> Option<&boot::Kernel> {
    let newest = e.installed.first()?;
    let from_here = e.installed.iter().any(|k| k.release == e.running);
    (!e.in_container && from_here && version(&newest.release) > version(&e.running)).then_some(newest)
}

fn because_of(packages: &[String]) -> String {
    if packages.is_empty() { String::new() } else { format!(", because of {}", some_of(packages, 1)) }
}
