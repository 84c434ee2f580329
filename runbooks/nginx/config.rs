//! Configuration of nginx: it passes `nginx -t`, and the loaded configuration is the one on disk.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::Address;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal, Role,
    Severity, quantity,
};
use opsctl_core::probe::nginx::SeenFile;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::dependencies::running_container;
use crate::shared::nginx_context::called;
use crate::shared::reload_nginx::{RELOAD, Reload};
use crate::shared::servers::Server;

const TEST: Code = Code {
    id: "nginx.config-test",
    severities: &[Severity::Info, Severity::Crit],
    when: "`nginx -t` fails: the running nginx keeps the loaded configuration, a restart would fail (crit); it passes with a warning about an ignored part (info)",
    hint: "do not restart it: correct the error that `nginx -t` reports, then reload",
    depends_on: &[
        &running_container("a configured upstream's"),
        &[
            DependsOn::confirmed(Role::Detached, KeyKind::Container, "a configured upstream's"),
            DependsOn::likely(Role::NamesBroken, KeyKind::Names, ""),
        ],
    ],
    ..Code::BASE
};

const NOT_LOADED: Code = Code {
    id: "nginx.config-not-loaded",
    severities: &[Severity::Warn],
    when: "a file of its configuration, a certificate or a key is newer than its workers",
    hint: "check the change; a reload applies it",
    depends_on: &[&[DependsOn::confirmed(Role::OldFile, KeyKind::Container, "its")]],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.config",
    title: "The configuration is valid and loaded",
    codes: &[TEST, NOT_LOADED],
    fixes: &[RELOAD],
    timeout: Duration::from_secs(9),
};

/// Minimum age difference: clocks and ticks are not exact, and a reload reads a file written just before.
const MIN_AGE_DIFFERENCE: SignedDuration = SignedDuration::from_millis(500);

pub(super) struct Config;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    reload: Reload,
    loaded_at: Option<Timestamp>,
    /// Files newer than the workers, the newest first.
    newer: Vec<SeenFile>,
    /// Whether they are configuration files, not certificates.
    configuration: bool,
    /// The name that the test could not resolve, and the container of that name.
    unknown_host: Option<(String, Option<String>)>,
    /// Parts that opsctl could not read.
    problems: Vec<String>,
}

