//! Disk usage of the engine's images, containers, volumes and build cache.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Docker;
use crate::model::{Gaps, Pick};
use crate::probe::ProbeError;

/// The engine walks every layer and volume for this request, which takes many seconds on a large host.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sizes in bytes, as in `GET /system/df` (API 1.25 and later).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// All image layers together, each counted once.
    pub layers: u64,
    /// Images and whether a container uses them.
    pub images: Vec<UsedImage>,
    /// Build cache not in use.
    pub build_cache_reclaimable: u64,
    /// Build cache altogether.
    pub build_cache: u64,
    /// Writable layers of containers that do not run.
    pub stopped_containers: u64,
    /// Volumes that no container uses.
    pub unused_volumes: u64,
    /// Volumes altogether.
    pub volumes: u64,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedImage {
    /// Tags, empty for a dangling image.
    pub tags: Vec<String>,
    /// Bytes of its layers; shared layers are counted for every image.
    pub size: u64,
    /// Bytes shared with other images.
    pub shared: u64,
    /// Containers created from it, running or not.
    pub containers: i64,
}

impl DiskUsage {
    /// Bytes used only by images without a container.
    #[must_use]
    pub fn unused_images(&self) -> u64 {
        self.images.iter().filter(|i| i.containers <= 0).map(|i| i.size.saturating_sub(i.shared)).sum()
    }

    /// Bytes used only by dangling images (no tag, no container).
    #[must_use]
    pub fn dangling_images(&self) -> u64 {
        self.images.iter().filter(|i| i.tags.is_empty() && i.containers <= 0).map(|i| i.size.saturating_sub(i.shared)).sum()
    }
}

pub(super) async fn read(docker: &Docker) -> Result<DiskUsage, ProbeError> {
    // `verbose` since API 1.52, which without it returns only sums
    let response = docker.read_within(|| TIMEOUT, "disk usage of the engine", "/system/df?verbose=1").await?;
    let gaps = Gaps::new("disk usage of the engine");
    let usage = summarise(&Pick::new(&response, &gaps));
    docker.add_gaps(gaps);
    Ok(usage)
}

