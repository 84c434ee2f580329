//! Reclaimable space of the engine: build cache, dangling images, containers that ended long ago.

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Kind, Object, Plan, Refusal, Risk,
    Severity, quantity,
};
use opsctl_core::probe::docker::DiskUsage;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const RECLAIMABLE: Code = Code {
    id: "disk.docker-reclaimable",
    severities: &[Severity::Info],
    when: "the engine's filesystem is 80 % full and build cache, unused images, stopped containers or unused volumes are reclaimable",
    hint: "remove unneeded objects, one kind at a time; never run docker system prune",
    ..Code::BASE
};
const BUILD_CACHE: FixSpec = FixSpec {
    id: "disk.prune-build-cache",
    risk: Risk::R3,
    title: "remove the build cache that no build uses; the next build is slower",
};
const DANGLING: FixSpec =
    FixSpec { id: "disk.prune-dangling-images", risk: Risk::R3, title: "remove images that have no tag and no container" };
const CONTAINERS: FixSpec = FixSpec {
    id: "disk.prune-containers",
    risk: Risk::R3,
    title: "remove the listed containers that ended over 7 days ago, have no restart policy and no keep label",
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.docker-reclaimable",
    title: "the engine has no reclaimable space on a full filesystem",
    codes: &[RECLAIMABLE],
    fixes: &[BUILD_CACHE, DANGLING, CONTAINERS],
    // /system/df walks every layer; in practice the deadline of the run limits it
    timeout: Duration::from_secs(20),
};

/// Usage from which the slow `/system/df` is queried, and from which objects may be removed (judgement: 80 and 90 %).
const USAGE_QUERY_PERCENT: f64 = 80.0;
const FULL_PERCENT: f64 = 90.0;
/// Minimum age of a stopped container for its removal (judgement: 7 d).
const MIN_CONTAINER_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) struct DockerReclaimable;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    engine: String,
    endpoint: String,
    root: String,
    filesystem: FsUsage,
    /// `None` if the filesystem has enough space: the query takes seconds on a large host.
    usage: Option<DiskUsage>,
    /// Containers that ended long ago: `(id, name)`.
    #[serde(default)]
    old: Vec<(String, String)>,
    /// Not the first engine of this host: images and build cache of this one are removed by its own client only.
    #[serde(default)]
    further: bool,
}

impl Check for DockerReclaimable {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engines().map(|e| Object::new(Kind::Engine, e.name.clone(), e.endpoint.clone())).collect()
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let first = cx.docker()?;
        let further = cx.inventory.engine.as_ref().is_some_and(|e| e.endpoint != target.id);
        let engine = first.engines().find(|engine| engine.endpoint().to_string() == target.id);
        let Some(docker) = engine.or((!further).then_some(first)) else {
            return Err(ProbeError::Skip("the engine does not respond".to_owned()));
        };
        let root = docker.data_root().await?;
        let filesystem = cx.filesystems.of(Path::new(&root)).await?;
        let mut e = Evidence {
            engine: target.name.clone(),
            endpoint: target.id.clone(),
            root,
            filesystem,
            usage: None,
            old: Vec::new(),
            further,
        };
        if e.filesystem.percent < USAGE_QUERY_PERCENT && !cx.options.usage {
            return Ok(e);
        }
        e.usage = Some((*docker.disk_usage().await?).clone());
        let own = |id: &str| std::ptr::eq(first.of(id), docker);
        let ended = cx.inventory.containers.iter().filter(|c| matches!(c.state.as_str(), "exited" | "dead") && own(&c.id));
        for c in cx.inspected(ended).await {
            let kept = c.labels.contains_key("keep") || c.labels.contains_key("opsctl.keep");
            let old = c.state.finished_at.is_some_and(|t| clock::now().duration_since(t) > MIN_CONTAINER_AGE);
            if old && !kept && !c.state.running && c.restart_policy.name == "no" {
                e.old.push((c.id.clone(), c.name.clone()));
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(usage) = &e.usage else { return Judgement::default() };
        let parts = [
            ("build cache", usage.build_cache_reclaimable),
            ("images without a container", usage.unused_images()),
            ("stopped containers", usage.stopped_containers),
            ("volumes without a container", usage.unused_volumes),
        ];
        let total: u64 = parts.iter().map(|(_, b)| b).sum();
        if total == 0 {
            return Judgement::default();
        }
        let subject = Object::new(Kind::Engine, e.engine.clone(), e.endpoint.clone());
        let message = format!("{} has {} of unused data on {}", e.engine, quantity::bytes(total), e.filesystem.mountpoint);
        let mut finding =
            Finding::new(&RECLAIMABLE, Severity::Info, subject, message).key(KeyKind::Filesystem, &e.filesystem.dev);
        for (kind, bytes) in parts {
            if bytes > 0 {
                finding = finding.cite(kind, quantity::bytes(bytes));
            }
        }
        if usage.build_cache_reclaimable > 0 && !e.further {
            finding = finding.fix(BUILD_CACHE.id);
        }
        if usage.dangling_images() > 0 && !e.further {
            finding = finding.fix(DANGLING.id);
        }
        if !e.old.is_empty() {
            finding = finding.fix(CONTAINERS.id);
        }
        vec![finding].into()
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        only_when_full(&e.filesystem)?;
        let usage =
            e.usage.as_ref().ok_or_else(|| Refusal::Precondition("the disk usage of the engine was not read".to_owned()))?;
        let (spec, action, lost) = match fix {
            f if f == BUILD_CACHE.id => (
                &BUILD_CACHE,
                Action::PruneBuildCache,
                format!("{} of build cache", quantity::bytes(usage.build_cache_reclaimable)),
            ),
            f if f == DANGLING.id => (
                &DANGLING,
                Action::PruneDanglingImages,
                format!("{} of images without a tag", quantity::bytes(usage.dangling_images())),
            ),
            _ => {
                let names: Vec<&str> = e.old.iter().map(|(_, name)| name.as_str()).collect();
                let ids = e.old.iter().map(|(id, _)| id.clone()).collect();
                (&CONTAINERS, Action::RemoveContainers { ids }, format!("the files and logs of {}", names.join(", ")))
            }
        };
        let within = Duration::from_secs(60);
        Ok(Plan::new(spec, &SPEC, finding, judged.target, vec![action])
            .affects([format!("lost: {lost}")])
            .verified(within, Duration::ZERO))
    }
}

/// Refuses removals while the filesystem is not full: they lose data and are not for tidying up.
pub(super) fn only_when_full(filesystem: &FsUsage) -> Result<(), Refusal> {
    if filesystem.percent >= FULL_PERCENT {
        return Ok(());
    }
    let (at, now) = (&filesystem.mountpoint, quantity::percent(filesystem.percent));
    Err(Refusal::Precondition(format!("{at} is only {now} full; offered from {} on", quantity::percent(FULL_PERCENT))))
}