impl Check for Config {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let nginx = cx.nginx(target)?;
        let mut e = Evidence { loaded_at: nginx.loaded_at(), problems: nginx.problems.clone(), ..Evidence::default() };
        let is_newer = |f: &&SeenFile| {
            let (Some(modified), Some(loaded)) = (f.modified, e.loaded_at) else { return false };
            modified.duration_since(loaded) > MIN_AGE_DIFFERENCE
        };
        let certificates = nginx.certificate_files().await?;
        let mut newer: Vec<SeenFile> = nginx.files.iter().filter(is_newer).cloned().collect();
        e.configuration = !newer.is_empty();
        newer.extend(certificates.iter().filter(is_newer).cloned());
        newer.sort_by_key(|f| std::cmp::Reverse(f.modified));
        e.newer = newer;
        e.reload = Reload::of(cx, &server, &nginx).await;
        // the test takes long if DNS servers do not answer; a container that is down has no name in any case
        let down = || {
            let hosts = nginx.config.backends.iter().map(|b| &b.host);
            hosts.into_iter().find(|h| called(&cx.inventory, h).is_some_and(|c| c.state != "running")).cloned()
        };
        let host = e.reload.tested.says.iter().find_map(|l| unknown_host(l));
        let host = if e.reload.tested.not_run.is_some() { host.or_else(down) } else { host };
        e.unknown_host = host.map(|host| {
            let container = called(&cx.inventory, &host).map(|c| c.id.clone());
            (host, container)
        });
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let tested = &e.reload.tested;
        let mut judgement = Judgement::default();
        let finding = |code: &'static Code, severity, message: String| {
            let mut f = e.server.finding(code, severity, judged.target, message);
            if code.id == TEST.id {
                // its own container and unit are not those of an upstream
                f.keys.retain(|k| k.kind == KeyKind::Server);
            }
            f
        };
        if let (Some(why), Some((host, Some(container)))) = (&tested.not_run, &e.unknown_host) {
            judgement.findings.push(
                finding(
                    &TEST,
                    Severity::Crit,
                    format!("{name} keeps running, but a restart would fail: {host} does not resolve, its container is down"),
                )
                .cite("test", format!("{}: {why}", tested.command))
                .key(KeyKind::Container, container)
                .likely(),
            );
        } else if let Some(why) = &tested.not_run {
            judgement.gaps.push(format!("`{}` could not be run: {why}", tested.command));
        } else if !tested.passes {
            let (why, position) = message_and_position(tested.complaint());
            let mut f = finding(&TEST, Severity::Crit, format!("{name} keeps running, but a restart would fail: {why}"))
                .cite("at", position)
                .cite("test", &tested.command);
            f = match &e.unknown_host {
                Some((_, Some(container))) => f.key(KeyKind::Container, container),
                // a name that this host itself should resolve
                Some((_, None)) if e.server.get().is_some_and(|s| s.container.is_none()) => f.key(KeyKind::Names, "host"),
                _ => f,
            };
            judgement.findings.push(f);
        } else if let Some(warning) = tested.says.iter().find(|l| l.contains("[warn]") && l.contains("ignored")) {
            judgement.findings.push(
                finding(&TEST, Severity::Info, format!("{name} ignores a part of its configuration"))
                    .cite("test", warning.trim_start_matches("[warn] "))
                    .hint("two server blocks have the same server_name and listen address; only the first one is used"),
            );
        }
        if let (Some(newest), Some(loaded)) = (e.newer.first(), e.loaded_at) {
            let part = if e.configuration { "configuration" } else { "certificate" };
            let files: Vec<&str> = e.newer.iter().map(|f| f.path.as_str()).collect();
            let age = newest.modified.map_or_else(String::new, |m| format!(", {}", quantity::ago(judged.taken_at, m)));
            let message = format!(
                "{name} runs with the {part} of {}; {} changed since{age}",
                quantity::ago(judged.taken_at, loaded),
                quantity::count(e.newer.len(), "file"),
            );
            let list = quantity::some_of(&files, 5);
            judgement
                .findings
                .push(finding(&NOT_LOADED, Severity::Warn, message).since(newest.modified).cite("changed", list).fix(RELOAD.id));
        }
        if tested.passes && !e.problems.is_empty() {
            judgement.gaps.push(format!("its configuration could not be read completely: {}", e.problems.join("; ")));
        }
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        e.reload.plan(&SPEC, finding, judged.target)
    }
}

/// Message and position of a failed test.
fn message_and_position(complaint: Option<&str>) -> (&str, String) {
    let Some(complaint) = complaint else { return ("`nginx -t` fails without a message", String::new()) };
    let text = complaint.split_once("] ").map_or(complaint, |(_, text)| text);
    match text.rsplit_once(" in /") {
        Some((why, position)) => (why, format!("/{position}")),
        None => (text, String::new()),
    }
}

/// `[emerg] host not found in upstream "b2" in /etc/nginx/conf.d/x.conf:3`.
fn unknown_host(line: &str) -> Option<String> {
    let rest = line.split_once("host not found in ")?.1;
    let host = rest.split('"').nth(1)?;
    Some(Address::parse(host).host().to_owned())
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::nginx::ConfigTest;

    use super::*;

    #[test]
    fn message_and_position_of_failed_test() {
        let line = r#"[emerg] host not found in upstream "b2:8080" in /etc/nginx/conf.d/shop.conf:3"#.to_owned();
        assert_eq!(unknown_host(&line).as_deref(), Some("b2"));
        let tested = ConfigTest { says: vec!["[warn] x".to_owned(), line], ..ConfigTest::default() };
        let (why, at) = message_and_position(tested.complaint());
        assert_eq!((why, at.as_str()), (r#"host not found in upstream "b2:8080""#, "/etc/nginx/conf.d/shop.conf:3"));
        assert_eq!(message_and_position(ConfigTest::default().complaint()).0, "`nginx -t` fails without a message");
        assert_eq!(unknown_host("nothing"), None);
    }
}
