//! Usage of file descriptors, of the host and of each process.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Kind, Object, Role, Severity, quantity,
};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::DescriptorUser;
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::processes::{at_home, of_host};

const FDS: Code = Code {
    id: "disk.fds",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the host has used {descriptors_warn_percent} (warn) or {descriptors_crit_percent} (crit) of its file descriptors, or a process {process_descriptors_warn_percent} (warn) or {process_descriptors_crit_percent} (crit) of its own limit",
    hint: "list the files that the process has open (ls -l /proc/PID/fd); raise its limit only if it needs that many",
    impacts: &[
        Impact::confirmed(Role::NoDescriptors, KeyKind::Descriptors, "processes have no free file descriptors"),
        Impact::confirmed(Role::NoDescriptors, KeyKind::Container, "processes have no free file descriptors"),
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.fds",
    title: "file descriptor usage is within limits",
    codes: &[FDS],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct Descriptors {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    used: u64,
    most: u64,
    processes: Vec<DescriptorUser>,
}

impl Check for Descriptors {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let ((used, limit), processes) = filesystem::descriptors(self.settings.process_descriptors_warn_percent).await?;
        Ok(Evidence { used, most: limit, processes })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let s = &self.settings;
        let mut findings = Vec::new();
        let share = |n: u64, of: u64| n as f64 * 100.0 / of.max(1) as f64;
        let all = share(e.used, e.most);
        if let Some((severity, limit)) = s.descriptors().exceeded(all) {
            let message = format!(
                "{} of {} file descriptors of the host are used, {}, limit {}",
                e.used,
                e.most,
                quantity::percent(all),
                quantity::percent(limit)
            );
            findings.push(of_host(Finding::new(&FDS, severity, Object::host(), message)));
        }
        for p in &e.processes {
            let used = share(p.open, p.limit);
            if let Some((severity, limit)) = s.process_descriptors().exceeded(used) {
                // a user can choose a small limit, and is no service of the host
                let severity = if p.user.is_some() { Severity::Warn } else { severity };
                let name = format!("{}[{}]", p.comm, p.pid);
                let message = format!(
                    "{name} has {} of its {} file descriptors open, {}, limit {}",
                    p.open,
                    p.limit,
                    quantity::percent(used),
                    quantity::percent(limit)
                );
                let subject = Object::new(Kind::Process, name.clone(), p.pid.to_string());
                let finding =
                    at_home(Finding::new(&FDS, severity, subject, message), &p.home).cite_opt("belongs to", p.user.clone());
                findings.push(match &p.home {
                    Home::Container(name) | Home::Unit(name) => finding.key(KeyKind::Descriptors, name),
                    Home::Host => finding,
                });
            }
        }
        findings.into()
    }
}
