//! The journal and mistakes of root, access by unprivileged users, a kill at the worst moment and clock jumps; its head in
//! every output that leaves the host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use super::faults::faked;
use crate::lab::{Host, Run};

/// A runbook with a fix that creates a file.
const MARKER: &str = r#"
[runbook]
name = "demo"
title = "A marker"
[[check]]
name = "marker"
title = "the marker exists"
command = { argv = ["/usr/bin/test", "-e", "/mnt/marker"] }
[check.fix]
name = "make"
title = "create the marker"
argv = ["touch", "/mnt/marker"]
undo = ["rm", "/mnt/marker"]
risk = "R1"
downtime = "none"
verify_within = "1s"
"#;

/// Prefix of a command run by an unprivileged user.
const USER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A host with that runbook.
fn host(config: &str) -> Option<Host> {
    let host = Host::without_engine()?;
    fs::create_dir(host.path("runbooks.d")).unwrap();
    fs::write(host.path("runbooks.d/demo.toml"), MARKER).unwrap();
    host.configure(config);
    Some(host)
}

fn fix(host: &Host) -> Run {
    host.sh("rm -f /mnt/marker");
    host.fix("demo.make", "demo", &[])
}

/// `ENTRIES:HASH[:SIGNATURE]` of a report.
fn mark(host: &Host) -> String {
    host.opsctl(&["diagnose", "demo", "--format", "json"]).report().journal.as_ref().unwrap().mark()
}

fn verify(host: &Host, more: &[&str]) -> Run {
    host.opsctl(&[&["audit", "verify"], more].concat())
}

/// Everything received in a directory, without the line breaks of mail encoding.
fn received(dir: &Path) -> String {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_file());
    files.map(|f| fs::read_to_string(f).unwrap().replace("=\r\n", "").replace("=\n", "")).collect()
}

