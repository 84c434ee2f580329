//! Accept queues of listeners.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{
    Check, CheckSpec, Code, ContainerRef, Finding, Judged, Judgement, KeyKind, Kind, Object, Sample, Severity, quantity,
};
use opsctl_core::probe::network::{self, Queue, counters};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;

const BACKLOG: Code = Code {
    id: "network.backlog",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the accept queue of a listener is full in two samples: its process does not accept (warn); or connections were dropped because of full queues since the last run, over {overflows_warn} per second (warn) or {overflows_crit} (crit)",
    hint: "the process is busy, stopped or out of threads; a longer queue helps against bursts only (its listen() backlog and net.core.somaxconn)",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.backlog",
    title: "Accept queues are not full",
    codes: &[BACKLOG],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Time between two samples of a full queue: a working process accepts a connection in it.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(400);

/// Object of the stored sample.
const OBJECT: &str = "host";
const METRIC: &str = "listen-overflows";

/// Maximum age of the stored sample in seconds.
const MAX_SAMPLE_AGE_S: i64 = 3600;

pub(super) struct Backlog {
    pub(super) settings: Settings,
}

/// A process in the namespace, and its container with the full id, or `None` for this host.
type ListenerKey = (Option<i32>, Option<(String, String)>);

/// A queue that was full in both samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Full {
    /// Its container with the full id, or `None` for this host.
    container: Option<(String, String)>,
    queue: Queue,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    full: Vec<Full>,
    /// Connections dropped because of a full queue since boot, in this host's own namespace.
    overflows: Option<u64>,
    /// The counter at an earlier run, and its age in seconds.
    before: Option<(f64, i64)>,
    gaps: Vec<String>,
}

impl Check for Backlog {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut namespaces: Vec<ListenerKey> = vec![(None, None)];
        let mut gaps = Vec::new();
        let own = |c: &&ContainerRef| c.network_mode != "host" && !c.network_mode.starts_with("container:");
        for container in cx.inspected(cx.inventory.running().filter(own)).await {
            match container.process() {
                Ok(pid) => namespaces.push((Some(pid), Some((container.name.clone(), container.id.clone())))),
                Err(ProbeError::Skip(_)) => {}
                Err(why) => gaps.push(why.to_string()),
            }
        }
        let mut e = Evidence { gaps, ..Evidence::default() };
        let first = full(&namespaces, &mut e.gaps).await;
        if !first.is_empty() {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let second = full(&namespaces, &mut Vec::new()).await;
            e.full = second.into_iter().filter(|f| first.iter().any(|o| o.queue.inode == f.queue.inode)).collect();
        }
        e.overflows = counters().await.ok().and_then(|all| all.get("TcpExt.ListenOverflows").copied());
        let now = opsctl_core::probe::io::clock::now();
        e.before = cx.history.oldest(OBJECT, METRIC, MAX_SAMPLE_AGE_S).map(|s| (s.value, now.duration_since(s.at).as_secs()));
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
        for f in &e.full {
            let q = &f.queue;
            let subject = match &f.container {
                Some((name, id)) => Object::new(Kind::Container, name.clone(), id.clone()),
                None => Object::new(Kind::Host, "host", format!("{}#{}", q.local, q.inode)),
            };
            let waiting = quantity::count(q.waiting as usize, "connection");
            let message = format!("{waiting} to {} waiting to be accepted, queue length {}", q.local, q.limit);
            let mut finding = Finding::new(&BACKLOG, Severity::Warn, subject, message);
            if let Some((_, id)) = &f.container {
                finding = finding.key(KeyKind::Container, id);
            }
            judgement.findings.push(finding);
        }
        let Some(now) = e.overflows else { return judgement };
        judgement.samples.push(Sample::count(OBJECT, METRIC, judged.taken_at, now));
        if let Some((before, seconds @ 1..)) = e.before
            && now as f64 >= before
        {
            let rate = (now as f64 - before) / seconds as f64;
            if let Some((severity, _)) = self.settings.overflows().exceeded(rate) {
                let message = format!(
                    "{rate:.1} connections per second are dropped because accept queues are full, limit {}",
                    self.settings.overflows_warn
                );
                judgement.findings.push(Finding::new(&BACKLOG, severity, Object::host(), message).key(KeyKind::Host, "host"));
            }
        }
        judgement
    }
}

/// Queues that are full now. A queue of length 0 is full with one connection, and works.
async fn full(namespaces: &[ListenerKey], gaps: &mut Vec<String>) -> Vec<Full> {
    let read = join_all(namespaces.iter().map(|(pid, _)| network::queues(*pid))).await;
    let mut all = Vec::new();
    for ((_, container), queues) in namespaces.iter().zip(read) {
        match queues {
            Ok(queues) => all.extend(
                queues
                    .into_iter()
                    .filter(|q| q.waiting > 0 && q.waiting >= q.limit.max(2))
                    .map(|queue| Full { container: container.clone(), queue }),
            ),
            Err(ProbeError::Skip(_)) => {}
            Err(e) if gaps.is_empty() => gaps.push(e.to_string()),
            Err(_) => {}
        }
    }
    all
}
