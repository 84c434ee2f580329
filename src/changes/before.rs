//! Changes cited with a finding: those to related objects shortly before it.
//!
//! A preceding change is no proof, so it is cited as evidence of the finding and never as its cause. A change after the start of the
//! finding is not cited.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Change, Cited, ContainerRef, EVERYTHING, Finding, Inventory, KeyKind, Kind, Report, ServerRef, quantity,
};

use crate::engine::Recording;

/// Maximum age of a change at the start of a finding (judgement): an immediate fault shows within minutes, a fault at the next run of a
/// timer or the next deployment within an hour or two; in longer periods every host has changes.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(2);

/// Maximum age of changes for a finding that has been open for long.
const MAX_LOOKBACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Number of changes cited with one finding.
const MAX_CITED: usize = 3;

/// Start of the period with relevant changes for the open findings of this report; `None` without open findings.
#[must_use]
pub fn reach(report: &Report) -> Option<Timestamp> {
    let began = report.findings.iter().filter(|f| is_root(f)).map(|f| f.since.unwrap_or(report.started_at)).min()?;
    let earliest = report.started_at.checked_sub(MAX_LOOKBACK).unwrap_or(Timestamp::UNIX_EPOCH);
    Some(began.checked_sub(MAX_AGE).unwrap_or(earliest).max(earliest))
}

/// Cites the changes before each root finding; returns all cited changes, oldest first.
pub fn cite(findings: &mut [Finding], recording: &Recording) -> Vec<Change> {
    let Some(known) = &recording.changes else { return Vec::new() };
    let mut all: Vec<Change> = Vec::new();
    for finding in findings.iter_mut().filter(|f| is_root(f)) {
        let related = before(finding, &known.changes, &recording.inventory, recording.started_at);
        if related.is_empty() {
            continue;
        }
        let began = finding.since.unwrap_or(recording.started_at);
        let line = |c: &&Change| {
            let earlier = quantity::duration(began.duration_since(c.at));
            format!("{}, {earlier} before: {}", quantity::minute(c.at), c.summary())
        };
        let value = related.iter().map(line).collect::<Vec<_>>().join("\n");
        finding.evidence.push(Cited { label: "changed before".to_owned(), value });
        for change in related {
            if !all.contains(change) {
                all.push(change.clone());
            }
        }
    }
    all.sort_by_key(|c| c.at);
    all
}

fn is_root(finding: &Finding) -> bool {
    finding.is_open() && finding.explained_by.is_none()
}

/// The changes to cite with a finding, oldest first. Changes to its object take precedence over global changes, then the latest.
fn before<'c>(finding: &Finding, changes: &'c [Change], inventory: &Inventory, started_at: Timestamp) -> Vec<&'c Change> {
    let began = finding.since.unwrap_or(started_at);
    // logs have no fractions of a second: within one second the order is unknown
    let in_time = |c: &&Change| {
        let ahead = began.as_second() - c.at.as_second();
        (0..=MAX_AGE.as_secs()).contains(&ahead)
    };
    let objects = objects(finding, inventory);
    // changes to the object itself, then global changes (a deployment, a boot), then changes to shared objects
    let shared = |o: &str| o == "engine" || o.starts_with("runbook:");
    let close = |c: &Change| {
        let named = c.concerns.iter().any(|o| objects.contains(o) && !shared(o));
        if named { 2 } else { u8::from(c.concerns.iter().any(|o| o == EVERYTHING)) }
    };
    let touches = |c: &&Change| close(c) > 0 || c.concerns.iter().any(|o| objects.contains(o));
    let mut related: Vec<&Change> = changes.iter().filter(in_time).filter(touches).collect();
    related.sort_by_key(|c| std::cmp::Reverse((close(c), c.at)));
    related.truncate(MAX_CITED);
    related.sort_by_key(|c| c.at);
    related
}

