//! What renews certificates: certbot's lineages, its log, and whoever runs it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::probe::io::Root;
use crate::probe::table::SharedProcessTable;
use crate::probe::{Io, ProbeError, blocking};

/// Where certbot keeps its things.
const HOME: &str = "/etc/letsencrypt";
const LOGS: &str = "/var/log/letsencrypt";

/// How long reading all of it may take.
const READ: Duration = Duration::from_secs(2);

/// A larger log is read from its end, in bytes.
const LOG: u64 = 4 << 20;

/// How many runs back are looked at.
const RUNS: usize = 10;

/// A certificate that certbot renews.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage {
    /// Its name.
    pub name: String,
    /// The file that says how it is renewed is there and has what it needs.
    pub configured: bool,
    /// `nginx`, `webroot`, `standalone`, `dns-…`.
    pub authenticator: String,
    /// The authority's directory, if it is not Let's Encrypt.
    pub server: Option<String>,
    /// `nginx`, or nothing.
    pub installer: String,
    /// What is run after a renewal: commands and files.
    pub hooks: Vec<String>,
    /// Folders of the webroot challenge that are not there.
    pub missing_webroots: Vec<String>,
    /// Until when the certificate on disk is valid, and how long it was from the start, in seconds.
    pub not_after: Option<Timestamp>,
    /// See `not_after`.
    pub lifetime_s: i64,
    /// The last run of certbot that was about this certificate and was no rehearsal: when, and why it failed.
    pub last_run: Option<(Timestamp, Option<String>)>,
    /// When certbot last ran at all.
    pub last_log: Option<Timestamp>,
    /// The certbot of this host renews it, not one in a container.
    pub here: bool,
}

/// The name of the lineage that a path belongs to: `/etc/letsencrypt/live/NAME/fullchain.pem`, wherever that is mounted.
#[must_use]
pub fn lineage_of(path: &str) -> Option<&str> {
    let mut parts = path.rsplit('/');
    let file = parts.next()?;
    let name = parts.next()?;
    let folder = parts.next()?;
    let stem = file.strip_suffix(".pem")?;
    let known = ["fullchain", "cert", "privkey", "chain"].iter().any(|f| stem.starts_with(f));
    (matches!(folder, "live" | "archive") && known).then_some(name)
}

/// The names of the lineages in the root of `pid`, or of this process.
pub async fn lineages(pid: Option<i32>) -> Result<Vec<String>, ProbeError> {
    blocking::run("certbot's lineages", HOME, READ, move |io| {
        let Ok(root) = Root::of_or_own(io, pid) else { return Vec::new() };
        let live = root.names(format!("{HOME}/live").as_ref());
        let renewed = root.names(format!("{HOME}/renewal").as_ref());
        let mut names: Vec<String> = renewed.iter().filter_map(|f| f.strip_suffix(".conf")).map(str::to_owned).collect();
        names.extend(live.into_iter().filter(|n| root.exists(&format!("{HOME}/live/{n}/cert.pem"))));
        names.sort();
        names.dedup();
        names
    })
    .await
}

/// What is known of one.
pub(super) async fn lineage(pid: Option<i32>, name: String) -> Result<Lineage, ProbeError> {
    blocking::run("a lineage of certbot", HOME, READ, move |io| {
        let root = Root::of_or_own(io, pid).map_err(|e| ProbeError::io("a lineage of certbot", HOME, &e))?;
        read(&root, name, pid.is_none())
    })
    .await?
}

