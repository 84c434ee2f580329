//! Disk usage of the engine's images, containers, volumes and build cache.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Endpoint;
use crate::probe::ProbeError;

/// The engine walks every layer and volume for this request, which takes many seconds on a large host.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sizes in bytes, as in `GET /system/df` of every API version since 1.40.
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Response {
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

/// -1 means "not computed" in this API.
fn size(n: Option<i64>) -> u64 {
    n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

pub(super) async fn read(endpoint: &Endpoint) -> Result<DiskUsage, ProbeError> {
    // unversioned: the engine then responds in its newest format; all formats so far have these fields (moby keeps them for old
    // clients)
    let response: Response = endpoint.get_json("disk usage of the engine", "/system/df", TIMEOUT).await?;
    Ok(summarise(response))
}

pub(super) fn summarise(response: Response) -> DiskUsage {
    let cache = response.build_cache.unwrap_or_default();
    let volumes = response.volumes.unwrap_or_default();
    DiskUsage {
        layers: size(response.layers_size),
        images: response
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
        stopped_containers: response
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
    fn usage_of_old_api_is_summed() {
        let response = serde_json::from_value(serde_json::json!({
            "LayersSize": 1000,
            "Images": [{"RepoTags": null, "Size": 600, "SharedSize": 100, "Containers": 0},
                       {"RepoTags": ["a:1"], "Size": 500, "SharedSize": -1, "Containers": 2}],
            "Containers": [{"State": "exited", "SizeRw": 7}, {"State": "running", "SizeRw": 9}, {"State": "exited"}],
            "Volumes": [{"UsageData": {"Size": 50, "RefCount": 0}}, {"UsageData": {"Size": -1, "RefCount": 1}}, {}],
            "BuildCache": [{"Size": 30, "InUse": false, "Shared": false}, {"Size": 5, "InUse": true}]
        }));
        let usage = summarise(response.unwrap_or_else(|e| panic!("{e}")));
        assert_eq!((usage.layers, usage.unused_images(), usage.dangling_images()), (1000, 500, 500));
        assert_eq!((usage.stopped_containers, usage.unused_volumes, usage.volumes), (7, 50, 50));
        assert_eq!((usage.build_cache_reclaimable, usage.build_cache), (30, 35));
    }

    #[test]
    fn empty_response_is_zero() {
        let usage = summarise(serde_json::from_str("{}").unwrap_or_else(|e| panic!("{e}")));
        assert_eq!(usage, DiskUsage::default());
    }
}
