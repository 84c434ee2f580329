//! The documentation of a site runbook, in the form of `RUNBOOK.md`.

use std::fmt::Write as _;
use std::path::Path;

use opsctl_core::model::address::join;
use opsctl_core::model::shell_word;

use super::probe::{SiteProbe, Source};
use super::{SiteCheck, raw};

/// The documentation as Markdown.
pub(super) fn text(file: &raw::File, checks: &[SiteCheck], path: &Path) -> String {
    let mut out = String::new();
    // writing to a string cannot fail
    let mut section = |heading: &str, body: &str, otherwise: &str| {
        let body = if body.trim().is_empty() { otherwise } else { body.trim() };
        let _ = write!(out, "\n## {heading}\n\n{body}\n");
    };
    let lines = |each: &dyn Fn(&SiteCheck) -> Option<String>| checks.iter().filter_map(each).collect::<Vec<_>>().join("\n");
    let probes = lines(&|c| Some(format!("- {}: {}", c.spec.title, subject(&c.probe))));
    section("Purpose", &probes, "Nothing.");
    let about = file.runbook.about.as_deref().unwrap_or_default();
    section("Why it matters", about, &format!("Not documented in {}.", path.display()));
    let rows = lines(&|c| {
        let severities: Vec<String> = c.spec.codes[0].severities.iter().map(ToString::to_string).collect();
        Some(format!("| {} | {} | {} |", c.spec.id, severities.join("/"), c.spec.codes[0].when))
    });
    section("Verdicts", &format!("| code | severity | when |\n|---|---|---|\n{rows}"), "");
    let by_hand = lines(&|c| Some(by_hand(&c.probe)));
    section("By hand", &if by_hand.is_empty() { by_hand } else { format!("```sh\n{by_hand}\n```") }, "No equivalent command.");
    let fixes = lines(&|c| c.spec.fixes.first().map(|f| format!("| {} | {} | {} |", f.id, f.risk, f.title)));
    let fixes = if fixes.is_empty() { fixes } else { format!("| fix | risk | effect |\n|---|---|---|\n{fixes}") };
    section("Fixes", &fixes, "None.");
    let safety = lines(&|c| {
        let (spec, fix) = (c.spec.fixes.first()?, c.fix.as_ref()?);
        let undo = if fix.undo.is_empty() {
            "it cannot be reverted".to_owned()
        } else {
            format!("`{}` reverts it", line(&fix.undo, None))
        };
        let causes: Vec<String> = c.causes.iter().map(|(code, name)| format!("{code} of {name}")).collect();
        let refused = if causes.is_empty() { String::new() } else { format!(" Refused while {} is open.", causes.join(" or ")) };
        Some(format!("- `{}` runs `{}`; {undo}.{refused}", spec.id, line(&fix.argv, fix.cwd.as_deref())))
    });
    section("Fix safety", &safety, "Nothing is changed.");
    let mut alerts: Vec<&str> =
        file.runbook.alerts.iter().chain(file.check.iter().flat_map(|c| &c.alerts)).map(String::as_str).collect();
    alerts.sort_unstable();
    alerts.dedup();
    let alerts: Vec<String> = alerts.iter().map(|a| format!("- `{a}`")).collect();
    section("Alerts", &alerts.join("\n"), "None.");
    section("See also", &format!("{}, the definition of this runbook.", path.display()), "");
    format!("# {}\n{out}", file.runbook.name.get_ref())
}

fn line(argv: &[String], cwd: Option<&str>) -> String {
    let words: Vec<String> = argv.iter().map(|w| shell_word(w)).collect();
    let cd = cwd.map(|c| format!("cd {} && ", shell_word(c))).unwrap_or_default();
    format!("{cd}{}", words.join(" "))
}

/// Short description of a probe.
fn subject(probe: &SiteProbe) -> String {
    let of = |server: &Option<String>, kind: &str| server.clone().unwrap_or_else(|| format!("the only {kind}"));
    match probe {
        SiteProbe::Endpoint { endpoint, .. } => format!("`{}`", endpoint.url),
        SiteProbe::Tls { host, port, .. } => format!("the certificate of {}", join(host, *port)),
        SiteProbe::Sql { server, query, .. } => format!("{}: `{query}`", of(server, "PostgreSQL")),
        SiteProbe::Redis { server, command, .. } => format!("{}: `{}`", of(server, "Redis"), command.join(" ")),
        SiteProbe::Metric { server, query } => format!("{}: `{query}`", of(server, "Prometheus")),
        SiteProbe::Command { argv, cwd, .. } => format!("`{}`", line(argv, cwd.as_deref())),
        SiteProbe::File { path, .. } => format!("`{path}`"),
        SiteProbe::Log { source: Source::Container(name), pattern, .. } => format!("`{pattern}` in the log of container {name}"),
        SiteProbe::Log { source: Source::Unit(name), pattern, .. } => format!("`{pattern}` in the log of {name}"),
        SiteProbe::Log { source: Source::File(path), pattern, .. } => format!("`{pattern}` in {path}"),
    }
}

/// The equivalent command without opsctl.
fn by_hand(probe: &SiteProbe) -> String {
    match probe {
        SiteProbe::Endpoint { endpoint, .. } if endpoint.scheme == "tcp" => format!("nc -vz {} {}", endpoint.host, endpoint.port),
        SiteProbe::Endpoint { endpoint, .. } => {
            let resolve = endpoint.address.as_ref().map(|a| format!(" --resolve {}:{a}", join(&endpoint.host, endpoint.port)));
            format!("curl -si{} {}", resolve.unwrap_or_default(), shell_word(&endpoint.url))
        }
        SiteProbe::Tls { host, port, name, .. } => {
            let peer = join(host, *port);
            format!("openssl s_client -connect {peer} -servername {name} </dev/null | openssl x509 -noout -dates")
        }
        SiteProbe::Sql { database, query, .. } => {
            let database = database.as_ref().map(|d| format!(" -d {}", shell_word(d)));
            format!("psql{} -Atc {}", database.unwrap_or_default(), shell_word(query))
        }
        SiteProbe::Redis { database, command, .. } => format!("redis-cli -n {database} {}", line(command, None)),
        SiteProbe::Metric { query, .. } => format!("promtool query instant http://localhost:9090 {}", shell_word(query)),
        SiteProbe::Command { argv, cwd, .. } => line(argv, cwd.as_deref()),
        SiteProbe::File { path, .. } => format!("ls -l {path}"),
        SiteProbe::Log { source, pattern, .. } => {
            let read = match source {
                Source::Container(name) => format!("docker logs --since 10m {name} 2>&1"),
                Source::Unit(name) => format!("journalctl -u {name} --since -10min"),
                Source::File(path) => format!("tail -c 1M {path}"),
            };
            format!("{read} | grep -E {}", shell_word(pattern))
        }
    }
}
