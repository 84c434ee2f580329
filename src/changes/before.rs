//! Which changes are told with which finding: those that came before it, not long before, to something it has to do with.
//!
//! A change that precedes is no proof, so it is evidence beside the finding and never a cause of its own. One that came after the
//! finding began is none at all.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Change, Cited, ContainerRef, EVERYTHING, Finding, Inventory, KeyKind, Kind, Report, ServerRef, Severity, quantity,
};

use crate::engine::Recording;

/// How long before a finding a change still counts (judgement): what a change breaks at once shows within minutes, what it breaks with the next
/// run of a timer or the next deployment within an hour or two; further back every host has changes.
const BEFORE: SignedDuration = SignedDuration::from_hours(2);

/// How far back is looked for a finding that has been open for long.
const FURTHEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Changes told with one finding.
const TOLD: usize = 3;

/// From when on changes matter to what is open in this report; none when nothing is.
#[must_use]
pub fn reach(report: &Report) -> Option<Timestamp> {
    let began = report.findings.iter().filter(|f| is_root(f)).map(|f| f.since.unwrap_or(report.started_at)).min()?;
    let earliest = report.started_at.checked_sub(FURTHEST).unwrap_or(Timestamp::UNIX_EPOCH);
    Some(began.checked_sub(BEFORE).unwrap_or(earliest).max(earliest))
}

/// Cites what was changed before each root finding; what was cited anywhere, oldest first.
pub fn cite(findings: &mut [Finding], recording: &Recording) -> Vec<Change> {
    let Some(known) = &recording.changes else { return Vec::new() };
    let mut all: Vec<Change> = Vec::new();
    for finding in findings.iter_mut().filter(|f| is_root(f)) {
        let told = before(finding, &known.changes, &recording.inventory, recording.started_at);
        if told.is_empty() {
            continue;
        }
        let began = finding.since.unwrap_or(recording.started_at);
        let line = |c: &&Change| {
            let earlier = quantity::duration(began.duration_since(c.at));
            format!("{}, {earlier} before: {}", quantity::minute(c.at), c.says())
        };
        let value = told.iter().map(line).collect::<Vec<_>>().join("\n");
        finding.evidence.push(Cited { label: "changed before".to_owned(), value });
        for change in told {
            if !all.contains(change) {
                all.push(change.clone());
            }
        }
    }
    all.sort_by_key(|c| c.at);
    all
}

fn is_root(finding: &Finding) -> bool {
    finding.severity > Severity::Info && finding.waived.is_none() && finding.explained_by.is_none()
}

/// The changes to tell with a finding, oldest first: what names its object before what may concern everything, then the latest.
fn before<'c>(finding: &Finding, changes: &'c [Change], inventory: &Inventory, started_at: Timestamp) -> Vec<&'c Change> {
    let began = finding.since.unwrap_or(started_at);
    // logs know no fractions: within one second the order is not known
    let in_time = |c: &&Change| {
        let ahead = began.as_second() - c.at.as_second();
        (0..=BEFORE.as_secs()).contains(&ahead)
    };
    let objects = objects(finding, inventory);
    // what names the object itself, then what concerns everything (a deployment, a boot), then what many things have in common
    let shared = |o: &str| o == "engine" || o.starts_with("runbook:");
    let close = |c: &Change| {
        let named = c.concerns.iter().any(|o| objects.contains(o) && !shared(o));
        if named { 2 } else { u8::from(c.concerns.iter().any(|o| o == EVERYTHING)) }
    };
    let touches = |c: &&Change| close(c) > 0 || c.concerns.iter().any(|o| objects.contains(o));
    let mut told: Vec<&Change> = changes.iter().filter(in_time).filter(touches).collect();
    told.sort_by_key(|c| std::cmp::Reverse((close(c), c.at)));
    told.truncate(TOLD);
    told.sort_by_key(|c| c.at);
    told
}

