//! Reading of a container from the answers of the Engine API, field by field.
//!
//! A value of an unexpected shape costs its field. Only a container without an id or a state cannot be judged at all. Podman's
//! states and spellings are converted to those of Docker.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::container::{CI_LABELS, Container, Health, HealthEntry, LogConfig, Mount, PortMap, RestartPolicy, State, parse_time};
use super::health_test;
use super::swarm::Listed;
use crate::model::{ContainerRef, Gaps, Pick};
use crate::probe::Redactor;
use crate::probe::product::{celery_command, product_of};

/// The systemd unit of a container of Podman: quadlets, and `podman generate systemd` (podman-systemd.unit(5)).
pub(super) const UNIT_LABEL: &str = "PODMAN_SYSTEMD_UNIT";

const KEPT_LABELS: &[&str] = &["opsctl.", "autoheal", "keep", "com.docker.compose.", "com.docker.swarm.", UNIT_LABEL];

/// `PATH` of a container that does not set it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Limits from this one on are none: the kernel's own value for "no limit" is near the maximum of `i64`, and clients pass the
/// maximum of `u64`.
const NO_LIMIT: i64 = 1 << 62;

/// Result of `inspect` before the PID of the container is proven. The environment and the arguments contain secrets.
pub(super) struct Inspection {
    pub(super) container: Container,
    pub(super) environment: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) working_directory: String,
}

/// The fields of `GET /containers/ID/json`. The error states why the container cannot be judged.
pub(super) fn inspection(response: &Value, redactor: &Redactor) -> Result<Inspection, String> {
    // `podman inspect` prints a list of one
    let response = match response {
        Value::Array(items) if items.len() == 1 => &items[0],
        other => other,
    };
    let gaps = Gaps::new(&format!("inspect of {}", name_of(response)));
    let root = Pick::new(response, &gaps);
    let config = root.get("Config");
    let environment: Vec<String> = match config.get("Env").value() {
        Value::Object(_) => config.pairs("Env").into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        _ => config.texts("Env"),
    };
    let arguments = root.texts("Args");
    let working_directory = config.text("WorkingDir").unwrap_or_default();
    let mut container = facts(&root, &environment, &arguments, redactor)?;
    container.gaps = gaps.into_sentences();
    Ok(Inspection { container, environment, arguments, working_directory })
}

fn name_of(response: &Value) -> String {
    let text = |name: &str| response.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("Name"), text("Id")) {
        (Some(name), _) => name.trim_start_matches('/').to_owned(),
        (None, Some(id)) => id.chars().take(12).collect(),
        (None, None) => "a container".to_owned(),
    }
}

