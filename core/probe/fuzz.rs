//! Fuzz targets of the parsers.

#![allow(clippy::disallowed_methods, reason = "a target uses only files it creates")]

use std::net::SocketAddr;

use jiff::{Timestamp, tz::TimeZone};

use super::{Io, REDACTED, Redactor, changes, docker, network, nginx, servers, systemd, tls};
use crate::fuzz::Target;
use crate::model::address::{Address, join, last_port, split_port};
use crate::model::printable;
use crate::probe::docker::image_files;
use crate::probe::io::{accounts, file, http, rights};
use crate::probe::kernel::{boot, cloud_init, confinement, filesystem, kmsg, parse};
use crate::probe::kernel::{tasks, user_limits};
use crate::probe::network::{firewall, listeners, netns};
use crate::probe::proc::{home, owner, process, table};
use crate::probe::servers::{celery, metrics, prometheus};
use crate::probe::{endpoint, names, needs, proxies};

pub(crate) fn targets() -> Vec<&'static Target> {
    let nested = [
        changes::fuzz::TARGETS,
        docker::fuzz::TARGETS,
        filesystem::fuzz::TARGETS,
        firewall::fuzz::TARGETS,
        names::fuzz::TARGETS,
        needs::fuzz::TARGETS,
        network::fuzz::TARGETS,
        nginx::fuzz::TARGETS,
        servers::fuzz::TARGETS,
        systemd::fuzz::TARGETS,
        tls::fuzz::TARGETS,
    ];
    TARGETS.iter().chain(nested.into_iter().flatten()).collect()
}

const TARGETS: &[Target] = &[
    Target::text("kernel-release", |text| drop(boot::version(text))),
    Target::text("celery-command", |text| drop((crate::probe::product::celery_command(text), celery::without_credentials(text)))),
    Target::text("cloud-init-status", |text| {
        let tree = std::env::temp_dir().join(format!("opsctl-fuzz-{}", std::process::id()));
        let directory = tree.join("run/cloud-init");
        if std::fs::create_dir_all(&directory).is_ok() && std::fs::write(directory.join("status.json"), text).is_ok() {
            drop(cloud_init::Files::at(&tree).read(&Io::for_test()));
        }
        let _ = std::fs::remove_dir_all(&tree);
    }),
    Target::text("endpoint-answer", |text| {
        let (pointer, body) = text.split_once('\n').unwrap_or((text, text));
        let expect = endpoint::Expect { json: [(pointer.to_owned(), "x".to_owned())].into(), ..endpoint::Expect::default() };
        let answer = http::HttpResponse {
            status: 200,
            location: None,
            server: None,
            api_version: None,
            date: None,
            body: body.to_owned(),
            truncated: false,
            headers: Vec::new(),
            broken_off: false,
        };
        drop((expect.wrong(&answer), endpoint::without_query(body), http::split_url(pointer)));
    }),
    Target::text("cgroup-path", |text| {
        drop((home::Home::of_path(text), home::Home::of_cgroups(text), home::Home::unit_of_cgroups(text)));
    }),
    Target::text("pressure", |text| {
        let _ = parse::pressure(text);
    }),
    Target::text("proc-kernel", |text| {
        drop((parse::processor_time(text), parse::memory(text)));
        let _ = (parse::load(text), parse::paging(text), parse::kstat(text, "size"));
    }),
    Target::text("kernel-log", |text| {
        let lines: Vec<_> = text.lines().filter_map(|l| kmsg::parse_record(l, Timestamp::UNIX_EPOCH)).collect();
        assert!(kmsg::oom_kills(&lines).len() <= lines.len(), "one line is at most one kill");
    }),
    Target::text("proc-net-tcp", |text| {
        let found = listeners::parse(text).len() + listeners::parse_udp(text).len();
        assert!(found <= 2 * text.lines().count(), "a line is at most one listener of each kind");
        let _ = listeners::connection_state_in(text, SocketAddr::from(([127, 0, 0, 1], 80)));
    }),
    Target::text("proc-net-route", |text| {
        for line in text.lines() {
            let _ = (netns::is_default_v4(line), netns::is_default_v6(line));
        }
    }),
    Target::text("prometheus-text", |text| {
        let found = metrics::parse(text, &["up", "a", "loki_discarded_samples_total"]);
        assert!(found.len() <= text.lines().count(), "a line is at most one number");
    }),
    Target::text("prometheus-targets", |text| {
        drop((prometheus::without_secrets(text), prometheus::without_url(text), prometheus::encoded(text)));
        drop(serde_json::from_str(text).ok().and_then(|json| prometheus::parse_targets(&json)));
    }),
    Target::text("proc-pid", |text| {
        let _ = (
            process::written_fd(text),
            process::state_in(text),
            crate::probe::io::stat::parent_and_start(text),
            crate::probe::io::stat::usage(text).is_some(),
            process::status_bytes(text, "VmSwap"),
        );
        for line in text.lines() {
            drop((process::seen_mount(line), process::unescape(line), process::deleted_library(line)));
        }
        let _ = (tasks::uninterruptible(text), tasks::exec_start_ms(text), table::parse(text), table::source_in(text));
        let _ = (tasks::switches(text), tasks::processor(text), confinement::container_of(text), confinement::root_mount(text));
        let _ = (rights::parse_ids(text), rights::Rights::parse(text));
        let _ = (user_limits::parse_status(text), user_limits::watches_in(text), user_limits::process_limit(text));
    }),
    Target::text("passwd-and-uid-map", |text| drop((accounts::name_of(text.as_bytes(), 0), owner::map_inside(text, 100_999)))),
    Target::text("log-timestamp", |text| {
        for line in text.lines() {
            let _ = file::written(line, &TimeZone::UTC);
        }
    }),
    Target::text("docker-proxy", |text| {
        let _ = proxies::ends(text);
    }),
    Target::text("etc-hosts", |text| {
        let _ = image_files::maps_localhost_to_v6(text);
    }),
    Target::text("address", |text| {
        let address = Address::parse(text);
        drop((address.port(), address.password(), address.path(), address.request_target(), last_port(text)));
        if let Some(h) = address.host_port() {
            let joined = join(&h.host, h.port);
            assert_eq!(split_port(&joined), (h.host.as_str(), Some(h.port)), "{joined} is another address");
        }
    }),
    Target::text("printable", |text| {
        let shown = printable(text);
        assert!(!shown.chars().any(char::is_control), "control character left in {shown:?}");
        assert!(shown.len() <= text.len() * 8, "unbounded growth");
    }),
    Target::text("redactor", secrets_are_redacted),
];