/// Everything a finding has to do with, as changes name it.
fn objects(finding: &Finding, inventory: &Inventory) -> BTreeSet<String> {
    let mut objects = BTreeSet::from([format!("runbook:{}", finding.runbook)]);
    let subject = &finding.subject;
    match subject.kind {
        Kind::Engine => {
            objects.extend(["engine".to_owned(), "unit:docker.service".to_owned()]);
        }
        Kind::Unit => unit(&subject.name, &mut objects),
        Kind::Container => container_named(&subject.name, &mut objects),
        // what concerns the machine says so itself
        Kind::Host => {}
        _ => {
            objects.insert(subject.to_string());
        }
    }
    let named = |s: &&ServerRef| s.product.kind() == subject.kind && s.name == subject.name;
    inventory.servers.iter().filter(named).for_each(|s| server(s, inventory, &mut objects));
    for key in &finding.keys {
        match key.kind {
            KeyKind::Container | KeyKind::Port | KeyKind::Restarter => {
                let id = key.value.split(':').next().unwrap_or_default();
                inventory.container(id).into_iter().for_each(|c| container(c, &mut objects));
            }
            KeyKind::Unit => unit(&key.value, &mut objects),
            KeyKind::Engine => {
                objects.insert("engine".to_owned());
            }
            KeyKind::Server | KeyKind::Upstream | KeyKind::Silent => {
                inventory.server(&key.value).into_iter().for_each(|s| server(s, inventory, &mut objects));
            }
            // the server's id stands in front of the path
            KeyKind::Certificate => {
                objects.extend(key.value.find('/').map(|at| format!("file:{}", &key.value[at..])));
            }
            _ => {}
        }
    }
    objects
}

fn container(c: &ContainerRef, objects: &mut BTreeSet<String>) {
    container_named(&c.name, objects);
}

/// A container is made anew under its name; what happens to its engine happens to it.
fn container_named(name: &str, objects: &mut BTreeSet<String>) {
    objects.extend([format!("container:{name}"), "engine".to_owned()]);
}

/// `postgresql@15-main.service` is configured in `/etc/postgresql`.
fn unit(name: &str, objects: &mut BTreeSet<String>) {
    objects.insert(format!("unit:{name}"));
    objects.extend(name.split(['@', '.']).next().map(|stem| format!("etc:{stem}")));
}

