//! Renewal of certificates: lineages and log of certbot, and the jobs that run it.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::probe::io::{Root, crontab};
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::proc::table::{Process, SharedProcessTable};
use crate::probe::{ProbeError, blocking};

/// Directories of certbot.
const CERTBOT_HOME: &str = "/etc/letsencrypt";
const CERTBOT_LOGS: &str = "/var/log/letsencrypt";

/// Timeout of reading a lineage.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Size limit of a log file, in bytes; a larger one is skipped.
const MAX_LOG_BYTES: u64 = 4 << 20;

/// Number of examined log files, one per run of certbot.
const MAX_LOGS: usize = 10;

/// A certificate that certbot renews.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage {
    /// Its name.
    pub name: String,
    /// Its renewal configuration exists and is complete.
    pub configured: bool,
    /// `nginx`, `webroot`, `standalone`, `dns-…`.
    pub authenticator: String,
    /// The directory URL of the authority, unless it is Let's Encrypt.
    pub server: Option<String>,
    /// `nginx`, or empty.
    pub installer: String,
    /// Commands and files that run after a renewal.
    pub hooks: Vec<String>,
    /// Directories of the webroot challenge that do not exist.
    pub missing_webroots: Vec<String>,
    /// Expiry of the certificate on disk; its lifetime, in seconds, is in `lifetime_s`.
    pub not_after: Option<Timestamp>,
    /// See `not_after`.
    pub lifetime_s: i64,
    /// The last run of certbot for this certificate that was not a dry run: time, and error if it failed.
    pub last_run: Option<(Timestamp, Option<String>)>,
    /// Last run of certbot.
    pub last_log: Option<Timestamp>,
    /// Renewed by the certbot of this host, not by one in a container.
    pub here: bool,
}

/// The lineage of a path: `/etc/letsencrypt/live/NAME/fullchain.pem`, wherever that is mounted.
#[must_use]
pub fn lineage_of(path: &str) -> Option<&str> {
    let mut parts = path.rsplit('/');
    let file = parts.next()?;
    let name = parts.next()?;
    let directory = parts.next()?;
    let stem = file.strip_suffix(".pem")?;
    let known = ["fullchain", "cert", "privkey", "chain"].iter().any(|f| stem.starts_with(f));
    (matches!(directory, "live" | "archive") && known).then_some(name)
}

/// The names of the lineages in the root of `pid`, or of this process.
pub async fn lineages(pid: Option<i32>) -> Result<Vec<String>, ProbeError> {
    blocking::run("certbot's lineages", CERTBOT_HOME, READ_TIMEOUT, move |io| {
        let Ok(root) = Root::of_or_own(io, pid) else { return Vec::new() };
        let live = root.names(format!("{CERTBOT_HOME}/live").as_ref());
        let renewed = root.names(format!("{CERTBOT_HOME}/renewal").as_ref());
        let mut names: Vec<String> = renewed.iter().filter_map(|f| f.strip_suffix(".conf")).map(str::to_owned).collect();
        names.extend(live.into_iter().filter(|n| root.exists(&format!("{CERTBOT_HOME}/live/{n}/cert.pem"))));
        names.sort();
        names.dedup();
        names
    })
    .await
}

/// Reads a lineage.
pub(super) async fn lineage(pid: Option<i32>, name: String) -> Result<Lineage, ProbeError> {
    blocking::run("a lineage of certbot", CERTBOT_HOME, READ_TIMEOUT, move |io| {
        let root = Root::of_or_own(io, pid).map_err(|e| ProbeError::io("a lineage of certbot", CERTBOT_HOME, &e))?;
        read(&root, name, pid.is_none())
    })
    .await?
}

