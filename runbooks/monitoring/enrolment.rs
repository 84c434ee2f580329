//! Enrolment of this host: its entry in the target files of the local Prometheus, the labels, and the health of the target.

use std::time::Duration;

use opsctl_core::model::address::split_port;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal,
    Risk, Severity,
};
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::network::listeners;
use opsctl_core::probe::proc::files::{file_of, files_of};
use opsctl_core::probe::servers::prometheus::Health;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking, network};
use serde::{Deserialize, Serialize};

use super::enrol::{ALLOY_PATH, Entry, drift, entry, expected_labels, on_host, own_file, text};
use super::loaded;
use super::{Enrolment, Settings, some_of};
use crate::shared::servers::READ_TIMEOUT;

const ENROLMENT: Code = Code {
    id: "monitoring.enrolment",
    severities: &[Severity::Warn],
    when: "[host] declares this host monitored, and no target file of a Prometheus here contains it, its labels there differ, or Prometheus does not scrape it; or [host] declares it retired, and a target file still contains it",
    hint: "the entry is a file in a directory that Prometheus watches: it is loaded without a reload",
    ..Code::BASE
};
const ENROL: FixSpec = FixSpec {
    id: "monitoring.enrol",
    risk: Risk::R1,
    title: "write the target file of this host with the labels of [host]; files of other hosts stay unchanged",
};
const RETIRE: FixSpec = FixSpec {
    id: "monitoring.retire",
    risk: Risk::R1,
    title: "rename the target file of this host to .deleted.TIME, so that it is kept and no longer loaded",
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.enrolment",
    title: "This host is monitored as declared in [host]",
    codes: &[ENROLMENT],
    fixes: &[ENROL, RETIRE],
    timeout: Duration::from_secs(8),
};

/// Port of `node_exporter` (<https://github.com/prometheus/prometheus/wiki/Default-port-allocations>).
const NODE_EXPORTER: u16 = 9100;

pub(super) struct Enrolled {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    host: Enrolment,
    hostname: String,
    /// The address at which it is scraped.
    address: Option<String>,
    metrics_path: Option<String>,
    entries: Vec<Entry>,
    /// Path of opsctl's own target file, if unambiguous.
    own: Option<String>,
    /// The target in each Prometheus of this host: name, health, error; no health if it has no such target.
    seen: Vec<(String, Option<Health>, String)>,
    /// `file_sd_configs` patterns.
    patterns: Vec<String>,
    gaps: Vec<String>,
}

