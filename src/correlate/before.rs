//! Changes cited with a finding: those to related objects shortly before it.
//!
//! A preceding change is no proof, so it is cited as evidence of the finding and never as its cause. A change after the start of the
//! finding, or without a tie to it, is not cited: in the first hours of a host everything has changed.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Change, ChangeKind, Cited, EVERYTHING, Finding, Inventory, KeyKind, Kind, Object, Report, Reported, ServerRef, quantity,
};

/// Maximum age of a change at the start of a finding (judgement): an immediate fault shows within minutes, a fault at the next run of a
/// timer or the next deployment within an hour or two; in longer periods every host has changes.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(2);

/// Maximum age of changes for a finding that has been open for long.
const MAX_LOOKBACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Number of changes cited with one finding.
const MAX_CITED: usize = 3;

/// Entry of [`Change::concerns`] for changes to the container engine.
const ENGINE: &str = "engine";

/// Start of the period with relevant changes for the open findings of this report; `None` without open findings.
#[must_use]
pub fn reach(report: &Report) -> Option<Timestamp> {
    let began = report.findings.iter().filter(|f| is_root(f)).map(|f| f.since.unwrap_or(report.started_at)).min()?;
    let earliest = report.started_at.checked_sub(MAX_LOOKBACK).unwrap_or(Timestamp::UNIX_EPOCH);
    Some(began.checked_sub(MAX_AGE).unwrap_or(earliest).max(earliest))
}

/// Cites the changes before each root finding; returns all cited changes, oldest first.
pub fn cite(findings: &mut [Reported], changes: &[Change], inventory: &Inventory, started_at: Timestamp) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for reported in findings.iter_mut().filter(|f| is_root(f)) {
        let related = before(reported, changes, inventory, started_at);
        if related.is_empty() {
            continue;
        }
        let began = reported.since.unwrap_or(started_at);
        let line = |c: &&Change| {
            let earlier = quantity::duration(began.duration_since(c.at));
            format!("{}, {earlier} before: {}", quantity::minute(c.at), c.summary())
        };
        let value = related.iter().map(line).collect::<Vec<_>>().join("\n");
        reported.finding.evidence.push(Cited { label: "changed before".to_owned(), value });
        for change in related {
            if !all.contains(change) {
                all.push(change.clone());
            }
        }
    }
    all.sort_by_key(|c| c.at);
    all
}

fn is_root(finding: &Reported) -> bool {
    finding.is_open() && finding.explained_by.is_none()
}

/// The changes to cite with a finding, oldest first: those with a tie to it. Changes to its object take precedence over those
/// to objects that share a key with it, then the latest.
fn before<'c>(finding: &Finding, changes: &'c [Change], inventory: &Inventory, started_at: Timestamp) -> Vec<&'c Change> {
    let began = finding.since.unwrap_or(started_at);
    // logs have no fractions of a second: within one second the order is unknown
    let in_time = |c: &&Change| {
        let ahead = began.as_second() - c.at.as_second();
        (0..=MAX_AGE.as_secs()).contains(&ahead)
    };
    let ties = Ties::of(finding, inventory);
    let mut related: Vec<(Tie, &Change)> =
        changes.iter().filter(in_time).filter_map(|c| Some((ties.tie(finding, c)?, c))).collect();
    // every fault of the first hours follows a boot
    if related.iter().all(|(tie, _)| *tie == Tie::Boot) {
        return Vec::new();
    }
    related.sort_by_key(|(tie, c)| std::cmp::Reverse((*tie, c.at)));
    related.truncate(MAX_CITED);
    related.sort_by_key(|(_, c)| c.at);
    related.into_iter().map(|(_, c)| c).collect()
}

/// Tie of a change to a finding, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tie {
    /// A boot, beside another change of the host.
    Boot,
    /// A note, which names no object.
    Note,
    /// It concerns an object that shares a key with the finding, or a file of the host that its object reads.
    Key,
    /// It concerns the object itself.
    Object,
}

/// The objects of a finding, by the names used in changes.
#[derive(Default)]
struct Ties {
    /// Its subject, with the files that configure it.
    own: BTreeSet<String>,
    /// Objects that share a key with it, and files of the host that its subject reads.
    shared: BTreeSet<String>,
}