/// Neither a registered secret nor one in a known position passes the redactor, in any context; redacted text is not changed
/// again.
fn secrets_are_redacted(text: &str) {
    const SECRET: &str = "canary-7f3a9b1c";
    if text.contains(SECRET) {
        // the fuzzer can take this constant from the binary
        return;
    }
    let learned = Redactor::default();
    learned.learn_environment(["API_TOKEN=canary-7f3a9b1c"]);
    let unknown = Redactor::default();
    let (before, after) = text.split_at(text.char_indices().nth(text.len() / 8).map_or(0, |(i, _)| i));
    // adjacent text without a separator is part of another word, which may be another secret
    for planted in [format!("{before}{SECRET}{after}"), format!("{before} {SECRET}\n{after}")] {
        let clean = learned.scrub(&planted);
        assert!(!clean.contains(SECRET), "{planted:?} became {clean:?}");
        assert_eq!(learned.scrub(&clean), clean, "scrubbing is idempotent");
    }
    for planted in [
        format!("{before}\npassword={SECRET}\n{after}"),
        format!("{before}\nAuthorization: Bearer {SECRET}\n{after}"),
        format!("{before}\npostgres://app:{SECRET}@db:5432/app\n{after}"),
        format!("{before}\n{{\"api_key\":\"{SECRET}\"}}\n{after}"),
    ] {
        let clean = unknown.scrub(&planted);
        assert!(!clean.contains(SECRET), "{planted:?} became {clean:?}");
        assert!(clean.len() <= planted.len() * REDACTED.len(), "unbounded growth");
    }
}