fn read(root: &Root, name: String, here: bool) -> Result<Lineage, ProbeError> {
    let text = |path: &str| root.bytes(path, 1 << 20).map(|b| String::from_utf8_lossy(&b).into_owned());
    let mut lineage = Lineage { here, ..Lineage::default() };
    let path = format!("{HOME}/renewal/{name}.conf");
    match text(&path) {
        Ok(conf) => {
            lineage.configured = setting(&conf, "fullchain").is_some() && setting(&conf, "authenticator").is_some();
            lineage.authenticator = setting(&conf, "authenticator").unwrap_or_default();
            lineage.server = setting(&conf, "server").filter(|s| !s.contains("api.letsencrypt.org"));
            lineage.installer = setting(&conf, "installer").filter(|i| i != "None").unwrap_or_default();
            for key in ["renew_hook", "deploy_hook", "post_hook"] {
                lineage.hooks.extend(setting(&conf, key));
            }
            let webroots = setting(&conf, "webroot_path").unwrap_or_default();
            let webroots = webroots.split(',').map(str::trim).filter(|w| w.starts_with('/'));
            lineage.missing_webroots = webroots.filter(|w| here && !root.exists(w)).map(str::to_owned).collect();
        }
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(ProbeError::io("how a certificate is renewed", path, &e));
        }
        Err(_) => {}
    }
    for folder in ["deploy", "post"] {
        let folder = format!("{HOME}/renewal-hooks/{folder}");
        lineage.hooks.extend(root.names(folder.as_ref()).into_iter().filter(|n| n != "README").map(|n| format!("{folder}/{n}")));
    }
    let defaults = text(&format!("{HOME}/cli.ini")).unwrap_or_default();
    for key in ["deploy-hook", "renew-hook", "post-hook"] {
        lineage.hooks.extend(setting(&defaults, key));
    }
    if let Ok(bytes) = root.bytes(&format!("{HOME}/live/{name}/cert.pem"), 1 << 20)
        && let Some(facts) = super::x509::certificates(&bytes).ok().and_then(|c| super::x509::facts(c.first()?).ok())
    {
        lineage.not_after = Some(facts.not_after);
        lineage.lifetime_s = facts.not_after.duration_since(facts.not_before).as_secs();
    }
    let mut logs: Vec<(Option<Timestamp>, String)> = root
        .names(LOGS.as_ref())
        .into_iter()
        .filter(|n| n.starts_with("letsencrypt.log"))
        .map(|n| format!("{LOGS}/{n}"))
        .map(|p| (root.modified(&p), p))
        .collect();
    logs.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    lineage.last_log = logs.first().and_then(|(at, _)| *at);
    lineage.last_run = logs.iter().take(RUNS).find_map(|(at, path)| {
        let log = root.bytes(path, LOG).map(|b| String::from_utf8_lossy(&b).into_owned()).ok()?;
        match outcome(&log, &name) {
            Outcome::NotAbout => None,
            Outcome::Went => Some(((*at)?, None)),
            Outcome::Failed(why) => Some(((*at)?, Some(why))),
        }
    });
    lineage.name = name;
    Ok(lineage)
}

/// `key = value` of certbot's files.
pub(super) fn setting(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|l| {
        let (k, v) = l.split_once('=')?;
        (k.trim() == key).then(|| v.trim().trim_matches(['"', '\'']).to_owned()).filter(|v| !v.is_empty())
    })
}

/// What a run of certbot made of a lineage.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was about others, or a rehearsal.
    NotAbout,
    /// It was renewed, or was not due.
    Went,
    /// It could not be; why.
    Failed(String),
}

/// Reads what a run of certbot made of a lineage. The words are those of certbot 0.31 to 5 (`certbot/_internal/renewal.py`).
pub(super) fn outcome(log: &str, name: &str) -> Outcome {
    let arguments = log.lines().find(|l| l.contains("Arguments: [")).unwrap_or_default();
    if arguments.contains("--dry-run") || arguments.contains("--staging") || arguments.contains("--test-cert") {
        return Outcome::NotAbout;
    }
    let failed = [format!("Failed to renew certificate {name} with error: "), format!("Attempting to renew cert ({name}) from ")];
    let broken = format!("renewal/{name}.conf is broken");
    for line in log.lines() {
        if let Some(at) = failed.iter().find_map(|f| line.find(f.as_str())) {
            let said = line[at..].split_once("error: ").map_or(&line[at..], |(_, why)| why);
            return Outcome::Failed(detail(log).unwrap_or_else(|| said.chars().take(300).collect()));
        }
        if line.contains(&broken) {
            return Outcome::Failed("its renewal configuration is broken".to_owned());
        }
    }
    let about = [format!("renewal/{name}.conf"), format!("live/{name}/")];
    if about.iter().any(|a| log.contains(a.as_str())) { Outcome::Went } else { Outcome::NotAbout }
}

/// The reason the authority gave.
fn detail(log: &str) -> Option<String> {
    let line = log.lines().map(str::trim).find(|l| l.starts_with("Detail: "))?;
    Some(line.trim_start_matches("Detail: ").chars().take(300).collect())
}

/// Whoever runs certbot, or reloads nginx from time to time, apart from systemd's timers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renewers {
    /// Lines of cron that run an ACME client.
    pub crons: Vec<String>,
    /// Those of them that do nothing where systemd runs: Debian's package leaves the work to its timer there.
    pub idle_crons: Vec<String>,
    /// Something runs cron's lines.
    pub cron_runs: bool,
    /// Processes that run an ACME client again and again.
    pub loops: Vec<String>,
    /// Lines of cron, and processes, that reload nginx.
    pub reloaders: Vec<String>,
}