impl Check for Enrolled {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let here = !inventory.server_targets(Product::Prometheus).is_empty();
        if here && self.settings.host.is_some() { vec![Object::host()] } else { Vec::new() }
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let host = self.settings.host.clone().unwrap_or_default();
        let (port, path) = exporter(cx).await?;
        let mut e = Evidence { hostname: host::hostname(), ..Evidence::default() };
        e.metrics_path = host.metrics_path.clone().or(path);
        e.address = match &host.address {
            Some(address) => Some(address.clone()),
            None => {
                match (
                    port,
                    network::view(None, vec![network::EXTERNAL_ADDRESS]).await?.ways.into_iter().flatten().find_map(|w| w.source),
                ) {
                    (Some(port), Some(ip)) => Some(std::net::SocketAddr::new(ip, port).to_string()),
                    _ => None,
                }
            }
        };
        let mut candidates: Vec<(bool, String)> = Vec::new();
        for target in cx.inventory.server_targets(Product::Prometheus) {
            if cx.flags(&target).await.is_agent() {
                continue;
            }
            if let Err(why) = self.one(cx, &target, &mut e, &mut candidates).await {
                e.gaps.push(why.to_string());
            }
        }
        candidates.sort();
        candidates.dedup();
        let likely: Vec<&String> = candidates.iter().filter(|(named, _)| *named).map(|(_, f)| f).collect();
        e.own = match (&host.targets_file, &likely[..], &candidates[..]) {
            (Some(file), ..) => Some(file.clone()),
            (None, [one], _) => Some((*one).clone()),
            (None, [], [(_, one)]) => Some(one.clone()),
            _ => None,
        };
        e.host = host;
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
        let Some(address) = &e.address else {
            let text = "[host] declares this host monitored, but it has neither a node_exporter on port 9100 nor an Alloy";
            if e.host.monitored {
                judgement.findings.push(finding(text.to_owned()).hint("start one, or set its `address` in [host]"));
            }
            return judgement;
        };
        if !e.host.monitored {
            judgement.findings.extend(e.entries.iter().map(|entry| {
                let text = format!("[host] declares this host retired, but {} still lists {address}", shown(entry));
                let found = finding(text).fix(RETIRE.id);
                if entry.path.is_empty() { found } else { found.part("file", &entry.path) }
            }));
            return judgement;
        }
        let labels = expected_labels(&e.host, e.metrics_path.as_deref());
        let Some(found) = e.entries.iter().find(|x| drift(&x.labels, &labels).is_empty()).or(e.entries.first()) else {
            let text = format!("this host ({address}) is in no target file: no alert fires when it is down");
            judgement.findings.push(finding(text).cite("target files", e.patterns.join(", ")).fix(ENROL.id));
            return judgement;
        };
        let differs = drift(&found.labels, &labels);
        if !differs.is_empty() {
            let text =
                format!("the labels of this host ({address}) in {} differ from [host]: {}", shown(found), some_of(&differs));
            judgement.findings.push(finding(text).cite("differences", differs.join("; ")).fix(ENROL.id));
            return judgement;
        }
        for (name, health, error) in &e.seen {
            let text = match health {
                Some(Health::Up) => continue,
                Some(Health::Down) => {
                    format!("this host ({address}) is in its target file, but {name} cannot scrape it: {error}")
                }
                Some(Health::Unknown) => {
                    format!("this host ({address}) is in its target file, but {name} has not scraped it yet")
                }
                None => format!("this host ({address}) is in {}, but {name} has not loaded it", shown(found)),
            };
            let f = finding(text).hint("check the path from there with `opsctl network`, and the firewall; a new file is loaded within the refresh_interval of its job");
            // an own target file is complete only once Prometheus scrapes it
            judgement.findings.push(if found.ours { f.fix(ENROL.id) } else { f });
        }
        judgement
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let address = e.address.as_deref().unwrap_or_default();
        if fix == RETIRE.id {
            let file = finding.part.strip_prefix("file ").unwrap_or_default();
            let Some(entry) = e.entries.iter().find(|x| x.path == file) else {
                return Err(Refusal::Precondition("the file no longer lists this host".to_owned()));
            };
            if !entry.alone || entry.path.is_empty() {
                let why = if entry.path.is_empty() { "it is not on this host" } else { "it contains other hosts too" };
                return Err(Refusal::ByHand(format!("remove {address} from {}: {why}", shown(entry))));
            }
            let (path, text) = (entry.path.clone(), entry.text.clone());
            let retire = Action::RetireFile { path: path.clone(), text: text.clone() };
            let undo = vec![Action::WriteFile { path, text, executable: false }];
            return Ok(Plan::new(&RETIRE, &SPEC, finding, judged.target, vec![retire]).undo(undo));
        }
        let labels = expected_labels(&e.host, e.metrics_path.as_deref());
        let new = text(address, &labels);
        let (path, before) = match e.entries.first() {
            Some(entry) if entry.ours && entry.alone && !entry.path.is_empty() => (entry.path.clone(), Some(entry.text.clone())),
            Some(entry) => {
                let text = format!("correct the labels of {address} in {}, which opsctl did not write", shown(entry));
                return Err(Refusal::ByHand(text));
            }
            None => {
                let Some(path) = &e.own else {
                    let text = "set `targets_file` in [host] to a file that a Prometheus here reads (file_sd_configs)";
                    return Err(Refusal::ByHand(text.to_owned()));
                };
                (path.clone(), None)
            }
        };
        if before.as_ref() == Some(&new) {
            return Err(Refusal::Precondition("the entry is correct: the fault is between Prometheus and this host".to_owned()));
        }
        let undo = match before {
            Some(text) => Action::WriteFile { path: path.clone(), text, executable: false },
            None => Action::RetireFile { path: path.clone(), text: new.clone() },
        };
        let write = Action::WriteFile { path, text: new, executable: false };
        // the directory is watched, and read again within refresh_interval: 5 min by default
        let plan = Plan::new(&ENROL, &SPEC, finding, judged.target, vec![write]).undo(vec![undo]);
        Ok(plan.verified(Duration::from_secs(120), Duration::ZERO))
    }
}

impl Enrolled {
    /// The target files and the targets of one Prometheus.
    async fn one(
        &self,
        cx: &ProbeCx,
        target: &Object,
        e: &mut Evidence,
        candidates: &mut Vec<(bool, String)>,
    ) -> Result<(), ProbeError> {
        let server = &cx.servers().known(target)?.server;
        let Some(process) = server.process else { return Ok(()) };
        let jobs = loaded::jobs(cx, target).await?;
        let mounts = match (&server.container, &cx.docker) {
            (Some(id), Some(docker)) => Some(docker.inspect(id).await?.mounts.clone()),
            _ => None,
        };
        let here = |path: &str| match &mounts {
            Some(mounts) => on_host(path, mounts),
            None => Some(path.to_owned()),
        };
        for job in &jobs {
            // a directory of other targets is not suitable for a host
            let named = ["node", "alloy", "host", "unix"].iter().any(|w| job.name.to_ascii_lowercase().contains(w));
            for pattern in &job.files {
                e.patterns.push(pattern.clone());
                candidates.extend(own_file(pattern, &e.hostname).and_then(|f| here(&f)).map(|f| (named, f)));
                let Some(address) = e.address.clone() else { continue };
                let pattern = pattern.clone();
                let read = move |io: &Io| -> Vec<(String, String)> {
                    let files = files_of(io, process.pid, &pattern).into_iter();
                    files
                        .filter_map(|path| Some((file_of(io, process.pid, &path)?, path)))
                        .map(|(text, path)| (path, text))
                        .collect()
                };
                let from = format!("process {}", process.pid);
                for (path, text) in blocking::run("target files", &from, READ_TIMEOUT, read).await? {
                    match entry(&here(&path).unwrap_or_default(), &text, &address) {
                        Ok(found) => e.entries.extend(found),
                        Err(why) => e.gaps.push(why),
                    }
                }
            }
        }
        let Some(address) = e.address.clone() else { return Ok(()) };
        let scraped = cx.scraped(target).await?;
        let seen = scraped.iter().find(|s| s.address == address);
        e.seen.push((target.name.clone(), seen.map(|s| s.health), seen.map(|s| s.error.clone()).unwrap_or_default()));
        Ok(())
    }
}