fn read(root: &Root, name: String, here: bool) -> Result<Lineage, ProbeError> {
    let text = |path: &str| root.bytes(path, 1 << 20).map(|b| String::from_utf8_lossy(&b).into_owned());
    let mut lineage = Lineage { here, ..Lineage::default() };
    let path = format!("{CERTBOT_HOME}/renewal/{name}.conf");
    match text(&path) {
        Ok(conf) => {
            configure(&mut lineage, &conf);
            lineage.missing_webroots = webroots(&conf).into_iter().filter(|w| here && !root.exists(w)).collect();
        }
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(ProbeError::io("the renewal configuration", path, &e));
        }
        Err(_) => {}
    }
    for directory in ["deploy", "post"] {
        let directory = format!("{CERTBOT_HOME}/renewal-hooks/{directory}");
        lineage
            .hooks
            .extend(root.names(directory.as_ref()).into_iter().filter(|n| n != "README").map(|n| format!("{directory}/{n}")));
    }
    let defaults = text(&format!("{CERTBOT_HOME}/cli.ini")).unwrap_or_default();
    for key in ["deploy-hook", "renew-hook", "post-hook"] {
        lineage.hooks.extend(setting(&defaults, key));
    }
    if let Ok(bytes) = root.bytes(&format!("{CERTBOT_HOME}/live/{name}/cert.pem"), 1 << 20)
        && let Some(facts) = super::x509::certificates(&bytes).ok().and_then(|c| super::x509::facts(c.first()?).ok())
    {
        lineage.not_after = Some(facts.not_after);
        lineage.lifetime_s = facts.not_after.duration_since(facts.not_before).as_secs();
    }
    let mut logs: Vec<(Option<Timestamp>, String)> = root
        .names(CERTBOT_LOGS.as_ref())
        .into_iter()
        .filter(|n| n.starts_with("letsencrypt.log"))
        .map(|n| format!("{CERTBOT_LOGS}/{n}"))
        .map(|p| (root.modified(&p), p))
        .collect();
    logs.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    lineage.last_log = logs.first().and_then(|(at, _)| *at);
    lineage.last_run = logs.iter().take(MAX_LOGS).find_map(|(at, path)| {
        let log = root.bytes(path, MAX_LOG_BYTES).map(|b| String::from_utf8_lossy(&b).into_owned()).ok()?;
        match outcome(&log, &name) {
            Outcome::Unrelated => None,
            Outcome::Succeeded => Some(((*at)?, None)),
            Outcome::Failed(why) => Some(((*at)?, Some(why))),
        }
    });
    lineage.name = name;
    Ok(lineage)
}

/// Adds the settings of a renewal configuration.
fn configure(lineage: &mut Lineage, conf: &str) {
    lineage.configured = setting(conf, "fullchain").is_some() && setting(conf, "authenticator").is_some();
    lineage.authenticator = setting(conf, "authenticator").unwrap_or_default();
    lineage.server = setting(conf, "server").filter(|s| !s.contains("api.letsencrypt.org"));
    lineage.installer = setting(conf, "installer").unwrap_or_default();
    for key in ["renew_hook", "deploy_hook", "post_hook"] {
        lineage.hooks.extend(setting(conf, key));
    }
}

/// Directories of the webroot challenge: a list, and those of single names in a section of their own.
fn webroots(conf: &str) -> Vec<String> {
    let listed = setting(conf, "webroot_path").unwrap_or_default();
    let map = conf.lines().map(str::trim).skip_while(|l| *l != "[[webroot_map]]").skip(1).take_while(|l| !l.starts_with('['));
    let mut all: Vec<String> = map.filter_map(assignment).map(|(_, value)| value).collect();
    all.extend(listed.split(',').map(|w| w.trim().to_owned()));
    all.retain(|w| w.starts_with('/'));
    all.sort();
    all.dedup();
    all
}

/// A setting (`key = value`) in a file of certbot, without empty ones. Versions before 0.10 write `None` or `none` for options
/// that were not given.
pub(super) fn setting(text: &str, key: &str) -> Option<String> {
    let value = text.lines().filter_map(assignment).find_map(|(k, value)| (k == key).then_some(value))?;
    (!value.is_empty() && !value.eq_ignore_ascii_case("none")).then_some(value)
}

/// Key and value of a line. A value in quotes is taken as it is; another one ends at a comment.
fn assignment(line: &str) -> Option<(&str, String)> {
    let (key, value) = line.trim().split_once('=').filter(|(key, _)| !key.starts_with(['#', ';']))?;
    let value = value.trim();
    let quoted = value.chars().next().filter(|c| matches!(c, '"' | '\'')).and_then(|quote| value[1..].split(quote).next());
    let plain = || value.find(" #").map_or(value, |at| &value[..at]).trim();
    Some((key.trim(), quoted.unwrap_or_else(plain).to_owned()))
}