impl Ties {
    fn of(finding: &Finding, inventory: &Inventory) -> Self {
        let mut ties = Self::default();
        let Self { own, shared } = &mut ties;
        let subject = &finding.subject;
        let runbook = format!("runbook:{}", finding.runbook);
        match subject.kind {
            Kind::Engine => own.extend([ENGINE.to_owned(), "unit:docker.service".to_owned()]),
            Kind::Unit => unit(&subject.name, own),
            Kind::Container => {
                own.insert(container(&subject.name));
                // the engine copies the name servers of the host
                shared.extend(Some(runbook).filter(|_| finding.runbook == "dns"));
            }
            // the configuration of the host, by its runbook
            Kind::Host | Kind::Interface => own.extend([subject.to_string(), runbook]),
            Kind::Mount => {
                own.insert(subject.to_string());
                // without a device: an entry of fstab that is not mounted
                own.extend(Some(runbook).filter(|_| !subject.lasting_id().contains(':')));
            }
            Kind::Certificate => {
                own.insert(subject.to_string());
                // it is valid by the clock
                shared.insert(runbook);
            }
            _ => {
                own.insert(subject.to_string());
            }
        }
        let named = |s: &&ServerRef| s.product.kind() == subject.kind && s.name == subject.name;
        inventory.servers.iter().filter(named).for_each(|s| server(s, inventory, own));
        for key in finding.keys.iter().chain(&finding.needs) {
            match key.kind {
                KeyKind::Container | KeyKind::Port | KeyKind::Restarter => {
                    let id = key.value.split(':').next().unwrap_or_default();
                    shared.extend(inventory.container(id).map(|c| container(&c.name)));
                }
                KeyKind::Unit => unit(&key.value, shared),
                // the full id of a container, or the name of a unit
                KeyKind::Requirement | KeyKind::Descriptors => match inventory.container(&key.value) {
                    Some(c) => {
                        shared.insert(container(&c.name));
                    }
                    None => unit(&key.value, shared),
                },
                KeyKind::Server | KeyKind::Upstream | KeyKind::Silent | KeyKind::Writes | KeyKind::Altered => {
                    inventory.server(&key.value).into_iter().for_each(|s| server(s, inventory, shared));
                }
                KeyKind::Filesystem => {
                    let on = inventory.mounts.iter().filter(|m| m.dev == key.value);
                    shared.extend(on.map(|m| Object::named(Kind::Mount, &m.mountpoint).to_string()));
                }
                // the path is prefixed with the id of the server
                KeyKind::Certificate => {
                    shared.extend(key.value.find('/').map(|at| format!("file:{}", &key.value[at..])));
                }
                KeyKind::Names if key.value == "host" => {
                    shared.insert("runbook:dns".to_owned());
                }
                _ => {}
            }
        }
        ties
    }

    /// The tie of a change to the finding. A finding without a start may be older than any change: only changes to its object
    /// count.
    fn tie(&self, finding: &Finding, change: &Change) -> Option<Tie> {
        let concerns = |objects: &BTreeSet<String>| change.concerns.iter().any(|o| objects.contains(o));
        let is = |object: &str| change.concerns.iter().any(|o| o == object);
        match change.kind {
            ChangeKind::Boot => (finding.subject.kind == Kind::Host).then_some(Tie::Boot),
            // the configuration of the engine is read by the engine alone
            ChangeKind::Config if is(ENGINE) && !concerns(&self.own) => None,
            _ if concerns(&self.own) => Some(Tie::Object),
            _ if finding.since.is_none() => None,
            _ if concerns(&self.shared) => Some(Tie::Key),
            _ => is(EVERYTHING).then_some(Tie::Note),
        }
    }
}

/// A container is recreated under its name.
fn container(name: &str) -> String {
    Object::named(Kind::Container, name).to_string()
}

/// `postgresql@15-main.service` is configured in `/etc/postgresql`.
fn unit(name: &str, objects: &mut BTreeSet<String>) {
    objects.insert(Object::named(Kind::Unit, name).to_string());
    objects.extend(name.split(['@', '.']).next().map(|stem| format!("etc:{stem}")));
}

