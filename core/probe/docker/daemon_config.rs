//! Faults of `daemon.json` with which dockerd does not start: it validates the file and its flags before anything else (moby
//! `daemon/config/config.go`, `daemon/command/config.go`; <https://docs.docker.com/engine/daemon/#configure-the-docker-daemon>).

use serde_json::{Map, Value};

/// Options with a boolean value.
const BOOLEANS: &[&str] = &[
    "allow-direct-routing",
    "cri-containerd",
    "debug",
    "experimental",
    "icc",
    "init",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "no-new-privileges",
    "raw-logs",
    "selinux-enabled",
    "tls",
    "tlsverify",
    "userland-proxy",
];

/// Options with a list as their value.
const LISTS: &[&str] = &[
    "authorization-plugins",
    "cdi-spec-dirs",
    "default-address-pools",
    "dns",
    "dns-opts",
    "dns-search",
    "exec-opts",
    "hosts",
    "insecure-registries",
    "labels",
    "registry-mirrors",
    "storage-opts",
];

/// Options with an integer value.
const NUMBERS: &[&str] = &[
    "default-stop-timeout",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "mtu",
    "network-control-plane-mtu",
    "network-diagnostic-port",
    "shutdown-timeout",
];

/// Objects with members that are options of their own are flattened; these are not.
const OBJECTS: &[&str] =
    &["builder", "cluster-store-opts", "default-network-opts", "default-ulimits", "features", "log-opts", "nri-opts", "runtimes"];

/// All other names: flags and options of the releases 1.13 to 29. Every flag is accepted as a key.
const OTHERS: &[&str] = &[
    "add-runtime",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "api-enable-cors",
    "authorization-plugin",
    "bip",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "cdi-spec-dir",
    "cgroup-parent",
    "cluster-advertise",
    "cluster-store",
    "cluster-store-opt",
    "config-file",
    "containerd",
    "containerd-namespace",
    "containerd-plugins-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "data-root",
    "default-address-pool",
    "default-cgroupns-mode",
    "default-gateway",
    "default-gateway-v6",
    "default-ipc-mode",
    "default-network-opt",
    "default-runtime",
    "default-shm-size",
    "default-ulimit",
    "deprecated-key-path",
    "disable-legacy-registry",
    "dns-opt",
    "exec-opt",
    "exec-root",
    "feature",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "graph",
    "group",
    "help",
    "host",
    "host-gateway-ip",
    "host-gateway-ips",
    "http-proxy",
    "https-proxy",
    "init-path",
    "insecure-registry",
    "ip",
    "label",
    "log-driver",
    "log-format",
    "log-level",
    "log-opt",
    "metrics-addr",
    "min-api-version",
    "no-proxy",
    "node-generic-resource",
    "node-generic-resources",
    "nri-opt",
    "oom-score-adjust",
    "pidfile",
    "registry-mirror",
    "restart",
    "rootless",
    "seccomp-profile",
    "storage-driver",
    "storage-opt",
    "swarm-default-advertise-addr",
    "tlscacert",
    "tlscert",
    "tlskey",
    "userland-proxy-path",
    "userns-remap",
    "validate",
    "version",
];

/// Flags with another name than their option in the file.
const RENAMED: &[(&str, &str)] = &[
    ("authorization-plugin", "authorization-plugins"),
    ("cdi-spec-dir", "cdi-spec-dirs"),
    ("default-address-pool", "default-address-pools"),
    ("default-network-opt", "default-network-opts"),
    ("default-ulimit", "default-ulimits"),
    ("dns-opt", "dns-opts"),
    ("exec-opt", "exec-opts"),
    ("feature", "features"),
    ("host", "hosts"),
    ("host-gateway-ip", "host-gateway-ips"),
    ("insecure-registry", "insecure-registries"),
    ("label", "labels"),
    ("log-opt", "log-opts"),
    ("node-generic-resource", "node-generic-resources"),
    ("nri-opt", "nri-opts"),
    ("registry-mirror", "registry-mirrors"),
    ("storage-opt", "storage-opts"),
];

/// Flags of one letter.
const SHORT: &[(char, &str)] = &[
    ('D', "debug"),
    ('G', "group"),
    ('H', "host"),
    ('b', "bridge"),
    ('g', "graph"),
    ('l', "log-level"),
    ('p', "pidfile"),
    ('s', "storage-driver"),
];

/// The reason why dockerd would not start with this configuration file and these arguments, as a clause. `is_newer`: the file was
/// changed after the start of the daemon, which otherwise has accepted every name in it.
pub(super) fn fault(config: &str, arguments: &[String], is_newer: bool) -> Option<String> {
    let config = config.trim_start_matches('\u{feff}');
    // a file that does not exist or is empty is valid
    if config.trim().is_empty() {
        return None;
    }
    let Ok(options) = serde_json::from_str::<Map<String, Value>>(config) else {
        return Some("its configuration file is no valid JSON".to_owned());
    };
    let mut flat = Map::new();
    for (name, value) in options {
        match value {
            Value::Object(members) if !OBJECTS.contains(&name.as_str()) => flat.extend(members),
            value => {
                flat.insert(name, value);
            }
        }
    }
    if let Some(name) = arguments.iter().filter_map(|word| option_of(word)).find(|name| flat.contains_key(*name)) {
        return Some(format!("{name} is set both as a flag and in its configuration file"));
    }
    if let Some(fault) = flat.iter().find_map(|(name, value)| wrong_type(name, value)) {
        return Some(fault);
    }
    let is_known = |name: &str| [BOOLEANS, LISTS, NUMBERS, OBJECTS, OTHERS].iter().any(|known| known.contains(&name));
    let unknown = flat.keys().find(|name| !is_known(name)).filter(|_| is_newer)?;
    Some(format!("{unknown} in its configuration file is no option of dockerd"))
}