fn facts(root: &Pick<'_>, environment: &[String], arguments: &[String], redactor: &Redactor) -> Result<Container, String> {
    let (config, host, network) = (root.get("Config"), root.get("HostConfig"), root.get("NetworkSettings"));
    let text = |pick: &Pick<'_>, name: &str| pick.text(name).unwrap_or_default();
    let variable = |name: &str| environment.iter().find_map(|e| e.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    let limit = |name: &str| host.int(name).filter(|n| *n < NO_LIMIT);
    let Some(id) = root.first(&["Id", "ID"]).as_text().filter(|id| !id.is_empty()) else {
        return Err("the response has no container id".to_owned());
    };
    let mut state_paths: Vec<String> = variable("PGDATA").into_iter().collect();
    state_paths.extend(storage_arguments(arguments));
    let mut exposed: Vec<u16> = config.names("ExposedPorts").iter().filter_map(|p| tcp_port(p)).collect();
    exposed.sort_unstable();
    let name = root.text("Name").filter(|name| !name.is_empty());
    // the image of a container that was created from a root file system has no name
    let image = config.text("Image").filter(|image| !image.is_empty()).or_else(|| root.text("ImageName"));
    Ok(Container {
        name: name.map_or_else(|| id.chars().take(12).collect(), |n| n.trim_start_matches('/').to_owned()),
        image: image.unwrap_or_default(),
        image_id: image_id(&text(root, "Image")),
        created: time(&root.get("Created")),
        state: state(&root.get("State"))?,
        restart_count: root.int("RestartCount").unwrap_or(0),
        restart_policy: restart_policy(&host.get("RestartPolicy")),
        auto_remove: host.flag("AutoRemove").unwrap_or(false),
        labels: kept_labels(config.pairs("Labels")),
        log: log_config(&host.get("LogConfig"), text(root, "LogPath")),
        mounts: root.list("Mounts").iter().map(mount).collect(),
        networks: network.entries("Networks").iter().map(|(n, e)| ((*n).to_owned(), text(e, "IPAddress"))).collect(),
        aliases: aliases(&network),
        network_mode: text(&host, "NetworkMode"),
        dns: host.texts("Dns"),
        ports: ports(&network, tcp_port),
        udp_ports: ports(&network, udp_port),
        configured_ports: configured_ports(&host),
        exposed,
        memory: limit("Memory").unwrap_or(0),
        memory_swap: limit("MemorySwap").or(host.int("MemorySwap").map(|_| -1)).unwrap_or(0),
        nano_cpus: cpu_limit(limit("NanoCpus"), limit("CpuQuota"), limit("CpuPeriod")),
        pids_limit: limit("PidsLimit").unwrap_or(0),
        init: host.flag("Init").unwrap_or(false),
        stop_timeout: config.int("StopTimeout"),
        health_test: health_test::parse(&config.first(&["Healthcheck", "HealthCheck"]), redactor),
        path: variable("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        program: text(root, "Path"),
        state_paths,
        own_layer: text(&root.get("GraphDriver").get("Data"), "UpperDir"),
        pid_unproven: false,
        gaps: Vec::new(),
        id,
    })
}

/// `sha256:…`; Podman's own API omits the prefix.
pub(super) fn image_id(id: &str) -> String {
    let is_bare = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_bare { format!("sha256:{id}") } else { id.to_owned() }
}

/// A time as text, or in seconds since 1970.
fn time(pick: &Pick<'_>) -> Option<Timestamp> {
    if !pick.is_text() {
        return pick.as_int().filter(|s| *s > 0).and_then(|s| Timestamp::from_second(s).ok());
    }
    let text = pick.as_text().filter(|text| !text.is_empty())?;
    // a number of seconds as text, or the zero value of a time
    let seconds = || text.parse::<i64>().ok().and_then(|s| Timestamp::from_second(s).ok());
    let time = parse_time(&text).or_else(seconds);
    if time.is_none() && text.parse::<Timestamp>().is_err() {
        pick.reject("a time");
    }
    time
}

/// Docker's name of a state. Podman has more: `configured` and `initialized` precede the first start, and its Docker API maps
/// `stopping` and `stopped` like this since 2026 (podman#28390).
fn docker_state(state: &str) -> String {
    match state.to_ascii_lowercase().as_str() {
        "configured" | "initialized" => "created".to_owned(),
        "stopped" => "exited".to_owned(),
        "stopping" => "running".to_owned(),
        other => other.to_owned(),
    }
}

/// States that Docker and Podman document.
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

fn state(s: &Pick<'_>) -> Result<State, String> {
    let reported = s.text("Status").unwrap_or_default().to_ascii_lowercase();
    let flag = |name: &str| s.flag(name).unwrap_or(false);
    let pid = s.int("Pid").unwrap_or(0);
    let (paused, restarting, dead) = (flag("Paused") || reported == "paused", flag("Restarting"), flag("Dead"));
    let mut status = docker_state(&reported);
    if reported == "stopping" && pid == 0 {
        "exited".clone_into(&mut status);
    }
    let known = STATES.contains(&status.as_str());
    let running = match s.flag("Running") {
        // Podman reports only one of its states; a paused container of Docker is running, too
        Some(running) => running || paused || reported == "stopping" && pid > 0,
        None if known => matches!(status.as_str(), "running" | "paused" | "restarting"),
        None if status.is_empty() => return Err("the engine does not report its state".to_owned()),
        None => return Err(format!("the engine reports its state as {reported:?}")),
    };
    // Podman has lost track of the container (`unknown`)
    if !known && !status.is_empty() && !running {
        return Err(format!("the engine reports its state as {reported:?}"));
    }
    if status.is_empty() {
        let derived = match (paused, restarting, running, dead, s.get("StartedAt").is_missing()) {
            (true, ..) => "paused",
            (_, true, ..) => "restarting",
            (_, _, true, ..) => "running",
            (_, _, _, true, _) => "dead",
            (.., true) => "created",
            _ => "exited",
        };
        derived.clone_into(&mut status);
    }
    Ok(State {
        status,
        running,
        paused,
        restarting,
        oom_killed: s.first(&["OOMKilled", "OomKilled"]).as_flag().unwrap_or(false),
        dead,
        pid,
        exit_code: s.int("ExitCode").unwrap_or(0),
        error: s.text("Error").unwrap_or_default(),
        started_at: time(&s.get("StartedAt")),
        finished_at: time(&s.get("FinishedAt")),
        // Podman before 4.0 calls it Healthcheck
        health: health(&s.first(&["Health", "Healthcheck"])),
    })
}

/// `None` for a container without a health test, for which Podman reports an empty state.
fn health(h: &Pick<'_>) -> Option<Health> {
    if h.is_missing() || !h.is_object() {
        return None;
    }
    let entry = |e: Pick<'_>| HealthEntry {
        start: time(&e.get("Start")),
        end: time(&e.get("End")),
        exit_code: e.int("ExitCode").unwrap_or(0),
        output: e.text("Output").unwrap_or_default(),
    };
    let health = Health {
        status: h.text("Status").unwrap_or_default().to_ascii_lowercase(),
        failing_streak: h.int("FailingStreak").unwrap_or(0),
        log: h.list("Log").into_iter().map(entry).collect(),
    };
    let is_empty = matches!(health.status.as_str(), "" | "none") && health.log.is_empty();
    (!is_empty).then_some(health)
}

/// `{"Name": "on-failure", "MaximumRetryCount": 3}`, also with the limit in the name, as on the command line: `on-failure:3`.
fn restart_policy(p: &Pick<'_>) -> RestartPolicy {
    let (named, limit) = if p.is_text() {
        (p.as_text().unwrap_or_default(), None)
    } else {
        (p.text("Name").unwrap_or_default(), p.int("MaximumRetryCount"))
    };
    let (name, retries) = named.split_once(':').map_or((named.as_str(), None), |(name, n)| (name, n.parse().ok()));
    let name = name.trim().to_ascii_lowercase();
    RestartPolicy {
        name: if name.is_empty() { "no".to_owned() } else { name },
        maximum_retry_count: limit.filter(|n| *n != 0).or(retries).unwrap_or(0),
    }
}

fn log_config(log: &Pick<'_>, path: String) -> LogConfig {
    let options: BTreeMap<String, String> = log.pairs("Config").into_iter().collect();
    let option = |name: &str| options.get(name).filter(|value| !value.is_empty()).cloned();
    // Podman: the limit of its own log file, `0B` without one
    let size = || log.text("Size").filter(|size| !matches!(size.trim(), "" | "0" | "0B"));
    let mut driver = log.text("Type").unwrap_or_default();
    // Podman's Docker API reports json-file for all drivers (podman 4.3); the files of Docker end like this (moby
    // daemon/container.go)
    if driver == "json-file" && !path.is_empty() && !path.ends_with("-json.log") {
        "k8s-file".clone_into(&mut driver);
    }
    LogConfig {
        driver,
        max_size: option("max-size").or_else(size),
        max_file: option("max-file"),
        mode: option("mode"),
        path: if path.is_empty() { log.text("Path").unwrap_or_default() } else { path },
    }
}

/// An object, or only the path in the container (Podman's list).
fn mount(m: &Pick<'_>) -> Mount {
    if m.is_text() {
        return Mount { destination: m.as_text().unwrap_or_default(), rw: true, ..Mount::default() };
    }
    let text = |name: &str| m.text(name).unwrap_or_default();
    Mount {
        kind: text("Type"),
        name: text("Name"),
        source: text("Source"),
        destination: m.first(&["Destination", "Target"]).as_text().unwrap_or_default(),
        rw: m.flag("RW").unwrap_or(true),
    }
}

fn aliases(network: &Pick<'_>) -> BTreeMap<String, Vec<String>> {
    let names = |e: &Pick<'_>| [e.texts("Aliases"), e.texts("DNSNames")].concat();
    let all = network.entries("Networks").into_iter().map(|(n, e)| (n.to_owned(), names(&e)));
    all.filter(|(_, names)| !names.is_empty()).collect()
}

fn ports(network: &Pick<'_>, number: impl Fn(&str) -> Option<u16>) -> Vec<PortMap> {
    let mut ports = Vec::new();
    for (port, bindings) in network.entries("Ports") {
        let Some(container) = number(port) else { continue };
        for binding in bindings.items() {
            if let Some(host) = host_port(&binding.get("HostPort")) {
                ports.push(PortMap { container, host_ip: binding.text("HostIp").unwrap_or_default(), host });
            }
        }
    }
    ports.sort();
    ports
}

fn configured_ports(host: &Pick<'_>) -> Vec<u16> {
    let bindings = host.entries("PortBindings").into_iter().filter(|(port, _)| tcp_port(port).is_some());
    let mut ports: Vec<u16> =
        bindings.flat_map(|(_, b)| b.items()).filter_map(|b| host_port(&b.get("HostPort")).filter(|p| *p > 0)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Text or a number; `None` if it is empty (assigned at the start) or a range, from which the engine selects.
fn host_port(pick: &Pick<'_>) -> Option<u16> {
    let text = pick.as_text()?;
    let port = text.trim().parse().ok();
    if port.is_none() && !text.trim().is_empty() && !text.contains('-') {
        pick.reject("a port");
    }
    port
}

/// `53/udp`.
fn udp_port(text: &str) -> Option<u16> {
    text.strip_suffix("/udp")?.parse().ok()
}

/// `80/tcp` or `80`.
pub(super) fn tcp_port(text: &str) -> Option<u16> {
    match text.split_once('/') {
        Some((port, "tcp")) => port.parse().ok(),
        None => text.parse().ok(),
        Some(_) => None,
    }
}

fn cpu_limit(nano_cpus: Option<i64>, quota: Option<i64>, period: Option<i64>) -> i64 {
    match (nano_cpus.unwrap_or(0), quota.unwrap_or(0), period.unwrap_or(0)) {
        (nano, _, _) if nano > 0 => nano,
        (_, quota, period) if quota > 0 => quota.saturating_mul(1_000_000_000) / if period > 0 { period } else { 100_000 },
        _ => 0,
    }
}

/// Arguments that set the data directory of a service: Alloy, Prometheus, Loki.
fn storage_arguments(args: &[String]) -> Vec<String> {
    const FLAGS: &[&str] = &["--storage.path", "--storage.tsdb.path"];
    let mut paths = Vec::new();
    for (i, arg) in args.iter().enumerate() {
        for flag in FLAGS {
            if let Some(value) = arg.strip_prefix(flag) {
                paths.extend(
                    value
                        .strip_prefix('=')
                        .map(str::to_owned)
                        .or_else(|| value.is_empty().then(|| args.get(i + 1).cloned()).flatten()),
                );
            }
        }
    }
    paths
}

fn kept_labels(labels: Vec<(String, String)>) -> BTreeMap<String, String> {
    labels
        .into_iter()
        .filter(|(name, _)| KEPT_LABELS.iter().chain(CI_LABELS).any(|k| name.starts_with(k)) || is_of_traefik(name))
        // compose also stores hashes, which are not used; the paths of its files are needed to detect changes
        .filter(|(name, _)| !name.ends_with("config-hash"))
        .collect()
}

/// The port of a service and whether Traefik uses the container; its other labels may contain password hashes.
fn is_of_traefik(label: &str) -> bool {
    label == "traefik.enable"
        || (label.starts_with("traefik.") && label.to_ascii_lowercase().ends_with(".loadbalancer.server.port"))
}

/// An entry of `GET /containers/json`; without an id it is a gap.
pub(super) fn listed(item: &Pick<'_>) -> Option<Listed> {
    if !item.is_object() {
        return None;
    }
    let Some(id) = item.first(&["Id", "ID"]).as_text().filter(|id| !id.is_empty()) else {
        item.get("Id").reject("the id of a container");
        return None;
    };
    let name = item
        .texts("Names")
        .into_iter()
        // legacy links add names such as /web/db
        .map(|n| n.trim_start_matches('/').to_owned())
        .find(|n| !n.contains('/') && !n.is_empty())
        .unwrap_or_else(|| id.chars().take(12).collect());
    let labels = kept_labels(item.pairs("Labels"));
    let image = item.text("Image").unwrap_or_default();
    // a list in Podman's own API
    let command = item.texts("Command").join(" ");
    let state = item.text("State").filter(|state| !state.is_empty());
    let container = ContainerRef {
        name,
        product: product_of(&image, &command),
        celery: celery_command(&command).map(|(role, ..)| role),
        image,
        state: state.map_or_else(|| state_of_status(&item.text("Status").unwrap_or_default()), |state| docker_state(&state)),
        network_mode: item.get("HostConfig").text("NetworkMode").unwrap_or_default(),
        project: labels.get("com.docker.compose.project").cloned(),
        service: labels.get("com.docker.compose.service").cloned(),
        labels,
        id,
    };
    Some(Listed { container, created: time(&item.get("Created")) })
}

/// The state in `Up 3 hours (Paused)`, `Exited (0) 2 days ago`, of an engine that reports no `State`.
fn state_of_status(status: &str) -> String {
    let state = match status.split_whitespace().next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "up" if status.contains("(Paused)") => "paused",
        "up" => "running",
        "exited" => "exited",
        "restarting" => "restarting",
        "created" => "created",
        "removal" => "removing",
        "dead" => "dead",
        _ => "",
    };
    state.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_tcp_ports_count() {
        assert_eq!((tcp_port("80/tcp"), tcp_port("53/udp"), tcp_port("x")), (Some(80), None, None));
    }

    #[test]
    fn storage_paths_are_found_in_both_spellings() {
        let args = ["run", "--storage.path=/a", "--storage.tsdb.path", "/b", "--storage.path.extra"].map(str::to_owned);
        assert_eq!(storage_arguments(&args), ["/a", "/b"]);
    }

    #[test]
    fn cpu_quota_is_converted_to_nano_cpus() {
        assert_eq!(cpu_limit(None, Some(50_000), Some(100_000)), 500_000_000);
        assert_eq!(cpu_limit(Some(2_000_000_000), None, None), 2_000_000_000);
        assert_eq!(cpu_limit(None, Some(-1), None), 0);
    }

    #[test]
    fn container_facts_contain_no_secrets() {
        let response = json!({
            "Id": "a", "Name": "/web", "Path": "/app", "Args": ["--password", "canary-1"], "State": {"Status": "running"},
            "Config": {"Image": "web:1", "Env": ["PGDATA=/data", "PASSWORD=canary-2"], "Labels": {"traefik.auth": "canary-3", "autoheal": "true"}},
            "HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": "canary-4"}}}
        });
        let container = inspection(&response, &Redactor::default()).map(|i| i.container).unwrap_or_default();
        let json = serde_json::to_string(&container).unwrap_or_default();
        assert!(!json.contains("canary"), "{json}");
        assert!(json.contains("/data") && json.contains("autoheal"), "{json}");
    }

    #[test]
    fn container_without_a_state_cannot_be_judged() {
        for state in [json!(null), json!({}), json!({"Status": "unknown"}), json!({"Status": "unknown", "Running": false})] {
            let response = json!({"Id": "a", "Name": "/web", "State": state});
            assert!(inspection(&response, &Redactor::default()).is_err(), "{response}");
        }
    }

    #[test]
    fn list_without_states_is_read_from_the_status() {
        for (status, state) in [
            ("Up 3 hours", "running"),
            ("Up 3 hours (Paused)", "paused"),
            ("Exited (0) 2 days ago", "exited"),
            ("Removal In Progress", "removing"),
            ("", ""),
        ] {
            assert_eq!(state_of_status(status), state);
        }
    }

    #[test]
    fn unlimited_values_are_no_limits() {
        let read = |host: Value| {
            let response = json!({"Id": "a", "State": {"Running": true}, "HostConfig": host});
            inspection(&response, &Redactor::default()).map(|i| (i.container.memory, i.container.memory_swap)).ok()
        };
        assert_eq!(read(json!({"Memory": u64::MAX, "MemorySwap": u64::MAX})), Some((0, -1)));
        assert_eq!(read(json!({"Memory": 9_223_372_036_854_771_712_i64, "MemorySwap": -1})), Some((0, -1)));
        assert_eq!(read(json!({"Memory": "67108864", "MemorySwap": null})), Some((67_108_864, 0)));
    }
}