/// Outcome of a run of certbot for a lineage.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was for other lineages, or a dry run.
    Unrelated,
    /// The certificate was renewed, or was not due.
    Succeeded,
    /// The renewal failed, with the reason.
    Failed(String),
}

/// Parses the outcome of a run for a lineage from its log. Messages as in certbot 0.31 to 5 (`certbot/_internal/renewal.py`).
pub(super) fn outcome(log: &str, name: &str) -> Outcome {
    let arguments = log.lines().find(|l| l.contains("Arguments: [")).unwrap_or_default();
    if arguments.contains("--dry-run") || arguments.contains("--staging") || arguments.contains("--test-cert") {
        return Outcome::Unrelated;
    }
    let failed = [format!("Failed to renew certificate {name} with error: "), format!("Attempting to renew cert ({name}) from ")];
    let broken = format!("renewal/{name}.conf is broken");
    for line in log.lines() {
        if let Some(at) = failed.iter().find_map(|f| line.find(f.as_str())) {
            let reason = line[at..].split_once("error: ").map_or(&line[at..], |(_, why)| why);
            return Outcome::Failed(acme_detail(log).unwrap_or_else(|| reason.chars().take(300).collect()));
        }
        if line.contains(&broken) {
            return Outcome::Failed("its renewal configuration is broken".to_owned());
        }
    }
    let about = [format!("renewal/{name}.conf"), format!("live/{name}/")];
    if about.iter().any(|a| log.contains(a.as_str())) { Outcome::Succeeded } else { Outcome::Unrelated }
}

/// The reason reported by the authority.
fn acme_detail(log: &str) -> Option<String> {
    let line = log.lines().map(str::trim).find(|l| l.starts_with("Detail: "))?;
    Some(line.trim_start_matches("Detail: ").chars().take(300).collect())
}

/// Jobs and processes that run an ACME client or reload nginx periodically, apart from systemd timers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renewers {
    /// Crontab lines that run an ACME client.
    pub crons: Vec<String>,
    /// Those that have no effect where systemd runs: Debian's package uses its timer there.
    pub idle_crons: Vec<String>,
    /// A cron daemon is running.
    pub cron_runs: bool,
    /// Processes that run an ACME client repeatedly.
    pub loops: Vec<String>,
    /// Crontab lines and processes that reload nginx.
    pub reloaders: Vec<String>,
}

const CLIENTS: &[&str] = &["certbot", "acme.sh", "dehydrated", "lego ", "getssl", "simp_le"];
const RELOAD_COMMANDS: &[&str] = &["nginx -s reload", "reload nginx", "nginx reload", "kill -HUP", "-s HUP"];

/// Programs that run crontabs.
const CRON: &[&str] = &["cron", "crond", "anacron", "supercronic", "fcron", "bcron"];

/// ACME companions and long-running clients.
const ACME_CLIENTS: &[&str] = &["caddy", "traefik", "acme.sh", "certmagic"];