const CLIENTS: &[&str] = &["certbot", "acme.sh", "dehydrated", "lego ", "getssl", "simp_le"];
const RELOADS: &[&str] = &["nginx -s reload", "reload nginx", "nginx reload", "kill -HUP", "-s HUP"];

/// Looks for them on this host.
pub(super) async fn renewers(processes: &SharedProcessTable) -> Result<Renewers, ProbeError> {
    let mut found = Renewers::default();
    for line in blocking::run("the lines of cron", "/etc/cron.d", READ, cron_lines).await? {
        let calls = |words: &[&str]| words.iter().any(|w| line.contains(w));
        if calls(CLIENTS) && !line.contains("revoke") {
            if line.contains("-d /run/systemd/system") && line.contains('!') {
                found.idle_crons.push(line.clone());
            } else {
                found.crons.push(line.clone());
            }
        }
        if calls(RELOADS) {
            found.reloaders.push(line);
        }
    }
    let table = processes.get().await?;
    let arguments = table.command_lines(table.iter().map(|p| p.pid)).await;
    for process in table.iter() {
        let comm = process.comm.as_str();
        found.cron_runs |= matches!(comm, "cron" | "crond" | "anacron" | "supercronic" | "fcron" | "bcron");
        let Some(arguments) = arguments.get(&process.pid) else { continue };
        let arguments = arguments.replace('\0', " ");
        let script = arguments.contains("while") || arguments.contains("sleep") || arguments.contains("trap");
        if script && CLIENTS.iter().any(|c| arguments.contains(c)) {
            found.loops.push(arguments.chars().take(120).collect());
        }
        if script && RELOADS.iter().any(|r| arguments.contains(r)) {
            found.reloaders.push(arguments.chars().take(120).collect());
        }
        // acme companions and clients that stay
        if matches!(comm, "caddy" | "traefik" | "acme.sh" | "certmagic") {
            found.loops.push(comm.to_owned());
        }
    }
    Ok(found)
}

/// The lines of all crontabs.
fn cron_lines(io: &Io) -> Vec<String> {
    let mut files = vec!["/etc/crontab".to_owned(), "/etc/anacrontab".to_owned()];
    for folder in
        ["/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/var/spool/cron/crontabs", "/var/spool/cron"]
    {
        let names = io.read_dir(folder).into_iter().flatten().flatten().filter_map(|e| e.path().to_str().map(str::to_owned));
        files.extend(names.take(200));
    }
    let lines = files.iter().filter_map(|f| io.read_lossy(f).ok()).flat_map(|text| {
        let lines: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| l.chars().take(300).collect())
            .collect();
        lines
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_is_known_by_its_files() {
        assert_eq!(lineage_of("/etc/letsencrypt/live/a.org/fullchain.pem"), Some("a.org"));
        assert_eq!(lineage_of("/certs/archive/a.org/cert3.pem"), Some("a.org"));
        assert_eq!((lineage_of("/etc/nginx/live/a.pem"), lineage_of("/etc/ssl/a/fullchain.pem")), (None, None));
    }

    #[test]
    fn the_log_says_what_became_of_a_lineage() {
        let failed = "2026-11-21 14:00:00,1:DEBUG:certbot._internal.main:Arguments: ['-q']\n\
            2026-11-21 14:00:01,1:DEBUG:certbot._internal.renewal:Processing /etc/letsencrypt/renewal/a.org.conf\n\
              Detail: 10.0.0.1: Fetching http://a.org/.well-known: Connection refused\n\
            2026-11-21 14:00:02,1:ERROR:certbot._internal.renewal:Failed to renew certificate a.org with error: Some challenges have failed.\n";
        assert_eq!(
            outcome(failed, "a.org"),
            Outcome::Failed("10.0.0.1: Fetching http://a.org/.well-known: Connection refused".to_owned())
        );
        assert_eq!(outcome(failed, "b.org"), Outcome::NotAbout);
        assert_eq!(outcome(&failed.replace("'-q'", "'--dry-run'"), "a.org"), Outcome::NotAbout);
        assert_eq!(outcome("Arguments: []\nProcessing /etc/letsencrypt/renewal/a.org.conf\nnot yet due", "a.org"), Outcome::Went);
        assert_eq!(
            setting("# x\nrenew_hook = systemctl reload nginx\n", "renew_hook").as_deref(),
            Some("systemctl reload nginx")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".*", name in "[a-z.]*") {
            let _ = (outcome(&text, &name), setting(&text, &name), lineage_of(&text));
        }
    }
}