/// -1 means "not computed" in this API.
fn size(pick: &Pick<'_>, name: &str) -> u64 {
    pick.int(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// One kind of objects: `Images` up to API 1.51, `ImageUsage` with sums and, if requested, `Items` since 1.52.
struct Usage<'v> {
    items: Vec<Pick<'v>>,
    /// `TotalSize` and `Reclaimable` without items.
    sums: Option<(u64, u64)>,
}

impl<'v> Usage<'v> {
    fn read(response: &Pick<'v>, old: &str, new: &str) -> Self {
        let usage = response.get(new);
        if usage.is_missing() {
            return Self { items: response.list(old), sums: None };
        }
        let items = usage.list("Items");
        let sums = items.is_empty().then(|| (size(&usage, "TotalSize"), size(&usage, "Reclaimable")));
        Self { items, sums }
    }

    /// Sum over the items, or the sum of the engine.
    fn sum(&self, sum_of_engine: impl Fn((u64, u64)) -> u64, of_item: impl Fn(&Pick<'_>) -> u64) -> u64 {
        self.sums.map_or_else(|| self.items.iter().map(of_item).fold(0, u64::saturating_add), sum_of_engine)
    }
}

/// Whether a container has ended or was never started; one in an unknown state has not.
fn is_stopped(container: &Pick<'_>) -> bool {
    let state = container.text("State").unwrap_or_default().to_ascii_lowercase();
    matches!(state.as_str(), "created" | "exited" | "dead" | "stopped" | "configured" | "initialized")
}

pub(super) fn summarise(response: &Pick<'_>) -> DiskUsage {
    let images = Usage::read(response, "Images", "ImageUsage");
    let containers = Usage::read(response, "Containers", "ContainerUsage");
    let volumes = Usage::read(response, "Volumes", "VolumeUsage");
    let cache = Usage::read(response, "BuildCache", "BuildCacheUsage");
    let (total, reclaimable) = (|sums: (u64, u64)| sums.0, |sums: (u64, u64)| sums.1);
    let flag = |pick: &Pick<'_>, name: &str| pick.flag(name).unwrap_or(false);
    let volume = |volume: &Pick<'_>| size(&volume.get("UsageData"), "Size");
    DiskUsage {
        layers: if response.get("LayersSize").is_missing() {
            size(&response.get("ImageUsage"), "TotalSize")
        } else {
            size(response, "LayersSize")
        },
        images: images
            .items
            .iter()
            .filter(|i| i.is_object())
            .map(|i| UsedImage {
                tags: i.texts("RepoTags").into_iter().filter(|t| t != "<none>:<none>").collect(),
                size: size(i, "Size"),
                shared: size(i, "SharedSize"),
                // absent or -1: not known to be unused
                containers: i.int("Containers").filter(|n| *n >= 0).unwrap_or(1),
            })
            .collect(),
        build_cache_reclaimable: cache
            .sum(reclaimable, |c| if flag(c, "InUse") || flag(c, "Shared") { 0 } else { size(c, "Size") }),
        build_cache: cache.sum(total, |c| size(c, "Size")),
        stopped_containers: containers.sum(reclaimable, |c| if is_stopped(c) { size(c, "SizeRw") } else { 0 }),
        unused_volumes: volumes.sum(reclaimable, |v| if v.get("UsageData").int("RefCount") == Some(0) { volume(v) } else { 0 }),
        volumes: volumes.sum(total, volume),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn usage(response: &Value) -> DiskUsage {
        let gaps = Gaps::default();
        let usage = summarise(&Pick::new(response, &gaps));
        assert_eq!(gaps.into_sentences(), Vec::<String>::new());
        usage
    }

    const IMAGES: &str = r#"[{"RepoTags": null, "Size": 600, "SharedSize": 100, "Containers": 0},
        {"RepoTags": ["a:1"], "Size": 500, "SharedSize": -1, "Containers": 2}]"#;
    const CONTAINERS: &str = r#"[{"State": "exited", "SizeRw": 7}, {"State": "running", "SizeRw": 9}, {"State": "exited"}]"#;
    const VOLUMES: &str = r#"[{"UsageData": {"Size": 50, "RefCount": 0}}, {"UsageData": {"Size": -1, "RefCount": 1}}, {}]"#;
    const CACHE: &str = r#"[{"Size": 30, "InUse": false, "Shared": false}, {"Size": 5, "InUse": true}]"#;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}"))
    }

    fn assert_summed(usage: &DiskUsage) {
        assert_eq!((usage.layers, usage.unused_images(), usage.dangling_images()), (1000, 500, 500));
        assert_eq!((usage.stopped_containers, usage.unused_volumes, usage.volumes), (7, 50, 50));
        assert_eq!((usage.build_cache_reclaimable, usage.build_cache), (30, 35));
    }

    #[test]
    fn usage_of_old_api_is_summed() {
        assert_summed(&usage(&json!({
            "LayersSize": 1000, "Images": parsed(IMAGES), "Containers": parsed(CONTAINERS), "Volumes": parsed(VOLUMES),
            "BuildCache": parsed(CACHE)
        })));
    }

    #[test]
    fn usage_of_new_api_is_summed() {
        assert_summed(&usage(&json!({
            "ImageUsage": {"TotalCount": 2, "TotalSize": 1000, "Reclaimable": 500, "Items": parsed(IMAGES)},
            "ContainerUsage": {"TotalCount": 3, "Items": parsed(CONTAINERS)},
            "VolumeUsage": {"TotalCount": 3, "Items": parsed(VOLUMES)},
            "BuildCacheUsage": {"TotalCount": 2, "Items": parsed(CACHE)}
        })));
    }

    #[test]
    fn sums_of_new_api_are_used_without_items() {
        let usage = usage(&json!({
            "ImageUsage": {"TotalSize": 1000, "Reclaimable": 500},
            "ContainerUsage": {"TotalSize": 16, "Reclaimable": 7},
            "VolumeUsage": {"TotalSize": 50, "Reclaimable": 40},
            "BuildCacheUsage": {"TotalSize": 35, "Reclaimable": 30}
        }));
        assert_eq!((usage.layers, usage.stopped_containers, usage.unused_volumes, usage.volumes), (1000, 7, 40, 50));
        assert_eq!((usage.build_cache_reclaimable, usage.build_cache), (30, 35));
    }

    #[test]
    fn container_in_an_unknown_state_is_not_reclaimable() {
        let usage =
            usage(&json!({"Containers": [{"State": "stopping", "SizeRw": 5}, {"SizeRw": 5}, {"State": "Stopped", "SizeRw": 3}]}));
        assert_eq!(usage.stopped_containers, 3);
    }

    #[test]
    fn image_without_a_count_of_containers_is_not_unused() {
        assert_eq!(usage(&json!({"Images": [{"Size": 5}, {"Size": 5, "Containers": -1}]})).unused_images(), 0);
    }

    #[test]
    fn empty_response_is_zero() {
        assert_eq!(usage(&json!({})), DiskUsage::default());
    }
}