/// The option of the file that a word of the command line sets. Runtimes of both are merged.
fn option_of(word: &str) -> Option<&'static str> {
    let flag = if let Some(long) = word.strip_prefix("--") {
        long.split('=').next()?
    } else {
        let short = word.strip_prefix('-')?.chars().next()?;
        SHORT.iter().find(|(letter, _)| *letter == short)?.1
    };
    if let Some((_, option)) = RENAMED.iter().find(|(name, _)| *name == flag) {
        return Some(*option);
    }
    [BOOLEANS, LISTS, NUMBERS, OTHERS].into_iter().flatten().copied().find(|name| *name == flag)
}

/// A value that Go's decoder does not accept for its option: `{"debug": "true"}`, `{"log-opts": {"max-file": 3}}`.
fn wrong_type(name: &str, value: &Value) -> Option<String> {
    let wrong = |expected: &str| Some(format!("{name} in its configuration file is no {expected}"));
    if value.is_null() {
        return None;
    }
    if BOOLEANS.contains(&name) && !value.is_boolean() {
        return wrong("boolean");
    }
    if LISTS.contains(&name) && !value.is_array() {
        return wrong("list");
    }
    if NUMBERS.contains(&name) && !value.is_i64() {
        return wrong("integer");
    }
    if name == "log-opts" {
        let member = value.as_object()?.iter().find(|(_, value)| !value.is_string())?.0;
        return Some(format!("{member} of log-opts in its configuration file is no string"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    const PACKAGE: &str = "/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock";

    fn of(config: &str) -> Option<String> {
        fault(config, &words(PACKAGE), true)
    }

    #[test]
    fn ordinary_files_are_valid() {
        for config in [
            "",
            " \n",
            "{}",
            "\u{feff}{}",
            r#"{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}, "live-restore": true}"#,
            r#"{"proxies": {"http-proxy": "http://proxy:3128"}, "builder": {"gc": {"enabled": true}}}"#,
            r#"{"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}, "default-runtime": "nvidia"}"#,
            r#"{"default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "features": {"containerd-snapshotter": true}}"#,
        ] {
            assert_eq!(of(config), None, "{config}");
        }
    }

    #[test]
    fn broken_json() {
        for config in ["{ not json", "[]", r#"{"debug": true,}"#] {
            assert_eq!(of(config).as_deref(), Some("its configuration file is no valid JSON"), "{config}");
        }
    }

    // github.com/moby/moby/issues/25471: `-H fd://` of the unit and `hosts` of the file
    #[test]
    fn hosts_as_flag_and_in_the_file() {
        let fault = of(r#"{"hosts": ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375"]}"#);
        assert_eq!(fault.as_deref(), Some("hosts is set both as a flag and in its configuration file"));
    }

    // github.com/docker/for-linux/issues/327, github.com/moby/moby/issues/42948
    #[test]
    fn other_options_as_flag_and_in_the_file() {
        for (flags, config) in [
            ("--insecure-registry 192.0.2.2:5000", r#"{"insecure-registries": ["192.0.2.2:5000"]}"#),
            ("--debug", r#"{"debug": true}"#),
            ("-D", r#"{"debug": true}"#),
            ("--log-driver=journald", r#"{"log-driver": "json-file"}"#),
            ("--tlsverify", r#"{"tls": {"tlsverify": true}}"#),
        ] {
            assert!(fault(config, &words(flags), false).is_some_and(|why| why.contains("both as a flag")), "{flags}");
        }
    }

    #[test]
    fn runtimes_of_both_are_merged() {
        let config = r#"{"runtimes": {"kata": {"path": "/usr/bin/kata-runtime"}}}"#;
        assert_eq!(fault(config, &words("--add-runtime crun=/usr/bin/crun"), true), None);
    }

    // github.com/florianutz/DockerCE-CIS/issues/2, github.com/docker/docs/issues/19398
    #[test]
    fn unknown_option_counts_in_a_newer_file_only() {
        let config = r#"{"containerd-plugin-namespace": "x"}"#;
        assert_eq!(of(config).as_deref(), Some("containerd-plugin-namespace in its configuration file is no option of dockerd"));
        assert_eq!(fault(config, &words(PACKAGE), false), None);
    }

    #[test]
    fn values_of_another_type() {
        for (config, expected) in [
            (r#"{"debug": "true"}"#, "debug in its configuration file is no boolean"),
            (r#"{"insecure-registries": "192.0.2.2:5000"}"#, "insecure-registries in its configuration file is no list"),
            (r#"{"mtu": "1400"}"#, "mtu in its configuration file is no integer"),
            (r#"{"log-opts": {"max-file": 3}}"#, "max-file of log-opts in its configuration file is no string"),
        ] {
            assert_eq!(of(config).as_deref(), Some(expected), "{config}");
        }
    }
}