/// Finds them on this host.
pub(super) async fn renewers(processes: &SharedProcessTable) -> Result<Renewers, ProbeError> {
    let mut found = Renewers::default();
    let crontabs = blocking::run("crontabs", "/etc/cron.d", READ_TIMEOUT, crontab::read).await?;
    for line in crontabs.lines.into_iter().map(|line| line.text) {
        let calls = |words: &[&str]| words.iter().any(|w| line.contains(w));
        if calls(CLIENTS) && !line.contains("revoke") {
            if line.contains("-d /run/systemd/system") && line.contains('!') {
                found.idle_crons.push(line.clone());
            } else {
                found.crons.push(line.clone());
            }
        }
        if calls(RELOAD_COMMANDS) {
            found.reloaders.push(line);
        }
    }
    let table = processes.get().await?;
    let arguments = table.command_lines(table.iter().map(|p| p.pid)).await;
    let arguments: HashMap<i32, String> = arguments.into_iter().map(|(pid, line)| (pid, line.replace('\0', " "))).collect();
    let names = |pid: i32, words: &[&str]| arguments.get(&pid).is_some_and(|line| words.iter().any(|w| line.contains(w)));
    let is_candidate = |p: &&Process| {
        let comm = p.comm.as_str();
        CRON.contains(&comm) || ACME_CLIENTS.contains(&comm) || names(p.pid, CLIENTS) || names(p.pid, RELOAD_COMMANDS)
    };
    // a regular user renews no certificate of this host
    let candidates = table.iter().filter(is_candidate).map(|p| p.pid).collect();
    let services = of_origin(candidates, &[Origin::System, Origin::Container]).await;
    for process in table.iter().filter(|p| services.contains(&p.pid)) {
        let comm = process.comm.as_str();
        found.cron_runs |= CRON.contains(&comm);
        let Some(arguments) = arguments.get(&process.pid) else { continue };
        let script = arguments.contains("while") || arguments.contains("sleep") || arguments.contains("trap");
        if script && CLIENTS.iter().any(|c| arguments.contains(c)) {
            found.loops.push(arguments.chars().take(120).collect());
        }
        if script && RELOAD_COMMANDS.iter().any(|r| arguments.contains(r)) {
            found.reloaders.push(arguments.chars().take(120).collect());
        }
        if ACME_CLIENTS.contains(&comm) {
            found.loops.push(comm.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_is_recognized_by_path() {
        assert_eq!(lineage_of("/etc/letsencrypt/live/a.org/fullchain.pem"), Some("a.org"));
        assert_eq!(lineage_of("/certs/archive/a.org/cert3.pem"), Some("a.org"));
        assert_eq!((lineage_of("/etc/nginx/live/a.pem"), lineage_of("/etc/ssl/a/fullchain.pem")), (None, None));
    }

    #[test]
    fn option_that_was_not_given_is_no_hook() {
        let conf =
            "renew_hook = None\ninstaller = None\npost_hook = \"echo '# x' # y\"\ndeploy_hook = reload # both\n#pre_hook = x\n";
        let mut lineage = Lineage::default();
        configure(&mut lineage, conf);
        assert_eq!(
            (&lineage.hooks[..], lineage.installer.as_str()),
            (&["reload".to_owned(), "echo '# x' # y".to_owned()][..], "")
        );
    }

    #[test]
    fn webroots_of_names_and_of_the_list() {
        let conf = "[renewalparams]\nwebroot_path = /srv/a,\n[[webroot_map]]\na.org = /srv/a\nb.org = /srv/b\n[x]\nc = /srv/c\n";
        assert_eq!(webroots(conf), ["/srv/a", "/srv/b"]);
        assert!(webroots("webroot_path = None\n").is_empty());
    }

    #[test]
    fn corpus_of_renewal_configurations() {
        crate::corpus::check("certbot", 6, |text| {
            let mut lineage = Lineage::default();
            configure(&mut lineage, text);
            vec![
                ("configured", lineage.configured.to_string()),
                ("authenticator", lineage.authenticator),
                ("installer", lineage.installer),
                ("server", lineage.server.unwrap_or_default()),
                ("hooks", lineage.hooks.join(" | ")),
                ("webroots", webroots(text).join(" ")),
            ]
        });
    }

    #[test]
    fn renewal_outcome_is_parsed_from_log() {
        let failed = "2026-11-21 14:00:00,1:DEBUG:certbot._internal.main:Arguments: ['-q']\n\
            2026-11-21 14:00:01,1:DEBUG:certbot._internal.renewal:Processing /etc/letsencrypt/renewal/a.org.conf\n\
              Detail: 10.0.0.1: Fetching http://a.org/.well-known: Connection refused\n\
            2026-11-21 14:00:02,1:ERROR:certbot._internal.renewal:Failed to renew certificate a.org with error: Some challenges have failed.\n";
        assert_eq!(
            outcome(failed, "a.org"),
            Outcome::Failed("10.0.0.1: Fetching http://a.org/.well-known: Connection refused".to_owned())
        );
        assert_eq!(outcome(failed, "b.org"), Outcome::Unrelated);
        assert_eq!(outcome(&failed.replace("'-q'", "'--dry-run'"), "a.org"), Outcome::Unrelated);
        assert_eq!(
            outcome("Arguments: []\nProcessing /etc/letsencrypt/renewal/a.org.conf\nnot yet due", "a.org"),
            Outcome::Succeeded
        );
        assert_eq!(
            setting("# x\nrenew_hook = systemctl reload nginx\n", "renew_hook").as_deref(),
            Some("systemctl reload nginx")
        );
    }
}
