//! Would it start with the configuration on disk, and is that the one it runs with?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Plan, Product, Refusal, Severity, Target, quantity,
};
use opsctl_core::probe::nginx::SeenFile;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::around_nginx::called;
use crate::reload_nginx::{RELOAD, Reload};
use crate::servers::Server;

const TEST: Code = Code {
    id: "nginx.config-test",
    severities: &[Severity::Info, Severity::Crit],
    when: "`nginx -t` fails: the running one goes on with what it has, a restart would end it (crit); it passes and warns that something of it is ignored (info)",
    hint: "do not restart it: mend what the test says, then reload",
};

const NOT_LOADED: Code = Code {
    id: "nginx.config-not-loaded",
    severities: &[Severity::Warn],
    when: "a file of its configuration, a certificate or a key is newer than its workers",
    hint: "look at what changed; a reload puts it in force",
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.config",
    title: "its configuration passes its test and is in force",
    codes: &[TEST, NOT_LOADED],
    fixes: &[RELOAD],
    timeout: Duration::from_secs(9),
};

/// How much newer a file has to be: clocks and ticks are not exact, and a reload reads what was written a moment ago.
const SLACK: SignedDuration = SignedDuration::from_millis(500);

pub(super) struct Config;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    reload: Reload,
    loaded_at: Option<Timestamp>,
    /// Files that are newer, the newest first.
    newer: Vec<SeenFile>,
    /// Whether they are configuration and not certificates.
    configuration: bool,
    /// The name the test could not look up, and the container that is called so.
    unknown_host: Option<(String, Option<String>)>,
    /// What of it opsctl could not read.
    problems: Vec<String>,
}

impl Check for Config {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let nginx = cx.nginx(target)?;
        let mut e = Evidence { loaded_at: nginx.loaded_at(), problems: nginx.problems.clone(), ..Evidence::default() };
        let is_newer = |f: &&SeenFile| {
            let (Some(modified), Some(loaded)) = (f.modified, e.loaded_at) else { return false };
            modified.duration_since(loaded) > SLACK
        };
        let certificates = nginx.certificate_files().await?;
        let mut newer: Vec<SeenFile> = nginx.files.iter().filter(is_newer).cloned().collect();
        e.configuration = !newer.is_empty();
        newer.extend(certificates.iter().filter(is_newer).cloned());
        newer.sort_by_key(|f| std::cmp::Reverse(f.modified));
        e.newer = newer;
        e.reload = Reload::of(cx, &server, &nginx).await;
        // name servers that do not answer make the test last: a container that is down has no name all the same
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
        let finding = |code, severity, message: String| e.server.finding(code, severity, judged.target, message);
        if let (Some(why), Some((host, Some(container)))) = (&tested.not_run, &e.unknown_host) {
            judgement.findings.push(
                finding(
                    &TEST,
                    Severity::Crit,
                    format!("{name} serves on, but would not start again: {host} has no address, its container is down"),
                )
                .cite("test", format!("{}: {why}", tested.command))
                .key(KeyKind::Container, container)
                .likely(),
            );
        } else if let Some(why) = &tested.not_run {
            judgement.gaps.push(format!("its test `{}` could not be run: {why}", tested.command));
        } else if !tested.passes {
            let (why, place) = said(tested.complaint());
            let mut f = finding(&TEST, Severity::Crit, format!("{name} serves on, but would not start again: {why}"))
                .cite("at", place)
                .cite("test", &tested.command);
            f = match &e.unknown_host {
                Some((_, Some(container))) => f.key(KeyKind::Container, container),
                // a name that this host itself should find
                Some((_, None)) if e.server.get().is_some_and(|s| s.container.is_none()) => f.key(KeyKind::Names, "host"),
                _ => f,
            };
            judgement.findings.push(f);
        } else if let Some(warning) = tested.says.iter().find(|l| l.contains("[warn]") && l.contains("ignored")) {
            judgement.findings.push(
                finding(&TEST, Severity::Info, format!("{name} ignores a part of its configuration"))
                    .cite("test", warning.trim_start_matches("[warn] "))
                    .hint("two sites have the same name and address; only the first one is served"),
            );
        }
        if let (Some(newest), Some(loaded)) = (e.newer.first(), e.loaded_at) {
            let what = if e.configuration { "configuration" } else { "certificate" };
            let files: Vec<&str> = e.newer.iter().map(|f| f.path.as_str()).collect();
            let age = newest.modified.map_or_else(String::new, |m| format!(", {}", quantity::ago(judged.taken_at, m)));
            let message = format!(
                "{name} runs with the {what} of {}; {} changed since{age}",
                quantity::ago(judged.taken_at, loaded),
                quantity::count(e.newer.len(), "file"),
            );
            let list = quantity::some_of(&files, 5);
            judgement
                .findings
                .push(finding(&NOT_LOADED, Severity::Warn, message).since(newest.modified).cite("changed", list).fix(RELOAD.id));
        }
        if tested.passes && !e.problems.is_empty() {
            judgement.gaps.push(format!("its configuration could not be read whole: {}", e.problems.join("; ")));
        }
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        e.reload.plan(&SPEC, finding, judged.target)
    }
}

/// What a failed test says, and where.
fn said(complaint: Option<&str>) -> (&str, String) {
    let Some(complaint) = complaint else { return ("its test fails and says nothing", String::new()) };
    let text = complaint.split_once("] ").map_or(complaint, |(_, text)| text);
    match text.rsplit_once(" in /") {
        Some((why, place)) => (why, format!("/{place}")),
        None => (text, String::new()),
    }
}

/// `[emerg] host not found in upstream "b2" in /etc/nginx/conf.d/x.conf:3`.
fn unknown_host(line: &str) -> Option<String> {
    let rest = line.split_once("host not found in ")?.1;
    let host = rest.split('"').nth(1)?;
    Some(host.split(':').next().unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::nginx::Tested;

    use super::*;

    #[test]
    fn the_test_s_words_are_taken_apart() {
        let line = r#"[emerg] host not found in upstream "b2:8080" in /etc/nginx/conf.d/shop.conf:3"#.to_owned();
        assert_eq!(unknown_host(&line).as_deref(), Some("b2"));
        let tested = Tested { says: vec!["[warn] x".to_owned(), line], ..Tested::default() };
        let (why, at) = said(tested.complaint());
        assert_eq!((why, at.as_str()), (r#"host not found in upstream "b2:8080""#, "/etc/nginx/conf.d/shop.conf:3"));
        assert_eq!(said(Tested::default().complaint()).0, "its test fails and says nothing");
        assert_eq!(unknown_host("nothing"), None);
    }
}