/// A server is its container or its unit.
fn server(s: &ServerRef, inventory: &Inventory, objects: &mut BTreeSet<String>) {
    objects.insert(format!("server:{}", s.id));
    match s.container.as_ref().and_then(|id| inventory.container(id)) {
        Some(c) => {
            objects.insert(container(&c.name));
        }
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
    use opsctl_core::model::{Code, ContainerRef, MountRef, Product, Severity};

    use super::*;

    static BROKEN: Code =
        Code { id: "container.down", severities: &[Severity::Crit, Severity::Info], when: "", hint: "", ..Code::BASE };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minute * 60).unwrap()
    }

    fn finding(kind: Kind, name: &str) -> Finding {
        let subject = Object::named(kind, name);
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

    fn note(minute: i64) -> Change {
        let mut note = Change::new(at(minute), ChangeKind::Note, "deploy", "shop 2");
        note.concerns = vec![EVERYTHING.into()];
        note
    }

    fn boot(minute: i64) -> Change {
        Change::new(at(minute), ChangeKind::Boot, "host", "booted with kernel 6.1.0").concerning(EVERYTHING)
    }

    fn written(minute: i64, path: &str, concerns: &[&str]) -> Change {
        let change = Change::new(at(minute), ChangeKind::Config, path, "written");
        concerns.iter().fold(change, |c, object| c.concerning(*object))
    }

    fn container_ref(id: &str, name: &str) -> ContainerRef {
        ContainerRef {
            id: id.into(),
            name: name.into(),
            image: String::new(),
            state: String::new(),
            network_mode: String::new(),
            product: None,
            celery: None,
            project: None,
            service: None,
            labels: [].into(),
        }
    }

    fn engine_files(minute: i64) -> Change {
        written(minute, "/etc/docker/daemon.json", &["unit:docker.service", "engine"])
    }

    #[test]
    fn changes_to_other_objects_are_left_out() {
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
        let inventory = Inventory {
            containers: vec![container_ref("abc", "shared_postgres")],
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
    }

    #[test]
    fn configuration_of_the_engine_is_cited_with_the_engine_only() {
        let inventory = Inventory { containers: vec![container_ref("abc", "web")], ..Inventory::default() };
        let changes = [engine_files(290)];
        let cited = |f: &Finding| cited_subjects(f, &changes, &inventory);
        assert_eq!(cited(&finding(Kind::Engine, "docker")), ["/etc/docker/daemon.json"]);
        assert_eq!(cited(&finding(Kind::Unit, "docker.service")), ["/etc/docker/daemon.json"]);
        let needs = finding(Kind::Unit, "app.service").needs("docker.service");
        let tied = finding(Kind::Container, "web").key(KeyKind::Engine, "unix:///var/run/docker.sock");
        for other in [finding(Kind::Container, "web"), finding(Kind::Mount, "/"), finding(Kind::Host, "host"), needs, tied] {
            assert_eq!(cited(&other), [""; 0], "{}", other.subject);
        }
    }

    #[test]
    fn boot_alone_is_not_cited() {
        let nothing = Inventory::default();
        let host = finding(Kind::Host, "host");
        assert_eq!(cited_subjects(&host, &[boot(290)], &nothing), [""; 0]);
        let files = written(291, "/etc/x.conf", &["runbook:container"]);
        assert_eq!(cited_subjects(&host, &[boot(290), files], &nothing), ["host", "/etc/x.conf"]);
        let web = finding(Kind::Container, "web");
        assert_eq!(cited_subjects(&web, &[boot(290), change(291, "container:web")], &nothing), ["container:web"]);
    }

    #[test]
    fn first_hours_of_a_host_leave_most_findings_without_changes() {
        let inventory = Inventory { containers: vec![container_ref("abc", "web")], ..Inventory::default() };
        let files = |path: &str, of: &str| written(289, path, &[of]);
        let changes = [
            boot(280),
            engine_files(281),
            Change::new(at(282), ChangeKind::Package, "package:nginx", "installed").concerning("unit:nginx.service"),
            files("/etc/fstab", "runbook:disk"),
            files("/etc/hosts", "runbook:dns"),
            files("/etc/sysctl.d/99-x.conf", "runbook:network"),
            change(290, "unit:docker.service").concerning("engine"),
        ];
        let mut mount = Finding::new(&BROKEN, Severity::Crit, Object::new(Kind::Mount, "/", "8:1"), "").since(Some(at(300)));
        mount.runbook = "disk".into();
        let nginx = finding(Kind::Unit, "nginx.service");
        let objects = [(Kind::Container, "web"), (Kind::Redis, "cache"), (Kind::Unit, "app.service")];
        for other in objects.map(|(kind, name)| finding(kind, name)).into_iter().chain([mount]) {
            assert_eq!(cited_subjects(&other, &changes, &inventory), [""; 0], "{}", other.subject);
        }
        assert_eq!(cited_subjects(&nginx, &changes, &inventory), ["package:nginx"]);
    }

    #[test]
    fn finding_without_a_start_cites_changes_to_its_object_only() {
        let inventory = Inventory { containers: vec![container_ref("abc", "db")], ..Inventory::default() };
        let changes = [change(300, "container:db"), note(301), change(302, "container:web"), boot(303)];
        let mut web = finding(Kind::Container, "web").needs("abc");
        assert_eq!(cited_subjects(&web, &changes, &inventory), ["container:db"]);
        web.since = None;
        assert_eq!(cited_subjects(&web, &changes, &inventory), ["container:web"]);
    }

    #[test]
    fn filesystem_ties_a_fix_of_its_mount() {
        let mount = MountRef {
            dev: "8:1".into(),
            mountpoint: "/var".into(),
            fstype: "ext4".into(),
            source: "/dev/sda1".into(),
            super_options: Vec::new(),
            mount_options: Vec::new(),
        };
        let inventory = Inventory { mounts: vec![mount], ..Inventory::default() };
        let changes = [change(290, "mount:/var"), change(291, "mount:/")];
        let tied = finding(Kind::Postgres, "db").key(KeyKind::Filesystem, "8:1");
        assert_eq!(cited_subjects(&tied, &changes, &inventory), ["mount:/var"]);
    }

    #[test]
    fn only_root_findings_cite_changes() {
        let root = || Reported::new(finding(Kind::Container, "web"));
        let effect = Reported { explained_by: Some("f1".into()), ..root() };
        let waived = Reported { waived: Some("known".into()), ..root() };
        let mut info = root();
        info.finding.severity = Severity::Info;
        let mut findings = [root(), effect, waived, info];
        let changes = [change(295, "container:web"), change(296, "container:db")];
        assert_eq!(cite(&mut findings, &changes, &Inventory::default(), at(310)), [change(295, "container:web")]);
        let cited: Vec<_> = findings.iter().flat_map(|f| &f.evidence).map(|e| e.value.as_str()).collect();
        assert_eq!(cited, ["1970-01-12 18:41 UTC, 5 min before: container:web changed"]);
    }
}
