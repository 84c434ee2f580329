//! The container or unit of a process, derived from its control group.

use serde::{Deserialize, Serialize};

/// The container or unit that a process runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Home {
    /// A container, by full id.
    Container(String),
    /// A systemd unit.
    Unit(String),
    /// Neither: a kernel thread, or a host without systemd.
    #[default]
    Host,
}

impl Home {
    /// Parses a control group path such as `/docker/<id>`, `/system.slice/docker-<id>.scope`,
    /// `/machine.slice/libpod-<id>.scope/container`, `/system.slice/nginx.service`, `/kubepods/…/<id>`. A container inside a unit
    /// takes precedence over the unit.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let parts = || path.split('/').filter(|p| !p.is_empty());
        if let Some(id) = parts().rev().find_map(container_id) {
            return Self::Container(id.to_owned());
        }
        let unit = |part: &&str| [".service", ".scope"].iter().any(|suffix| part.ends_with(suffix));
        // user@1000.service/app.slice/foo.service: the inner one
        parts().rev().find(unit).map_or(Self::Host, |unit| Self::Unit(unescape(unit)))
    }

    /// The innermost unit in `/proc/<pid>/cgroup`, also inside a container with its own systemd.
    #[must_use]
    pub fn unit_of_cgroups(text: &str) -> Option<String> {
        let mut paths = text.lines().filter_map(|l| l.splitn(3, ':').nth(2));
        let unit = |path: &str| {
            let unit =
                |part: &&str| [".service", ".scope"].iter().any(|suffix| part.ends_with(suffix)) && container_id(part).is_none();
            path.split('/').rev().find(unit).map(unescape)
        };
        paths.find_map(unit)
    }

    /// Parses `/proc/<pid>/cgroup`: the most specific path of all hierarchies counts.
    #[must_use]
    pub fn of_cgroups(text: &str) -> Self {
        let homes = text.lines().filter_map(|l| l.splitn(3, ':').nth(2)).map(Self::of_path);
        let mut best = Self::Host;
        for home in homes {
            match (&home, &best) {
                (Self::Container(_), _) => return home,
                (Self::Unit(_), Self::Host) => best = home,
                _ => {}
            }
        }
        best
    }
}

/// The 64 hex digits of a container id, alone or as `docker-<id>.scope`, `libpod-<id>`, `cri-containerd-<id>.scope`.
fn container_id(part: &str) -> Option<&str> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let id = bare.rsplit('-').next()?;
    // libpod-conmon-<id> is the monitor process of the container, outside of it
    (id.len() == 64 && !part.contains("conmon") && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// systemd escapes `-` in unit names as `\x2d` in some directory names.
fn unescape(unit: &str) -> String {
    unit.replace("\\x2d", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_group_paths_of_all_managers() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/docker/{id}/system.slice/nginx.service"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope"),
            format!("/kubepods/burstable/pod1/{id}"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd-{id}.scope").replace(':', "/"),
        ] {
            assert_eq!(Home::of_path(&path), Home::Container(id.clone()), "{path}");
        }
        assert_eq!(Home::of_path("/system.slice/nginx.service"), Home::Unit("nginx.service".into()));
        assert_eq!(
            Home::of_path("/user.slice/user-0.slice/user@0.service/app.slice/job.service"),
            Home::Unit("job.service".into())
        );
        assert_eq!(Home::of_path("/"), Home::Host);
        assert_eq!(
            Home::of_path(&format!("/machine.slice/libpod-conmon-{id}.scope")),
            Home::Unit(format!("libpod-conmon-{id}.scope"))
        );
    }

    #[test]
    fn container_in_any_hierarchy_takes_precedence() {
        let id = "f".repeat(64);
        let hybrid = format!("12:pids:/docker/{id}\n1:name=systemd:/system.slice/docker.service\n0::/\n");
        assert_eq!(Home::of_cgroups(&hybrid), Home::Container(id));
        assert_eq!(Home::of_cgroups("4:cpu:/\n1:name=systemd:/system.slice/cron.service\n"), Home::Unit("cron.service".into()));
        assert_eq!(Home::of_cgroups("x\n::\n"), Home::Host);
        let inside = format!("5:cpu:/docker/{}\n1:name=systemd:/docker/{0}/system.slice/cloud-final.service\n", "f".repeat(64));
        assert_eq!(Home::unit_of_cgroups(&inside).as_deref(), Some("cloud-final.service"));
        assert_eq!(Home::unit_of_cgroups(&format!("0::/system.slice/docker-{}.scope\n", "f".repeat(64))), None);
    }
}
