//! The capabilities of the units: they suffice, and each one is needed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::lab::{Host, installed};

/// Capabilities that no run shows to be needed, each with the reason for granting it.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("dac_read_search", "without DAC_OVERRIDE it grants reading; `reading_needs_one_of_the_two_dac_capabilities`"),
    ("sys_chroot", "entering a mount namespace needs it; `sandbox_of_the_units_allows_the_calls_of_probes`"),
    ("setpcap", "a tool that runs as another user loses its bounding set; `sandbox_of_the_units_allows_the_calls_of_probes`"),
    ("kill", "a tool of another user that hangs is killed (kill(2))"),
    ("fowner", "files copied by a renewal hook get their mode (chmod(2))"),
    ("sys_nice", "processes of other users get another priority (setpriority(2))"),
    ("net_bind_service", "a renewal answers on port 80 (capabilities(7))"),
];

/// A host with servers of other users and their private sockets and files, a container with a separate network, and
/// packet filters.
fn host() -> Option<Host> {
    if !installed(&["psql", "redis-server", "nginx", "openssl", "iptables-legacy"]) {
        return None;
    }
    let host = Host::with_edge()?;
    host.postgres("");
    host.redis_container("cache", &["--restart", "always"]);
    host.sh("mkdir -p /mnt/cache; chown redis /mnt/cache; chmod 700 /mnt/cache");
    let own = ["--reuid", "redis", "--regid", "redis", "--clear-groups", "redis-server", "--port", "0"];
    let socket = ["--unixsocket", "/mnt/cache/redis.sock", "--unixsocketperm", "700", "--dir", "/mnt/cache"];
    host.spawn("setpriv", &[&own[..], &socket].concat());
    host.sh("until [ -S /mnt/cache/redis.sock ]; do sleep 0.1; done
        iptables-legacy -A INPUT -p tcp --dport 9998 -j DROP; iptables -A INPUT -p tcp --dport 9999 -j DROP");
    Some(host)
}

/// The bounding set of a unit, in the syntax of setpriv(1).
fn capabilities(unit: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(unit);
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    lines.flat_map(str::split_whitespace).map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase()).collect()
}

/// Arguments of setpriv that drop all other capabilities.
fn only(capabilities: &[&String]) -> Vec<String> {
    let set = capabilities.iter().fold("--bounding-set=-all".to_owned(), |set, name| format!("{set},+{name}"));
    ["setpriv".to_owned(), set, "--inh-caps=-all".to_owned(), "--no-new-privs".to_owned()].to_vec()
}

/// Verdicts and findings, without values that change from second to second.
fn findings_of(host: &Host, prefix: &[String]) -> BTreeSet<String> {
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let words = ["diagnose", "--deadline", "40s", "--format", "json", "--skip", "cpu,memory,time"];
    let output = host.opsctl_command(&prefix, &words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let checks = report["checks"].as_array().unwrap().iter();
    let checks = checks.map(|c| format!("{} {} {} {}", c["check"], c["target"], c["verdict"], c["reason"]));
    let findings = report["findings"].as_array().unwrap().iter().map(|f| format!("{} {}", f["code"], f["message"]));
    checks.chain(findings).map(|line| line.replace(|c: char| c.is_ascii_digit(), "")).collect()
}

#[test]
fn report_unit_needs_each_of_its_capabilities_and_no_other() {
    let Some(host) = host() else { return };
    let all = capabilities("opsctl-report.service");
    let free = findings_of(&host, &[]);
    let held = findings_of(&host, &only(&all.iter().collect::<Vec<_>>()));
    assert_eq!(
        free.symmetric_difference(&held).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "the capabilities of the unit suffice"
    );
    for name in all.iter().filter(|name| !NOT_SHOWN.iter().any(|(known, _)| known == name)) {
        let rest: Vec<&String> = all.iter().filter(|other| *other != name).collect();
        assert_ne!(findings_of(&host, &only(&rest)), held, "the result is the same without {name}: it is not needed");
    }
}

#[test]
fn reading_needs_one_of_the_two_dac_capabilities() {
    let Some(host) = host() else { return };
    let all = capabilities("opsctl-report.service");
    let without = |names: &[&str]| {
        findings_of(&host, &only(&all.iter().filter(|name| !names.contains(&name.as_str())).collect::<Vec<_>>()))
    };
    let held = without(&[]);
    let missed = |names: &[&str]| without(names).symmetric_difference(&held).count();
    assert!(missed(&["dac_override", "dac_read_search"]) > missed(&["dac_override"]));
}

#[test]
fn fix_of_a_file_of_another_user_needs_chown() {
    let Some(host) = Host::without_engine() else { return };
    host.with_own_etc();
    host.configure("[policy]\nmax_fixes_per_hour = 10\n");
    let name = host.sh("uname -n");
    host.sh(&format!("sed -i '/{name}/d' /etc/hosts; chown daemon /etc/hosts"));
    for unit in ["opsctl-listen.service", "opsctl-bootstrap.service"] {
        let all = capabilities(unit);
        let fix = |prefix: &[String]| {
            let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
            let output = host.opsctl_command(&prefix, &["fix", "host.add-hostname", "--yes"]).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let rest: Vec<&String> = all.iter().filter(|name| *name != "chown").collect();
        let (code, stdout) = fix(&only(&rest));
        assert_eq!(code, Some(12), "{unit}: {stdout}");
        let (code, stdout) = fix(&only(&all.iter().collect::<Vec<_>>()));
        assert_eq!(code, Some(0), "{unit}: {stdout}");
        assert_eq!(host.sh("stat -c %U /etc/hosts"), "daemon");
        host.sh(&format!("sed -i --follow-symlinks '/{name}/d' /etc/hosts; chown daemon /etc/hosts"));
    }
}

#[test]
fn every_capability_of_a_unit_is_justified() {
    let text = |unit: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(unit);
        fs::read_to_string(path).unwrap()
    };
    let report = text("opsctl-report.service");
    for unit in ["opsctl-report.service", "opsctl-digest@.service", "opsctl-listen.service", "opsctl-bootstrap.service"] {
        let comments: String =
            [&report, &text(unit)].map(|t| t.lines().filter(|l| l.starts_with('#')).collect::<String>()).concat();
        for name in capabilities(unit) {
            assert!(comments.contains(&name.to_uppercase()), "{unit}: {name}");
        }
    }
}
