//! Data sources of Grafana: by its API with a configured login, otherwise by its provisioning files.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::address::{Address, join, usual_port};
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity};
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs::ConnectResult;
use opsctl_core::probe::proc::files::{entries_of, file_of};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::peers::{self, Peer};
use super::status::engine_of_names;
use crate::shared::dependencies::{ATTACHED, ENGINE, UNRESPONSIVE, running_container};
use crate::shared::servers::{READ_TIMEOUT, Server};

const DATA_SOURCE: Code = Code {
    id: "monitoring.data-source",
    severities: &[Severity::Warn],
    when: "the host of a data source does not resolve or refuses connections where Grafana runs, or Grafana reports that it does not answer",
    hint: "dashboards of this data source are empty: inside a container `localhost` is the container itself; use the name of the server in a shared network",
    depends_on: &[&running_container("the data source's"), UNRESPONSIVE, ATTACHED, ENGINE],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.data-source",
    title: "Data sources of Grafana answer",
    codes: &[DATA_SOURCE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Limit of data sources of one Grafana, and of its provisioning files.
const MAX_SOURCES: usize = 20;
const MAX_FILES: usize = 20;

/// Directory of its packages and its image, and the variable that changes it.
const PROVISIONING: &str = "/etc/grafana/provisioning";
const PROVISIONING_VARIABLE: &str = "GF_PATHS_PROVISIONING";

pub(super) struct DataSources;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    sources: Vec<DataSource>,
    /// Endpoint of the engine that resolves its names.
    engine: Option<String>,
    gap: Option<String>,
}

/// A data source that Grafana queries itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DataSource {
    name: String,
    /// `prometheus`, `loki`, …
    kind: String,
    /// Identity in the API.
    #[serde(skip)]
    uid: String,
    host: String,
    port: u16,
    fault: Option<Fault>,
    /// The server of a faulty one on this host.
    peers: Vec<Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
enum Fault {
    NoSuchName,
    Refused,
    Unreachable(String),
    /// Message of Grafana's own test.
    Reported(String),
}

impl Check for DataSources {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Grafana)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let process = server.get().and_then(|s| s.process);
        let login = cx.servers().known(target)?.login.as_ref().is_some_and(|l| l.password.is_some());
        let mut e = Evidence::default();
        let listed = if login { by_api(cx, target).await? } else { None };
        let tested = listed.is_some();
        e.sources = match (listed, process) {
            (Some(sources), _) => sources,
            (None, Some(process)) => {
                let read = move |io: &Io| provisioned(io, process.pid);
                blocking::run("provisioning files", &format!("process {}", process.pid), READ_TIMEOUT, read).await?
            }
            (None, None) => return Err(ProbeError::Skip("it is not running".to_owned())),
        };
        e.sources.truncate(MAX_SOURCES);
        let checked = e.sources.into_iter().map(|mut source| async {
            source.fault = match (if tested { by_health(cx, target, &source.uid).await } else { None }, process) {
                (Some(health), _) => health,
                (None, Some(process)) => connect(cx, process.pid, &source.host, source.port).await,
                (None, None) => None,
            };
            source
        });
        e.sources = join_all(checked).await;
        for source in e.sources.iter_mut().filter(|s| s.fault.is_some()) {
            source.peers = Box::pin(peers::resolve(cx, &server, [join(&source.host, source.port)])).await;
        }
        if e.sources.iter().any(|s| s.fault.is_some()) {
            e.engine = engine_of_names(cx, process).await;
        }
        Ok(Evidence { server, ..e })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let grafana = &judged.target.name;
        let faulty = e.sources.iter().filter_map(|s| Some((s, s.fault.as_ref()?)));
        let finding = |(source, fault): (&DataSource, &Fault)| -> Finding {
            let (name, at) = (&source.name, join(&source.host, source.port));
            let text = match fault {
                Fault::NoSuchName => {
                    format!("the data source {name} of {grafana} cannot be queried: its host {} does not resolve", source.host)
                }
                Fault::Refused => format!("the data source {name} of {grafana} cannot be queried: {at} refuses the connection"),
                Fault::Unreachable(why) => format!("the data source {name} of {grafana} cannot be queried: {at}: {why}"),
                Fault::Reported(why) => format!("the data source {name} of {grafana} cannot be queried: {why}"),
            };
            let f = e.server.finding(&DATA_SOURCE, Severity::Warn, judged.target, text).part("data source", name);
            let f = peers::tie_all(&source.peers, f.cite("type", &source.kind));
            match &e.engine {
                Some(endpoint) => f.key(KeyKind::Engine, endpoint),
                None => f,
            }
        };
        let findings: Vec<Finding> = faulty.map(finding).collect();
        Judgement { findings, gaps: e.gap.iter().cloned().collect(), ..Judgement::default() }
    }
}