fn server(s: &ServerRef, inventory: &Inventory, objects: &mut BTreeSet<String>) {
    objects.insert(format!("server:{}", s.id));
    match s.container.as_ref().and_then(|id| inventory.container(id)) {
        Some(c) => container(c, objects),
        // one in a container is not configured by the host's files
        None => {
            objects.insert(format!("etc:{}", s.product.kind()));
        }
    }
    s.unit.iter().for_each(|name| unit(name, objects));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::{ChangeKind, Changes, Code, HostInfo, Product, Subject};

    use super::*;

    static BROKEN: Code = Code { id: "container.down", severities: &[Severity::Crit, Severity::Info], when: "", hint: "" };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minute * 60).unwrap()
    }

    fn finding(kind: Kind, name: &str) -> Finding {
        let subject = Subject { kind, name: name.into(), identity: name.into() };
        Finding::new(&BROKEN, Severity::Crit, subject, "").since(Some(at(300)))
    }

    fn change(minute: i64, subject: &str) -> Change {
        Change::new(at(minute), ChangeKind::Container, subject, "changed")
    }

    fn told(finding: &Finding, changes: &[Change], inventory: &Inventory) -> Vec<String> {
        before(finding, changes, inventory, at(310)).iter().map(|c| c.subject.clone()).collect()
    }

    #[test]
    fn only_what_came_before_and_not_long_before() {
        let changes: Vec<Change> = [170, 181, 299, 300, 301].map(|m| change(m, "container:web")).to_vec();
        let nothing = Inventory::default();
        let times = |f: &Finding| before(f, &changes, &nothing, at(310)).iter().map(|c| c.at).collect::<Vec<_>>();
        let mut web = finding(Kind::Container, "web");
        assert_eq!(times(&web), [181, 299, 300].map(at));
        // without a beginning everything up to the run counts
        web.since = None;
        assert_eq!(times(&web), [299, 300, 301].map(at));
    }

    #[test]
    fn another_object_is_not_told_and_what_names_the_object_comes_first() {
        let note = |minute| {
            let mut note = change(minute, "deploy");
            note.concerns = vec![EVERYTHING.into()];
            note
        };
        let changes = [change(290, "container:db"), change(250, "container:web"), note(291), note(292), note(293)];
        let nothing = Inventory::default();
        assert_eq!(told(&finding(Kind::Container, "web"), &changes, &nothing), ["container:web", "deploy", "deploy"]);
        assert_eq!(told(&finding(Kind::Mount, "/"), &changes, &nothing), ["deploy"; 3]);
        assert!(told(&finding(Kind::Mount, "/"), &changes[..2], &nothing).is_empty());
    }

    #[test]
    fn a_server_is_changed_with_its_unit_its_container_and_its_files() {
        let server = |name: &str, container: Option<&str>, unit: Option<&str>| ServerRef {
            product: Product::Postgres,
            name: name.into(),
            id: format!("postgres:{name}"),
            found_by: String::new(),
            process: None,
            container: container.map(Into::into),
            unit: unit.map(Into::into),
            address: None,
            untrusted: None,
        };
        let web = ContainerRef {
            id: "abc".into(),
            name: "shared_postgres".into(),
            image: String::new(),
            state: String::new(),
            network_mode: String::new(),
            product: None,
            celery: None,
            project: None,
            service: None,
            labels: [].into(),
        };
        let inventory = Inventory {
            containers: vec![web],
            servers: vec![
                server("shared_postgres", Some("abc"), None),
                server("postgresql@15-main", None, Some("postgresql@15-main.service")),
            ],
            ..Inventory::default()
        };
        let etc = change(290, "/etc/postgresql/15/main/postgresql.conf").concerning("etc:postgresql");
        let changes = [etc, change(291, "container:shared_postgres"), change(292, "unit:postgresql@15-main.service")];
        assert_eq!(told(&finding(Kind::Postgres, "shared_postgres"), &changes, &inventory), ["container:shared_postgres"]);
        assert_eq!(
            told(&finding(Kind::Postgres, "postgresql@15-main"), &changes, &inventory),
            ["/etc/postgresql/15/main/postgresql.conf", "unit:postgresql@15-main.service"]
        );
        // a finding about something else that shares the container
        let tied = finding(Kind::Endpoint, "http://x").key(KeyKind::Port, "abc:5432");
        assert_eq!(told(&tied, &changes, &inventory), ["container:shared_postgres"]);
        let daemon = change(293, "/etc/docker/daemon.json").concerning("engine");
        assert_eq!(told(&finding(Kind::Container, "any"), &[daemon], &inventory), ["/etc/docker/daemon.json"]);
    }

    #[test]
    fn roots_that_count_are_told_and_nothing_else() {
        let mut recording = Recording {
            schema_version: 1,
            opsctl: String::new(),
            host: HostInfo::default(),
            started_at: at(310),
            duration_ms: 0,
            inventory: Inventory::default(),
            records: Vec::new(),
            changes: None,
        };
        let mut effect = finding(Kind::Container, "web");
        effect.explained_by = Some("f1".into());
        let mut waived = finding(Kind::Container, "web");
        waived.waived = Some("known".into());
        let mut info = finding(Kind::Container, "web");
        info.severity = Severity::Info;
        let mut findings = [finding(Kind::Container, "web"), effect, waived, info];
        assert_eq!(cite(&mut findings, &recording), []);
        let changes = vec![change(295, "container:web"), change(296, "container:db")];
        recording.changes = Some(Changes { changes, ..Changes::default() });
        assert_eq!(cite(&mut findings, &recording), [change(295, "container:web")]);
        let cited: Vec<_> = findings.iter().flat_map(|f| &f.evidence).map(|e| e.value.as_str()).collect();
        assert_eq!(cited, ["1970-01-12 18:41 UTC, 5 min before: container:web changed"]);
    }
}
