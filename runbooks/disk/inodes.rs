//! Inode usage of filesystems. Without free inodes no file can be created although space is free.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Measure, MountRef, Object, Role, Severity,
    Unit, quantity,
};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::{Space, Usage};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::holders::{self, Holders};
use super::{Settings, mount_of, mounts, subject};

pub(super) const INODES: Code = Code {
    id: "disk.inodes",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a filesystem has used {inodes_warn_percent} (warn) or {inodes_crit_percent} (crit) of its inodes",
    hint: "remove the many small files (sessions, caches, mail queues); free space does not help, and inodes cannot be added to ext4",
    impacts: &[Impact::confirmed(Role::NoRoom, KeyKind::Filesystem, "filesystem has no inodes left")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.inodes",
    title: "filesystems have inodes left",
    codes: &[INODES],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

pub(super) struct Inodes {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    mount: MountRef,
    space: Space,
    /// Directories with the most entries; only if inodes run out.
    #[serde(default)]
    usage: Option<Usage>,
    /// Owners of those directories that belong to the engine.
    #[serde(default)]
    holders: Holders,
}

impl Check for Inodes {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        mounts(inventory)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mount = mount_of(&cx.inventory, target).ok_or_else(|| ProbeError::Skip(format!("{} is not mounted", target.name)))?;
        let space = match filesystem::space(&mount.mountpoint).await {
            Err(ProbeError::Timeout { .. }) => return Err(ProbeError::Skip("it does not respond; see disk.space".to_owned())),
            other => other?,
        };
        let mut e = Evidence { mount: mount.clone(), space, usage: None, holders: Holders::new() };
        if space.inodes_percent().is_some_and(|p| p >= self.settings.inodes_warn_percent) {
            let budget = Duration::from_millis(self.settings.walk_ms);
            e.usage = filesystem::usage(&mount.mountpoint, budget).await.ok();
            let paths: Vec<&str> = e.usage.iter().flat_map(|u| &u.most_entries).map(|d| d.path.as_str()).collect();
            e.holders = holders::find(cx, &paths).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(percent) = e.space.inodes_percent() else {
            return Judgement::skip("it allocates inodes dynamically");
        };
        let limits = self.settings.inodes();
        let used = Measure::new(judged.target, "inodes_used", Unit::Percent, percent);
        let measures = vec![used.within(limits)];
        let Some((severity, limit)) = limits.exceeded(percent) else {
            return Judgement { measures, ..Judgement::default() };
        };
        let at = &e.mount.mountpoint;
        let message = format!(
            "{at} has used {} of its {} inodes, limit {}",
            quantity::percent(percent),
            quantity::count_of(e.space.inodes),
            quantity::percent(limit)
        );
        let most = e.usage.iter().flat_map(|u| &u.most_entries).take(3);
        let largest = holders::cited(most.map(|d| (d.path.as_str(), quantity::count_of(d.entries))), &e.holders);
        let free = format!("{} of {}", quantity::bytes(e.space.avail), quantity::bytes(e.space.size));
        let finding = Finding::new(&INODES, severity, subject(&e.mount), message)
            .key(KeyKind::Filesystem, &e.mount.dev)
            .cite("most entries", largest)
            .cite("space available", free);
        Judgement { findings: vec![finding], measures, ..Judgement::default() }
    }
}
