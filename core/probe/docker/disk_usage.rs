//! What the engine's own objects take of the disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Endpoint;
use crate::probe::ProbeError;

/// The engine walks every layer and volume for this answer; on a large host it takes many seconds.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sizes in bytes, as `GET /system/df` has them in every API version from 1.40 up.
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
    /// Containers made from it, running or not.
    pub containers: i64,
}

impl DiskUsage {
    /// Bytes that only images without a container take.
    #[must_use]
    pub fn unused_images(&self) -> u64 {
        self.images.iter().filter(|i| i.containers <= 0).map(|i| i.size.saturating_sub(i.shared)).sum()
    }

    /// Bytes that only dangling images (no tag, no container) take.
    #[must_use]
    pub fn dangling_images(&self) -> u64 {
        self.images.iter().filter(|i| i.tags.is_empty() && i.containers <= 0).map(|i| i.size.saturating_sub(i.shared)).sum()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    layers_size: Option<i64>,
    #[serde(default)]
    images: Option<Vec<Image>>,
    #[serde(default)]
    containers: Option<Vec<Container>>,
    #[serde(default)]
    volumes: Option<Vec<Volume>>,
    #[serde(default)]
    build_cache: Option<Vec<BuildCache>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    repo_tags: Option<Vec<String>>,
    size: Option<i64>,
    shared_size: Option<i64>,
    containers: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    state: Option<String>,
    size_rw: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    usage_data: Option<VolumeUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeUsage {
    size: Option<i64>,
    ref_count: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BuildCache {
    size: Option<i64>,
    in_use: Option<bool>,
    shared: Option<bool>,
}

/// -1 stands for "not computed" in this API.
fn size(n: Option<i64>) -> u64 {
    n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

pub(super) async fn read(endpoint: &Endpoint) -> Result<DiskUsage, ProbeError> {
    // unversioned: the engine then answers in its own newest shape, and every shape so far has these fields (moby keeps them for old clients)
    let answer: Answer = endpoint.get_json("disk usage of the engine", "/system/df", TIMEOUT).await?;
    Ok(summarise(answer))
}

pub(super) fn summarise(answer: Answer) -> DiskUsage {
    let cache = answer.build_cache.unwrap_or_default();
    let volumes = answer.volumes.unwrap_or_default();
    DiskUsage {
        layers: size(answer.layers_size),
        images: answer
            .images
            .unwrap_or_default()
            .into_iter()
            .map(|i| UsedImage {
                tags: i.repo_tags.unwrap_or_default().into_iter().filter(|t| t != "<none>:<none>").collect(),
                size: size(i.size),
                shared: size(i.shared_size),
                containers: i.containers.unwrap_or(-1),
            })
            .collect(),
        build_cache_reclaimable: cache
            .iter()
            .filter(|c| c.in_use != Some(true) && c.shared != Some(true))
            .map(|c| size(c.size))
            .sum(),
        build_cache: cache.iter().map(|c| size(c.size)).sum(),
        stopped_containers: answer
            .containers
            .unwrap_or_default()
            .iter()
            .filter(|c| !matches!(c.state.as_deref(), Some("running" | "paused" | "restarting")))
            .map(|c| size(c.size_rw))
            .sum(),
        unused_volumes: volumes
            .iter()
            .filter_map(|v| v.usage_data.as_ref())
            .filter(|u| u.ref_count == Some(0))
            .map(|u| size(u.size))
            .sum(),
        volumes: volumes.iter().filter_map(|v| v.usage_data.as_ref()).map(|u| size(u.size)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_engines_answer_is_summed_up() {
        let answer = serde_json::from_value(serde_json::json!({
            "LayersSize": 1000,
            "Images": [{"RepoTags": null, "Size": 600, "SharedSize": 100, "Containers": 0},
                       {"RepoTags": ["a:1"], "Size": 500, "SharedSize": -1, "Containers": 2}],
            "Containers": [{"State": "exited", "SizeRw": 7}, {"State": "running", "SizeRw": 9}, {"State": "exited"}],
            "Volumes": [{"UsageData": {"Size": 50, "RefCount": 0}}, {"UsageData": {"Size": -1, "RefCount": 1}}, {}],
            "BuildCache": [{"Size": 30, "InUse": false, "Shared": false}, {"Size": 5, "InUse": true}]
        }));
        let usage = summarise(answer.unwrap_or_else(|e| panic!("{e}")));
        assert_eq!((usage.layers, usage.unused_images(), usage.dangling_images()), (1000, 500, 500));
        assert_eq!((usage.stopped_containers, usage.unused_volumes, usage.volumes), (7, 50, 50));
        assert_eq!((usage.build_cache_reclaimable, usage.build_cache), (30, 35));
    }

    #[test]
    fn an_empty_answer_is_all_zero() {
        let usage = summarise(serde_json::from_str("{}").unwrap_or_else(|e| panic!("{e}")));
        assert_eq!(usage, DiskUsage::default());
    }
}
