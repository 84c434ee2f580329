//! Limits that all processes of a user share: inotify instances and watches, and processes. Containers without a user namespace
//! share them with the host and with each other, because the kernel counts by user id.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Object, Severity, quantity};
use opsctl_core::probe::kernel::user_limits;
use opsctl_core::probe::kernel::user_limits::{InotifyHolder, InotifyUse, ProcessLimit, UserLimits};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::log_reason::{INOTIFY, PROCESSES};
use crate::shared::processes::{Names, at_home};

const INOTIFY_FULL: Code = Code {
    id: "host.inotify",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the processes of a user, in containers and outside, have {user_limit_warn_percent} (warn) or {user_limit_crit_percent} (crit) of the inotify instances or watches that they share",
    hint: "raise fs.inotify.max_user_instances or fs.inotify.max_user_watches, and find the process that uses most of them",
    ..Code::BASE
};
const PROCESSES_FULL: Code = Code {
    id: "host.user-processes",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the processes and threads of a user, in containers and outside, are at {user_limit_warn_percent} (warn) or {user_limit_crit_percent} (crit) of the limit of one of its processes (RLIMIT_NPROC)",
    hint: "raise the limit (--ulimit nproc, LimitNPROC=, ulimit -u), or use another user id: all containers with this user id count together",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "host.user-limits",
    title: "limits per user have room",
    codes: &[INOTIFY_FULL, PROCESSES_FULL],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

pub(super) struct UserLimitsCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    limits: UserLimits,
    /// Names of the containers of the processes.
    names: Names,
}

impl Check for UserLimitsCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let limits = user_limits::user_limits(self.settings.user_limit_warn_percent).await?;
        let holders = limits.inotify.iter().flat_map(|u| &u.holders).map(|h| &h.home);
        let names = Names::of(holders.chain(limits.processes.iter().map(|p| &p.home)), &cx.inventory);
        Ok(Evidence { limits, names })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        judgement.findings.extend(self.inotify(e));
        judgement.findings.extend(self.processes(e));
        if e.limits.unread > 0 {
            judgement.gaps.push(format!("processes that were not read in time: {}", e.limits.unread));
        }
        judgement
    }
}

/// The use of one limit by one user.
struct Usage<'e> {
    user: &'e InotifyUse,
    resource: &'static str,
    sysctl: &'static str,
    used: u64,
    limit: u64,
}

impl Usage<'_> {
    fn percent(&self) -> f64 {
        self.used as f64 * 100.0 / self.limit.max(1) as f64
    }
}

impl UserLimitsCheck {
    /// The user with the highest use.
    fn inotify(&self, e: &Evidence) -> Option<Finding> {
        let usages = e.limits.inotify.iter().flat_map(|user| {
            let usage = |resource, sysctl, used, limit: Option<u64>| Some(Usage { user, resource, sysctl, used, limit: limit? });
            [
                usage("inotify instances", "fs.inotify.max_user_instances", user.instances, e.limits.max_instances),
                usage("inotify watches", "fs.inotify.max_user_watches", user.watches, e.limits.max_watches),
            ]
        });
        let most = usages.flatten().max_by(|a, b| a.percent().total_cmp(&b.percent()))?;
        let (severity, bound) = self.settings.user_limit().exceeded(most.percent())?;
        let Usage { user, resource, sysctl, used, limit } = most;
        // the programs of an ordinary user are no service of the host
        let severity = if user.ordinary { Severity::Warn } else { severity };
        let message = format!(
            "uid {} uses {used} of its {limit} {resource}, {}, limit {}",
            user.uid,
            quantity::percent(most.percent()),
            quantity::percent(bound)
        );
        let holder = |h: &InotifyHolder| {
            format!("{} {} instances, {} watches", e.names.process(&h.comm, h.pid, &h.home), h.instances, h.watches)
        };
        let holders = user.holders.iter().map(holder).collect::<Vec<_>>().join("; ");
        Some(
            Finding::new(&INOTIFY_FULL, severity, Object::host(), message)
                .key(KeyKind::Host, INOTIFY)
                .hint(format!(
                    "raise {sysctl}: all containers and services of this user share it; find the process that uses most of it"
                ))
                .cite("used by", holders),
        )
    }

    /// The fullest limit.
    fn processes(&self, e: &Evidence) -> Option<Finding> {
        let fullest: &ProcessLimit = e.limits.processes.first()?;
        let ProcessLimit { uid, tasks, limit, .. } = fullest;
        let percent = *tasks as f64 * 100.0 / (*limit).max(1) as f64;
        let (severity, bound) = self.settings.user_limit().exceeded(percent)?;
        // a user can choose a small limit, and is no service of the host
        let severity = if fullest.user.is_some() { Severity::Warn } else { severity };
        let process = e.names.process(&fullest.comm, fullest.pid, &fullest.home);
        let message = format!(
            "uid {uid} has {tasks} of the {limit} processes that {process} allows it, {}, limit {}",
            quantity::percent(percent),
            quantity::percent(bound)
        );
        let finding = Finding::new(&PROCESSES_FULL, severity, Object::host(), message)
            .key(KeyKind::Host, PROCESSES)
            .cite_opt("belongs to", fullest.user.clone());
        Some(at_home(finding, &fullest.home))
    }
}