/// Port and path of this host's metrics: Alloy, or the listener on the port of `node_exporter`.
async fn exporter(cx: &ProbeCx) -> Result<(Option<u16>, Option<String>), ProbeError> {
    let read = |io: &Io| listeners::listeners_of(io, i64::from(std::process::id())).unwrap_or_default();
    let listening = blocking::run("listening sockets", "/proc/self/net/tcp", READ_TIMEOUT, read).await?;
    if listening.iter().any(|l| l.port == NODE_EXPORTER) {
        return Ok((Some(NODE_EXPORTER), None));
    }
    let alloy = cx.inventory.servers.iter().find(|s| s.product == Product::Alloy && s.process.is_some());
    let Some(alloy) = alloy else { return Ok((None, None)) };
    let target = alloy.object();
    let flags = cx.flags(&target).await;
    let at = flags.value("server.http.listen-addr").and_then(|address| split_port(address).1);
    let port = at.unwrap_or_else(|| opsctl_core::probe::servers::default_port(Product::Alloy));
    Ok((Some(port), Some(ALLOY_PATH.to_owned())))
}

fn shown(entry: &Entry) -> String {
    if entry.path.is_empty() { "a file in the container of Prometheus".to_owned() } else { entry.path.clone() }
}

fn finding(text: String) -> Finding {
    Finding::new(&ENROLMENT, Severity::Warn, Object::host(), text).key(KeyKind::Host, "enrolment")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan of the fix that the finding offers, for a host with this enrolment and these entries.
    fn offered(monitored: bool, entries: Vec<Entry>, own: Option<&str>) -> Vec<Result<Plan, Refusal>> {
        let host = Enrolment { monitored, ..Enrolment::default() };
        let own = own.map(str::to_owned);
        let e = Evidence { host, address: Some("a:1".to_owned()), entries, own, ..Evidence::default() };
        let check = Enrolled { settings: Settings::default() };
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = check.judge(&judged, &e).findings;
        findings.iter().map(|f| check.plan(&f.fixes[0], f, &judged, &e)).collect()
    }

    fn listed(path: &str, ours: bool, alone: bool) -> Entry {
        let text = if alone { "[]".to_owned() } else { String::new() };
        let labels = [("environment".to_owned(), "other".to_owned())].into();
        Entry { path: path.to_owned(), ours, alone, text, labels }
    }

    #[test]
    fn host_is_enrolled_in_a_file_of_its_own() {
        let plans = offered(true, vec![], Some("/t/web.json"));
        assert!(matches!(&plans[..], [Ok(plan)] if plan.actions.len() == 1), "{plans:?}");
        let plans = offered(true, vec![listed("/t/web.json", true, true)], None);
        assert!(matches!(&plans[..], [Ok(_)]), "{plans:?}");
    }

    #[test]
    fn target_file_of_another_author_is_not_written() {
        for entry in [listed("/t/all.json", false, true), listed("/t/all.json", true, false)] {
            let plans = offered(true, vec![entry], None);
            assert!(matches!(&plans[..], [Err(Refusal::ByHand(why))] if why.contains("which opsctl did not write")), "{plans:?}");
        }
        let plans = offered(true, vec![], None);
        assert!(matches!(&plans[..], [Err(Refusal::ByHand(why))] if why.contains("set `targets_file`")), "{plans:?}");
    }

    #[test]
    fn each_target_file_is_retired_by_itself() {
        let plans = offered(false, vec![listed("/t/all.json", false, false), listed("/t/web.json", false, true)], None);
        let [Err(Refusal::ByHand(why)), Ok(plan)] = &plans[..] else { panic!("{plans:?}") };
        assert!(why.contains("remove a:1 from /t/all.json: it contains other hosts too"), "{why}");
        assert_eq!(plan.part, "file /t/web.json");
    }

    #[test]
    fn unlisted_host_without_enrolment_has_no_finding() {
        let check = Enrolled { settings: Settings::default() };
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let e = Evidence { address: Some("a:1".to_owned()), ..Evidence::default() };
        assert_eq!(check.judge(&judged, &e), Judgement::default());
    }
}