/// The data sources of its API, or `None` if the login has no permission for them.
async fn by_api(cx: &ProbeCx, target: &Object) -> Result<Option<Vec<DataSource>>, ProbeError> {
    let Ok(answer) = cx.response(target, "/api/datasources").await? else { return Ok(None) };
    let list: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200);
    let text = |v: &serde_json::Value, key: &str| v.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let source = |v: &serde_json::Value| {
        let found = source(&text(v, "name"), &text(v, "type"), &text(v, "url"), &text(v, "access"))?;
        Some(DataSource { uid: text(v, "uid"), ..found })
    };
    Ok(list.as_ref().and_then(|l| l.as_array()).map(|all| all.iter().filter_map(source).collect()))
}

/// The result of Grafana's own test (`GET /api/datasources/uid/:uid/health`), or `None` if the plugin has none.
async fn by_health(cx: &ProbeCx, target: &Object, uid: &str) -> Option<Option<Fault>> {
    if uid.is_empty() || !uid.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return None;
    }
    let answer = cx.response(target, &format!("/api/datasources/uid/{uid}/health")).await.ok()?.ok()?;
    let health: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    match health.get("status")?.as_str()? {
        "OK" => Some(None),
        "ERROR" => {
            let message = health.get("message").and_then(|m| m.as_str()).unwrap_or("its test failed");
            Some(Some(Fault::Reported(message.chars().take(200).collect())))
        }
        _ => None,
    }
}

/// A connection from where Grafana runs. Slow and unreachable name servers are reported by the dns runbook.
async fn connect(cx: &ProbeCx, pid: i32, host: &str, port: u16) -> Option<Fault> {
    let addresses = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => match cx.lookup_as(pid, host).await.ok()? {
            Lookup::Up(addresses) => addresses,
            Lookup::NoSuchName => return Some(Fault::NoSuchName),
            Lookup::NoAnswer(_) => return None,
        },
    };
    let mut fault = None;
    for address in addresses.into_iter().take(2) {
        let found = match cx.reach(Some(pid), SocketAddr::new(address, port)).await.ok()? {
            ConnectResult::Connected => return None,
            ConnectResult::Refused => Fault::Refused,
            other => Fault::Unreachable(other.words()),
        };
        // `::1` and `127.0.0.1` of one name: the family that this place does not have is not the reason
        if fault.is_none() || found == Fault::Refused {
            fault = Some(found);
        }
    }
    fault
}

/// A data source with an address that Grafana itself connects to.
fn source(name: &str, kind: &str, url: &str, access: &str) -> Option<DataSource> {
    // `direct` is queried by the browser; a variable of its environment is not resolved here
    if url.is_empty() || url.contains(['$', '{']) || !matches!(access, "" | "proxy" | "server") {
        return None;
    }
    let address = Address::parse(url);
    let default = match address.scheme {
        Some(scheme) => usual_port(scheme),
        // `db:5432` of the databases
        None => None,
    };
    let (host, port) = (address.host().to_owned(), address.port().or(default)?);
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
    is_name.then(|| DataSource { name: name.to_owned(), kind: kind.to_owned(), host, port, ..DataSource::default() })
}

