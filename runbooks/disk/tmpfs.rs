//! Space in the tmpfs mounts of containers, foremost `/dev/shm`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{Check, CheckSpec, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity, quantity};
use opsctl_core::probe::kernel::filesystem::{Tmpfs, tmpfs_of};
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::inodes::INODES;
use super::space::SPACE;
use crate::shared::servers::READ_TIMEOUT;

static SPEC: CheckSpec = CheckSpec {
    id: "disk.tmpfs",
    title: "filesystems in memory of containers have space",
    codes: &[SPACE, INODES],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

pub(super) struct TmpfsCheck {
    pub(super) settings: Settings,
}

/// A tmpfs of a container that is nearly full.
#[derive(Debug, Serialize, Deserialize)]
struct Filling {
    container: Object,
    id: String,
    tmpfs: Tmpfs,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Evidence {
    filling: Vec<Filling>,
    /// The reason why some could not be read.
    gap: Option<String>,
}

impl Check for TmpfsCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        cx.docker()?;
        let containers = cx.inspected(cx.inventory.running()).await;
        let read = join_all(containers.iter().map(|c| async {
            let Some(pid) = c.pid() else { return Ok(Ok(Vec::new())) };
            blocking::run("filesystems in memory", &c.name, READ_TIMEOUT, move |io| tmpfs_of(io, pid)).await
        }));
        let read: Vec<Result<std::io::Result<Vec<Tmpfs>>, ProbeError>> = read.await;
        // a tmpfs shared by several containers is reported for the first; one shared with the host belongs to the host
        let mut seen: BTreeSet<String> = cx.inventory.mounts.iter().map(|m| m.dev.clone()).collect();
        let mut e = Evidence::default();
        for (container, found) in containers.iter().zip(read) {
            match found {
                Ok(Ok(found)) => {
                    for tmpfs in found.into_iter().filter(|t| seen.insert(t.dev.clone())) {
                        if self.full(&tmpfs).is_some() || self.no_inodes(&tmpfs) {
                            e.filling.push(Filling { container: container.subject(), id: container.id.clone(), tmpfs });
                        }
                    }
                }
                Ok(Err(why)) if why.kind() == std::io::ErrorKind::PermissionDenied => {
                    e.gap = Some("filesystems in memory of containers: needs root".to_owned());
                }
                // the container exited meanwhile
                Ok(Err(_)) => {}
                Err(why) => e.gap = Some(why.to_string()),
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gap.iter().cloned().collect(), ..Judgement::default() };
        for Filling { container, id, tmpfs } in &e.filling {
            let (at, space, of) = (&tmpfs.mountpoint, &tmpfs.space, &container.name);
            let tied = |finding: Finding| {
                let finding = finding.key(KeyKind::Filesystem, &tmpfs.dev).key(KeyKind::Container, id);
                let size = quantity::bytes(space.size);
                finding.cite("available", format!("{} of {size}, in memory", quantity::bytes(space.avail)))
            };
            if let Some(severity) = self.full(tmpfs) {
                let (used, limit) = (quantity::percent(space.percent()), quantity::percent(self.settings.space_crit_percent));
                let message = format!("{at} of {of} is {used} full, limit {limit}");
                let hint = if at == "/dev/shm" {
                    "the default of Docker is 64 MiB: set `shm_size` in the compose file, or --shm-size with docker run"
                } else {
                    "remove files that grow there, or enlarge it: `tmpfs` in the compose file, --tmpfs with docker run"
                };
                judgement.findings.push(tied(Finding::new(&SPACE, severity, container.clone(), message).hint(hint)));
            }
            if self.no_inodes(tmpfs) {
                let message = format!("{at} of {of} has no inodes left: nothing can be created in it");
                judgement.findings.push(tied(Finding::new(&INODES, Severity::Crit, container.clone(), message)));
            }
        }
        judgement
    }
}

impl TmpfsCheck {
    /// A small filesystem for one purpose may be nearly full in normal operation; writes fail only when it is full.
    fn full(&self, tmpfs: &Tmpfs) -> Option<Severity> {
        match &tmpfs.space {
            space if space.size == 0 => None,
            space if space.avail == 0 => Some(Severity::Crit),
            space => (space.percent() >= self.settings.space_crit_percent).then_some(Severity::Warn),
        }
    }

    fn no_inodes(&self, tmpfs: &Tmpfs) -> bool {
        tmpfs.space.inodes_percent().is_some_and(|used| used >= self.settings.inodes_crit_percent)
    }
}
