//! Services that still run a program or library replaced by an upgrade.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Severity};
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::proc::process;
use opsctl_core::probe::proc::process::Replaced;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::servers::READ_TIMEOUT;

const DELETED_EXE: Code = Code {
    id: "systemd.deleted-exe",
    severities: &[Severity::Info],
    when: "a running service's program or one of its libraries was replaced or removed",
    hint: "restart it at a time of low load: until then it runs the old version with its known bugs",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "systemd.deleted-exe",
    title: "services run the installed versions of their programs",
    codes: &[DELETED_EXE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct DeletedExe;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// The replaced program or library, by unit.
    replaced: Vec<(String, Replaced)>,
    /// Why some services could not be examined.
    gap: Option<String>,
}

impl Check for DeletedExe {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        // without running services the check has no target
        if running(inventory).is_empty() { Vec::new() } else { vec![Object::host()] }
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let systemd = cx.systemd()?;
        let mut pids = Vec::new();
        for name in running(&cx.inventory) {
            let unit = systemd.unit(&name).await?;
            pids.extend(unit.service.as_ref().filter(|s| s.main_pid > 0).map(|s| (name, s.main_pid)));
        }
        if !host::is_root() {
            return Ok(Evidence {
                gap: Some("reading programs of services from /proc: permission denied; needs root".to_owned()),
                ..Evidence::default()
            });
        }
        // reading /proc/PID/maps waits for a lock that the process may hold
        let read = join_all(pids.into_iter().map(|(unit, pid)| async move {
            let replaced =
                blocking::run("the program of a service", &unit, READ_TIMEOUT, move |io| process::replaced(io, pid)).await;
            replaced.map(|replaced| Some((unit, replaced?)))
        }));
        let mut e = Evidence::default();
        for read in read.await {
            match read {
                Ok(replaced) => e.replaced.extend(replaced),
                Err(why) => e.gap = Some(why.to_string()),
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let finding = |(unit, replaced): &(String, Replaced)| {
            let subject = Object::named(Kind::Unit, unit.clone());
            let message = match replaced {
                Replaced::Program(path) => format!("{unit} runs {path}, which was replaced or removed"),
                Replaced::Library(path) => format!("{unit} uses the library {path}, which was replaced or removed"),
            };
            Finding::new(&DELETED_EXE, Severity::Info, subject, message).key(KeyKind::Unit, unit)
        };
        Judgement {
            findings: e.replaced.iter().map(finding).collect(),
            gaps: e.gap.iter().cloned().collect(),
            ..Judgement::default()
        }
    }
}

fn running(inventory: &Inventory) -> Vec<String> {
    inventory.unit_targets(|u| u.kind() == "service" && u.sub == "running").into_iter().map(|t| t.name).collect()
}