/// The data sources in its provisioning files.
fn provisioned(io: &Io, pid: i32) -> Vec<DataSource> {
    let environ = io.read_lossy(format!("/proc/{pid}/environ")).unwrap_or_default();
    let configured = environ.split('\0').find_map(|e| e.strip_prefix(PROVISIONING_VARIABLE)?.strip_prefix('='));
    let directory = format!("{}/datasources", configured.filter(|d| d.starts_with('/')).unwrap_or(PROVISIONING));
    let is_yaml = |path: &String| path.rsplit('.').next().is_some_and(|ending| matches!(ending, "yaml" | "yml"));
    let files = entries_of(io, pid, &directory, MAX_FILES).into_iter().filter(is_yaml);
    files.filter_map(|path| file_of(io, pid, &path)).flat_map(|text| parse(&text)).collect()
}

/// The list `datasources` of a provisioning file (<https://grafana.com/docs/grafana/latest/administration/provisioning/>) in block style.
pub(super) fn parse(text: &str) -> Vec<DataSource> {
    let mut sources = Vec::new();
    // name, type, url and access of the entry, and the column of its keys
    let mut entry: Option<(usize, [String; 4])> = None;
    let mut in_list = false;
    let mut finish = |entry: &mut Option<(usize, [String; 4])>| {
        if let Some((_, [name, kind, url, access])) = entry.take() {
            sources.extend(source(&name, &kind, &url, &access));
        }
    };
    for line in text.lines() {
        let trimmed = line.trim_start();
        let mut column = line.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if column == 0 && !trimmed.starts_with('-') {
            finish(&mut entry);
            in_list = trimmed.trim_end() == "datasources:";
            continue;
        }
        if !in_list {
            continue;
        }
        let mut pair = trimmed;
        if let Some(rest) = trimmed.strip_prefix("- ") {
            // items of lists inside an entry are in deeper columns than its keys
            if entry.as_ref().is_none_or(|(keys, _)| column < *keys) {
                finish(&mut entry);
                pair = rest.trim_start();
                column += trimmed.len() - pair.len();
                entry = Some((column, Default::default()));
            }
        }
        let Some((keys, values)) = &mut entry else { continue };
        if column != *keys {
            continue;
        }
        let Some((key, value)) = pair.split_once(':') else { continue };
        let at = match key.trim() {
            "name" => 0,
            "type" => 1,
            "url" => 2,
            "access" => 3,
            _ => continue,
        };
        values[at] = scalar(value);
    }
    finish(&mut entry);
    sources
}

/// A plain or quoted scalar without its comment.
fn scalar(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or_default().to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        parse(text).iter().map(|s| format!("{} {} {}", s.name, s.kind, join(&s.host, s.port))).collect()
    }

    /// Provisioning files of grafana/tempo `example/docker-compose` and grafana/loki `examples/getting-started`.
    #[test]
    fn provisioned_data_sources() {
        let text = "apiVersion: 1\n\ndeleteDatasources:\n- name: Old\n  url: http://old:1\n\ndatasources:\n- name: Prometheus\n  type: prometheus\n  uid: prometheus\n  \
                    access: proxy\n  orgId: 1\n  url: http://prometheus:9090 # local\n  jsonData:\n    httpMethod: GET\n    url: http://no:1\n    list:\n    - name: No\n\
                    - name: 'Tempo'\n  type: tempo\n  url: \"http://tempo:3200\"\n  basicAuth: false\n";
        assert_eq!(found(text), ["Prometheus prometheus prometheus:9090", "Tempo tempo tempo:3200"]);
        let indented = "datasources:\n  - access: proxy\n    name: Loki\n    type: loki\n    url: https://loki.example.org/path\n  - name: PG\n    type: postgres\n    url: db:5432\n";
        assert_eq!(found(indented), ["Loki loki loki.example.org:443", "PG postgres db:5432"]);
    }

    #[test]
    fn data_sources_without_an_address_of_the_server() {
        for text in [
            "datasources:\n- name: A\n  type: prometheus\n  access: direct\n  url: http://prometheus:9090\n",
            "datasources:\n- name: A\n  type: prometheus\n  url: ${PROMETHEUS_URL}\n",
            "datasources:\n- name: A\n  type: cloudwatch\n",
            "datasources: []\n",
            "",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }
}