/// All objects related to a finding, by the names used in changes.
fn objects(finding: &Finding, inventory: &Inventory) -> BTreeSet<String> {
    let mut objects = BTreeSet::from([format!("runbook:{}", finding.runbook)]);
    let subject = &finding.subject;
    match subject.kind {
        Kind::Engine => {
            objects.extend(["engine".to_owned(), "unit:docker.service".to_owned()]);
        }
        Kind::Unit => unit(&subject.name, &mut objects),
        Kind::Container => container_named(&subject.name, &mut objects),
        // changes to the machine are marked as such
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
            KeyKind::Unit | KeyKind::Requirement => unit(&key.value, &mut objects),
            KeyKind::Engine => {
                objects.insert("engine".to_owned());
            }
            KeyKind::Server | KeyKind::Upstream | KeyKind::Silent => {
                inventory.server(&key.value).into_iter().for_each(|s| server(s, inventory, &mut objects));
            }
            // the path is prefixed with the id of the server
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

/// A container is recreated under its name; changes to its engine affect it.
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
        // a server in a container is not configured by files of the host
        None => {
            objects.insert(format!("etc:{}", s.product.kind()));
        }
    }
    s.unit.iter().for_each(|name| unit(name, objects));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::Severity;
    use opsctl_core::model::{ChangeKind, Changes, Code, HostInfo, Product, Subject};

    use super::*;

    static BROKEN: Code =
        Code { id: "container.down", severities: &[Severity::Crit, Severity::Info], when: "", hint: "", ..Code::BASE };

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

    fn cited_subjects(finding: &Finding, changes: &[Change], inventory: &Inventory) -> Vec<String> {
        before(finding, changes, inventory, at(310)).iter().map(|c| c.subject.clone()).collect()
    }

    #[test]
    fn only_changes_shortly_before_the_finding() {
        let changes: Vec<Change> = [170, 181, 299, 300, 301].map(|m| change(m, "container:web")).to_vec();
        let nothing = Inventory::default();
        let times = |f: &Finding| before(f, &changes, &nothing, at(310)).iter().map(|c| c.at).collect::<Vec<_>>();
        let mut web = finding(Kind::Container, "web");
        assert_eq!(times(&web), [181, 299, 300].map(at));
        // without a start, all changes up to the run count
        web.since = None;
        assert_eq!(times(&web), [299, 300, 301].map(at));
    }

    #[test]
    fn changes_to_other_objects_are_left_out() {
        let note = |minute| {
            let mut note = change(minute, "deploy");
            note.concerns = vec![EVERYTHING.into()];
            note
        };
        let changes = [change(290, "container:db"), change(250, "container:web"), note(291), note(292), note(293)];
        let nothing = Inventory::default();
        assert_eq!(cited_subjects(&finding(Kind::Container, "web"), &changes, &nothing), ["container:web", "deploy", "deploy"]);
        assert_eq!(cited_subjects(&finding(Kind::Mount, "/"), &changes, &nothing), ["deploy"; 3]);
        assert!(cited_subjects(&finding(Kind::Mount, "/"), &changes[..2], &nothing).is_empty());
    }

    #[test]
    fn server_is_related_to_its_unit_container_and_files() {
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
        assert_eq!(
            cited_subjects(&finding(Kind::Postgres, "shared_postgres"), &changes, &inventory),
            ["container:shared_postgres"]
        );
        assert_eq!(
            cited_subjects(&finding(Kind::Postgres, "postgresql@15-main"), &changes, &inventory),
            ["/etc/postgresql/15/main/postgresql.conf", "unit:postgresql@15-main.service"]
        );
        // a finding about another object that shares the container
        let tied = finding(Kind::Endpoint, "http://x").key(KeyKind::Port, "abc:5432");
        assert_eq!(cited_subjects(&tied, &changes, &inventory), ["container:shared_postgres"]);
        let daemon = change(293, "/etc/docker/daemon.json").concerning("engine");
        assert_eq!(cited_subjects(&finding(Kind::Container, "any"), &[daemon], &inventory), ["/etc/docker/daemon.json"]);
    }

    #[test]
    fn only_root_findings_cite_changes() {
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