#[test]
fn head_leaves_the_host_with_every_delivery() {
    let Some(host) = host("") else { return };
    let at = |name: &str| host.path(name).display().to_string();
    let always = "when = [\"always\"]\n";
    let hook = |port: u16, shape: &str| format!("[[delivery]]\nto = \"http://127.0.0.1:{port}/\"\nshape = \"{shape}\"\n{always}");
    let file = |name: &str, format: &str| format!("[[delivery]]\nto = \"file:{}\"\nformat = \"{format}\"\n{always}", at(name));
    let shapes = [(9001, "slack"), (9002, "discord"), (9003, "teams"), (9004, "mattermost"), (9005, "json")];
    let formats = ["table", "html", "json", "jsonl", "markdown", "junit", "tap", "nagios", "prometheus"];
    host.configure(&format!(
        "[report]\ntextfile = \"{}\"\n[[delivery]]\nto = \"smtp://127.0.0.1:2525\"\nmail = [\"ops@example.org\"]\nfrom = \"a@example.org\"\n{always}{}{}",
        at("opsctl.prom"),
        shapes.map(|(port, shape)| hook(port, shape)).concat(),
        formats.map(|format| file(&format!("report.{format}"), format)).concat(),
    ));
    fix(&host).exits(0);
    let mail = host.mailbox(2525);
    let hooks = shapes.map(|(port, shape)| (shape, host.hook(port)));
    let run = host.opsctl(&["report", "demo"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let head = mark(&host);
    assert!(head.starts_with("2:"), "{head}");
    let (_, hash) = head.split_once(':').unwrap();
    assert_eq!(received(&mail).matches(&head).count(), 2, "as text and as HTML: {}", received(&mail));
    for (shape, dir) in hooks {
        assert!(received(&dir).contains(hash), "{shape}: {}", received(&dir));
    }
    for format in formats {
        let text = fs::read_to_string(host.path(&format!("report.{format}"))).unwrap();
        assert!(text.contains(hash), "{format}: {text}");
    }
    let metrics = fs::read_to_string(host.path("opsctl.prom")).unwrap();
    assert!(metrics.contains("opsctl_journal_entries 2\n") && metrics.contains("opsctl_journal_intact 1\n"), "{metrics}");
    // a terminal shows the head only with -v
    assert!(!host.opsctl(&["diagnose", "demo"]).stdout.contains(hash));
    assert!(host.opsctl(&["diagnose", "demo", "-v"]).stdout.contains(&head));
    verify(&host, &["--head", &head]).exits(0);
}

#[test]
fn digest_contains_the_head() {
    let Some(host) = host(
        "[[delivery]]\nto = \"smtp://127.0.0.1:2525\"\nmail = [\"ops@example.org\"]\nfrom = \"a@example.org\"\nwhen = [\"week\"]\n",
    ) else {
        return;
    };
    fix(&host).exits(0);
    let mail = host.mailbox(2525);
    host.opsctl(&["report", "demo", "--digest", "week"]);
    assert!(received(&mail).contains(&mark(&host)), "{}", received(&mail));
}

#[test]
fn truncation_is_reported_once_and_found() {
    let Some(host) = host("") else { return };
    fix(&host).exits(0);
    let head = mark(&host);
    verify(&host, &[]).exits(0);
    assert_eq!(host.opsctl(&["report", "demo"]).stdout, "");
    let journal = host.path("state/journal.jsonl").display().to_string();
    host.sh(&format!("head -n 1 {journal} > /mnt/cut && cat /mnt/cut > {journal}"));
    let run = host.opsctl(&["report", "demo"]);
    assert!(run.stdout.contains("note: the journal of changes was tampered with"), "{}{}", run.stdout, run.stderr);
    assert_eq!(host.opsctl(&["report", "demo"]).stdout, "", "once");
    let run = host.opsctl(&["report", "demo", "--format", "prometheus"]);
    assert!(run.stdout.contains("opsctl_journal_intact 0\n"), "{}", run.stdout);
    verify(&host, &[]).exits(2);
    let run = verify(&host, &["--head", &head]);
    assert!(run.code == 2 && run.stdout.contains("the journal ends with entry 1: it was cut off"), "{}", run.stdout);
    // the next fix does not hide the truncation
    host.sh("rm -f /mnt/marker");
    host.fix("demo.make", "demo", &[]);
    verify(&host, &[]).exits(2);
    host.opsctl(&["audit", "accept", "the test cut it"]).exits(0);
    verify(&host, &[]).exits(0);
    assert!(host.opsctl(&["audit", "show"]).stdout.contains("journal accepted: the test cut it"));
}

#[test]
fn kill_between_journal_and_head_raises_no_alarm() {
    let Some(host) = host("") else { return };
    fix(&host).exits(0);
    host.sh("rm /mnt/marker");
    let mut command = host.opsctl_command(&[], &["fix", "demo.make", "demo", "--yes"]);
    let status = command.env("OPSCTL_FAILPOINT", "before-head").output().unwrap().status;
    assert!(status.signal() == Some(9) || status.code() == Some(137), "{status}");
    let first = verify(&host, &[]);
    first.exits(0);
    assert!(
        first.stdout.contains("1 entry after it chain on to it") && first.stdout.contains("it now has the new head"),
        "{}",
        first.stdout
    );
    let second = verify(&host, &[]);
    second.exits(0);
    assert!(second.stdout.contains("head 3:") && second.stdout.contains(", as "), "{}", second.stdout);
}

/// Root's state directory, in a parent that every user can search.
const STATE: &str = "/mnt/state";

/// A host with a journal there.
fn with_reachable_state() -> Option<Host> {
    let host = host("")?;
    fix(&host).exits(0);
    host.sh(&format!("cp -a {} {STATE}", host.path("state").display()));
    Some(host)
}

fn root(host: &Host, args: &[&str]) -> Run {
    host.read(host.opsctl_command(&[], args).env("OPSCTL_STATE_DIR", STATE))
}

/// opsctl run by the unprivileged user.
fn user(host: &Host, state: &str, args: &[&str]) -> Run {
    host.read(host.opsctl_command(&USER, args).env("OPSCTL_STATE_DIR", state).env_remove("OPSCTL_CONFIG"))
}

#[test]
fn unprivileged_user_cannot_read_change_or_lock_the_journal() {
    let Some(host) = with_reachable_state() else { return };
    host.sh(&format!("{} sh -c '[ -d {STATE} ]'", USER.join(" ")));
    for attack in [
        "cat STATE/journal.jsonl",
        "echo '{}' >> STATE/journal.jsonl",
        ": > STATE/journal.jsonl",
        "rm STATE/journal.jsonl",
        "mv STATE STATE.old",
        "flock -n STATE/journal.jsonl true",
        "cat STATE/state.db",
        ": > STATE/state.db",
        "ln -s /dev/null STATE/state.db-wal",
        "ls STATE",
    ] {
        let script = attack.replace("STATE", STATE);
        let output = host.command(USER[0]).args(&USER[1..]).args(["sh", "-c", &script]).output().unwrap();
        assert!(!output.status.success(), "{attack}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let run = root(&host, &["audit", "verify"]);
    assert!(run.code == 0 && run.stdout.contains("2 entries, the chain is intact"), "{}", run.stdout);
}

#[test]
fn state_directory_writable_by_others_gets_no_entry() {
    let Some(host) = with_reachable_state() else { return };
    host.sh(&format!("chmod 777 {STATE}; rm /mnt/marker"));
    let run = root(&host, &["fix", "demo.make", "demo", "--yes"]);
    assert!(
        run.code != 0 && run.stdout.contains("others may write to it (mode 777); chmod 700 it"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    host.sh("[ ! -e /mnt/marker ]");
}

#[test]
fn state_directory_below_one_of_a_user_gets_no_entry() {
    let Some(host) = with_reachable_state() else { return };
    host.sh(&format!("rm /mnt/marker; mkdir /mnt/home; mv {STATE} /mnt/home/state; chown 65534 /mnt/home"));
    let below = |args: &[&str]| host.read(host.opsctl_command(&[], args).env("OPSCTL_STATE_DIR", "/mnt/home/state"));
    let run = below(&["fix", "demo.make", "demo", "--yes"]);
    assert!(run.code != 0 && run.stdout.contains("/mnt/home belongs to user nobody"), "{}", run.stdout);
    host.sh("[ ! -e /mnt/marker ]");
    host.sh("chown 0 /mnt/home");
    below(&["fix", "demo.make", "demo", "--yes"]).exits(0);
}

#[test]
fn audit_of_an_unprivileged_user_needs_root_for_the_journal_of_root() {
    let Some(host) = with_reachable_state() else { return };
    for words in [["audit", "show"], ["audit", "verify"]] {
        let run = user(&host, STATE, &words);
        assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{}", run.stderr);
        assert!(
            run.stderr.contains("this needs root, for example `sudo opsctl audit`: reading the journal /mnt/state/"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn audit_of_an_unprivileged_user_names_the_owner_of_the_journal() {
    let Some(host) = with_reachable_state() else { return };
    let run = user(&host, "/mnt/own", &["audit", "show"]);
    let expected = "no entry in /mnt/own/journal.jsonl, which does not exist\n\
                    this is the journal of user 65534, /mnt/own/journal.jsonl; changes by root are in root's journal \
                    (/var/lib/opsctl/journal.jsonl), which only root can read: `sudo opsctl audit`\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, expected, ""));
    let run = user(&host, "/mnt/own", &["audit", "show", "--format", "json"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "[]\n"));
    assert!(run.stderr.contains("which only root can read"), "{}", run.stderr);
}

#[test]
fn key_in_a_directory_of_a_user_signs_nothing() {
    let Some(host) = host("[audit]\nsigning_key = \"/mnt/theirs/journal.key\"\n") else { return };
    host.sh("mkdir /mnt/theirs");
    host.opsctl(&["audit", "key", "/mnt/theirs/journal.key"]).exits(0);
    host.sh("chown 65534 /mnt/theirs");
    // the user could replace the key by any other file of root
    host.sh(&format!("{} mv /mnt/theirs/journal.key /mnt/theirs/old", USER.join(" ")));
    let run = fix(&host);
    assert_eq!(run.code, 12, "{}{}", run.stdout, run.stderr);
    host.sh("mv /mnt/theirs/old /mnt/theirs/journal.key");
    let run = fix(&host);
    assert!(
        run.code == 12 && run.stdout.contains("the directory /mnt/theirs belongs to user 65534, not to root"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("nothing is done that cannot be journalled"), "{}", run.stdout);
    host.sh("[ ! -e /mnt/marker ]");
}

#[test]
fn signed_journal_is_verified_by_its_public_key() {
    let Some(host) = host("[audit]\nsigning_key = \"/mnt/keys/journal.key\"\n") else { return };
    host.sh("mkdir -m 700 /mnt/keys");
    host.opsctl(&["audit", "key", "/mnt/keys/journal.key"]).exits(0);
    fix(&host).exits(0);
    let run = verify(&host, &[]);
    assert!(run.code == 0 && run.stdout.contains("signatures: 2 entries verified\n"), "{}", run.stdout);
    // on another host: a copy of the journal, a head from a report, and the public key
    let head = mark(&host);
    let copy = host.path("copy").display().to_string();
    host.sh(&format!("cp {} {copy}; cp /mnt/keys/journal.key.pub /mnt/public", host.path("state/journal.jsonl").display()));
    let elsewhere = ["--file", &copy, "--key", "/mnt/public", "--head", &head];
    let run = verify(&host, &elsewhere);
    assert!(run.code == 0 && run.stdout.contains("the head given is signed with a key of this journal\n"), "{}", run.stdout);
    let forged = head.replacen("2:", "1:", 1);
    let run = verify(&host, &["--file", &copy, "--key", "/mnt/public", "--head", &forged]);
    assert!(run.code == 2 && run.stdout.contains("it may be forged"), "{}", run.stdout);
    // an entry appended without the key
    host.configure("");
    fix(&host).exits(0);
    let run = verify(&host, &["--key", "/mnt/public"]);
    assert!(run.code == 2 && run.stdout.contains("line 3: not signed, although an entry before it is"), "{}", run.stdout);
}

#[test]
fn clock_jump_between_plan_and_apply_keeps_fix_and_journal_intact() {
    let Some(host) = Host::with_servers(&["redis-server"]) else { return };
    host.redis_with_disk();
    let clock = host.path("clock");
    for (failpoint, jump) in
        [("before-recheck", "+1d"), ("before-recheck", "-1d"), ("after-confirm", "-1d"), ("after-intent", "-1d")]
    {
        host.fail_to_save();
        std::fs::write(&clock, "+0").unwrap();
        let jumps = || std::fs::write(&clock, jump).unwrap();
        let run = host.fix_paused_in(&faked(&host, &clock), failpoint, &["redis.bgsave", "127.0.0.1:6379"], jumps);
        assert_eq!(run.code, 0, "{failpoint}, {jump}: {}{}", run.stdout, run.stderr);
        assert_eq!(host.persistence("rdb_last_bgsave_status"), "ok", "{failpoint}, {jump}");
        host.opsctl(&["audit", "verify"]).exits(0);
        host.run_runbooks(&["redis"]).must_not(&["redis.persistence"]);
    }
    // yesterday, today, tomorrow: the clock did jump
    let journal = host.opsctl(&["audit", "show"]).stdout.clone();
    let days: BTreeSet<&str> = journal.lines().filter_map(|l| l.split_whitespace().nth(1)?.get(..10)).collect();
    assert!(days.len() >= 3, "{journal}");
}
