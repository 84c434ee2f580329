//! Promise 8: root reads configuration, and runs programs of site checks and fixes, only from files that no other user can change.

use std::time::{Duration, Instant};

use crate::lab::{Host, Run};

use super::user::{HOME, UID, as_user, host, opsctl_in, output_of, write, write_as_user};

/// A configuration with a visible effect: a run writes a file as root.
const EVIL: &str = "[report]\ntextfile = \"/srv/evil.prom\"\n";

/// A runbook with one command check.
fn command_runbook(argv: &str, more: &str) -> String {
    format!(
        "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"health\"\ntitle = \"The shop is healthy\"\n\
         command = {{ argv = {argv}{more} }}\n"
    )
}

/// A program that records its uid.
const PROGRAM: &str = "#!/bin/sh\nid -u >> /mnt/ran.$(id -u)\n";

/// Records of the executions of [`PROGRAM`].
fn executions(host: &Host) -> String {
    host.sh("ls /mnt | grep '^ran' || true")
}

#[track_caller]
fn assert_used(host: &Host, run: &Run) {
    assert!(host.sh("ls /srv").contains("evil.prom"), "the configuration was not used: {}", output_of(run));
    host.sh("rm /srv/evil.prom");
}

#[track_caller]
fn assert_refused(host: &Host, run: &Run, words: &str) {
    assert!(run.code == 78 && run.stderr.contains(words), "{words}: {}", output_of(run));
    let has_hint = ["chown root and chmod go-w", "to a directory owned by root", "in a directory owned by root"]
        .iter()
        .any(|m| run.stderr.contains(m));
    assert!(has_hint && run.stderr.matches("is not used").count() == 1, "{}", output_of(run));
    assert!(!host.sh("ls /srv").contains("evil.prom"), "{}", output_of(run));
}

#[test]
fn configuration_of_another_user_is_refused() {
    let Some(host) = host() else { return };
    write_as_user(&host, &format!("{HOME}/config.toml"), "644", EVIL);
    write(&host, "/srv/etc/config.toml", "644", EVIL);
    let user_config = format!("{HOME}/config.toml");
    assert_refused(
        &host,
        &host.opsctl(&["report", "disk.space", "--config", &user_config]),
        "/home/mallory belongs to user 4711 (mode 755)",
    );
    assert_refused(
        &host,
        &opsctl_in(&host, &[("OPSCTL_CONFIG", &user_config)], &["report", "disk.space"]),
        "/home/mallory belongs to user 4711",
    );
    assert_used(&host, &host.opsctl(&["report", "disk.space", "--config", "/srv/etc/config.toml"]));
    assert_used(&host, &opsctl_in(&host, &[("OPSCTL_CONFIG", "/srv/etc/config.toml")], &["report", "disk.space"]));
    // every command reads it
    for args in [&["diagnose"][..], &["list"], &["fix"], &["config", "show"], &["record", "/srv/r.json"], &["audit", "show"]] {
        let run = opsctl_in(&host, &[("OPSCTL_CONFIG", &user_config)], args);
        assert_eq!(run.code, 78, "{args:?}: {}", output_of(&run));
    }
}

#[test]
fn configuration_that_others_can_replace_is_refused() {
    let Some(host) = host() else { return };
    let config = "/srv/a/etc/config.toml";
    write(&host, config, "644", EVIL);
    let report = || host.opsctl(&["report", "disk.space", "--config", config]);
    for (weaken, words) in [
        (format!("chgrp {UID} /srv/a; chmod 775 /srv/a"), "/srv/a can be written by others (mode 775)"),
        ("chmod 757 /srv/a/etc".to_owned(), "/srv/a/etc can be written by others (mode 757)"),
        ("chmod 1777 /srv/a/etc".to_owned(), "/srv/a/etc can be written by others (mode 1777)"),
        (format!("chown {UID} /srv/a"), "/srv/a belongs to user 4711"),
        (format!("chown {UID} {config}"), "config.toml belongs to user 4711 (mode 644)"),
        (format!("chmod 666 {config}"), "config.toml can be written by others (mode 666)"),
    ] {
        host.sh(&weaken);
        assert_refused(&host, &report(), words);
        host.sh(&format!("chown -R root:root /srv/a; chmod 755 /srv/a /srv/a/etc; chmod 644 {config}"));
    }
    assert_used(&host, &report());
}

#[test]
fn link_to_configuration_of_another_user_is_refused() {
    let Some(host) = host() else { return };
    write_as_user(&host, &format!("{HOME}/config.toml"), "644", EVIL);
    write(&host, "/srv/etc/config.toml", "644", EVIL);
    host.sh(&format!(
        "ln -s {HOME}/config.toml /srv/etc/bad.toml; ln -s config.toml /srv/etc/good.toml; ln -s /srv/etc {HOME}/etc"
    ));
    as_user(&host, "ln -s /srv/etc/config.toml /mnt/config.toml; ln -s /srv/etc /mnt/etc");
    let report = |file: &str| host.opsctl(&["report", "disk.space", "--config", file]);
    assert_refused(&host, &report("/srv/etc/bad.toml"), "belongs to user 4711");
    assert_refused(&host, &report(&format!("{HOME}/etc/config.toml")), "belongs to user 4711");
    assert_refused(&host, &report("/mnt/config.toml"), "is a symbolic link of user 4711");
    assert_refused(&host, &report("/mnt/etc/config.toml"), "is a symbolic link of user 4711");
    assert_used(&host, &report("/srv/etc/good.toml"));
}

#[test]
fn home_kept_by_sudo_configures_nothing() {
    let Some(host) = host() else { return };
    write_as_user(&host, &format!("{HOME}/.config/opsctl/config.toml"), "644", EVIL);
    host.sh(&format!("chown -R {UID}:{UID} {HOME}"));
    for environment in [[("HOME", HOME), ("X", "")], [("XDG_CONFIG_HOME", "/home/mallory/.config"), ("HOME", "/root")]] {
        let run = opsctl_in(&host, &environment, &["report", "disk.space", "--always"]);
        assert!(!host.sh("ls /srv").contains("evil.prom"), "{}", output_of(&run));
        assert!(
            run.stdout.contains("/home/mallory/.config/opsctl/config.toml is not used: /home/mallory belongs to user 4711"),
            "{}",
            output_of(&run)
        );
    }
    // a missing file causes no note
    let run = opsctl_in(&host, &[("HOME", "/home/mallory/none")], &["report", "disk.space", "--always"]);
    assert!(!run.stdout.contains("is not used"), "{}", output_of(&run));
    // a home directory owned by root
    write(&host, "/srv/root/.config/opsctl/config.toml", "600", EVIL);
    assert_used(&host, &opsctl_in(&host, &[("HOME", "/srv/root")], &["report", "disk.space"]));
}

#[test]
fn fifo_as_configuration_does_not_hold_the_run() {
    let Some(host) = host() else { return };
    host.sh("mkdir /srv/etc; mkfifo /srv/etc/config.toml");
    as_user(&host, &format!("mkfifo {HOME}/config.toml"));
    let began = Instant::now();
    for (args, words) in [
        (["diagnose", "--config", "/srv/etc/config.toml"], "not a regular file"),
        (["diagnose", "--config", "/home/mallory/config.toml"], "belongs to user 4711"),
        (["config", "check", "/home/mallory/config.toml"], "not a regular file"),
    ] {
        let run = host.opsctl(&args);
        assert!(run.code == 78 && run.stderr.contains(words), "{args:?}: {}", output_of(&run));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn runbooks_of_another_user_are_refused() {
    let Some(host) = host() else { return };
    write(&host, "/srv/etc/config.toml", "644", "");
    write(&host, "/srv/etc/runbooks.d/shop.toml", "644", &command_runbook("[\"true\"]", ""));
    let diagnose = || host.opsctl(&["shop", "--config", "/srv/etc/config.toml"]);
    diagnose().exits(0);
    for (weaken, words) in [
        (format!("chown {UID} /srv/etc/runbooks.d"), "/srv/etc/runbooks.d belongs to user 4711"),
        ("chmod 775 /srv/etc/runbooks.d".to_owned(), "/srv/etc/runbooks.d can be written by others (mode 775)"),
        ("chmod 1777 /srv/etc/runbooks.d".to_owned(), "/srv/etc/runbooks.d can be written by others (mode 1777)"),
        (format!("chown {UID} /srv/etc/runbooks.d/shop.toml"), "shop.toml belongs to user 4711"),
        (
            format!("mv /srv/etc/runbooks.d {HOME}/; ln -s {HOME}/runbooks.d /srv/etc/runbooks.d"),
            "/home/mallory belongs to user 4711",
        ),
    ] {
        host.sh(&weaken);
        assert_refused(&host, &diagnose(), words);
        host.sh(&format!(
            "[ ! -L /srv/etc/runbooks.d ] || {{ rm /srv/etc/runbooks.d; mv {HOME}/runbooks.d /srv/etc/; }}
            chown -R root:root /srv/etc; chmod 755 /srv/etc/runbooks.d; chmod 644 /srv/etc/runbooks.d/*"
        ));
        diagnose().exits(0);
    }
}

/// Runs the check of a runbook with additional environment variables of root.
#[track_caller]
fn check(host: &Host, runbook: &str, environment: &[(&str, &str)]) -> (String, String) {
    write(host, "/srv/etc/config.toml", "644", "");
    write(host, "/srv/etc/runbooks.d/shop.toml", "644", runbook);
    let environment = [environment, &[("OPSCTL_CONFIG", "/srv/etc/config.toml")]].concat();
    let run = opsctl_in(host, &environment, &["shop", "--format", "json"]);
    let row = run.check("shop.health", "service:shop");
    (row.verdict.clone(), format!("{} {}", row.reason.clone().unwrap_or_default(), run.stdout))
}

#[test]
fn program_of_another_user_is_not_run_by_a_check() {
    let Some(host) = host() else { return };
    write_as_user(&host, &format!("{HOME}/x.sh"), "755", PROGRAM);
    write_as_user(&host, &format!("{HOME}/x.txt"), "644", PROGRAM);
    write(&host, "/opt/x.sh", "755", PROGRAM);
    host.sh(&format!(
        "ln -s {HOME}/x.sh /opt/link.sh; ln -s x.sh /opt/good.sh
        mkdir /opt/shared; cp /opt/x.sh /opt/shared/; chgrp {UID} /opt/shared; chmod 775 /opt/shared
        printf '#!{HOME}/x.sh\\n' > /opt/interpreted; printf '#!/usr/bin/env {HOME}/x.sh\\n' > /opt/by-env; chmod 755 /opt/interpreted /opt/by-env
        cp /opt/x.sh /mnt/x.sh; mkdir -p {HOME}/dir; chown {UID} {HOME}/dir"
    ));
    for argv in [
        r#"["/home/mallory/x.sh"]"#,
        r#"["/opt/link.sh"]"#,
        r#"["/opt/shared/x.sh"]"#,
        r#"["/mnt/x.sh"]"#,
        r#"["/opt/interpreted"]"#,
        r#"["/opt/by-env"]"#,
        r#"["sh", "/home/mallory/x.sh"]"#,
        r#"["sh", "-e", "/opt/link.sh"]"#,
        r#"["sh", "-c", "/home/mallory/x.sh"]"#,
        r#"["sh", "-c", ". /home/mallory/x.sh"]"#,
        r#"["env", "PATH=/home/mallory", "x.sh"]"#,
        r#"["timeout", "5", "sh", "/home/mallory/x.sh"]"#,
        r#"["find", "/etc/hostname", "-exec", "/home/mallory/x.sh", ";"]"#,
    ] {
        let (verdict, text) = check(&host, &command_runbook(argv, ""), &[]);
        assert_eq!(verdict, "unknown", "{argv}: {text}");
        let refused = text.contains("belongs to user 4711") || text.contains("can be written by others");
        assert!(refused && text.contains("to a directory owned by root"), "{argv}: {text}");
        assert_eq!(executions(&host), "", "{argv}");
    }
    let (verdict, text) = check(&host, &command_runbook(r#"["true"]"#, ", cwd = \"/home/mallory/dir\""), &[]);
    assert!(verdict == "unknown" && text.contains("belongs to user 4711"), "{text}");
    for argv in [
        r#"["/opt/x.sh"]"#,
        r#"["/opt/good.sh"]"#,
        r#"["sh", "/opt/x.sh", "/home/mallory/x.txt"]"#,
        r#"["timeout", "5", "/opt/x.sh"]"#,
    ] {
        let (verdict, text) = check(&host, &command_runbook(argv, ", cwd = \"/opt\""), &[]);
        assert_eq!(verdict, "ok", "{argv}: {text}");
        host.sh("rm /mnt/ran.0");
    }
    // a file of another user may be an operand
    let (verdict, text) = check(&host, &command_runbook(r#"["test", "-x", "/home/mallory/x.sh"]"#, ""), &[]);
    assert_eq!(verdict, "ok", "{text}");
}

#[test]
fn program_of_another_user_is_not_run_by_a_fix() {
    let Some(host) = host() else { return };
    let fix = |argv: &str, cwd: &str| {
        format!(
            "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"health\"\ntitle = \"The maintenance is over\"\n\
             file = {{ path = \"/srv/maintenance\", exists = false }}\n[check.fix]\nname = \"open\"\ntitle = \"end it\"\nargv = {argv}\n\
             {cwd}risk = \"R1\"\n"
        )
    };
    let program = "#!/bin/sh\nid -u > /mnt/ran.$(id -u); rm -f /srv/maintenance\n";
    write_as_user(&host, &format!("{HOME}/x.sh"), "755", program);
    write_as_user(&host, &format!("{HOME}/repo/Makefile"), "644", "restart:\n\trm -f /srv/maintenance\n");
    write(&host, "/opt/x.sh", "755", program);
    write(&host, "/opt/repo/Makefile", "644", "restart:\n\trm -f /srv/maintenance\n");
    let apply = |argv: &str, cwd: &str| {
        host.sh("touch /srv/maintenance");
        write(&host, "/srv/etc/config.toml", "644", "[policy]\nmax_fixes_per_hour = 100\n");
        write(&host, "/srv/etc/runbooks.d/shop.toml", "644", &fix(argv, cwd));
        opsctl_in(&host, &[("OPSCTL_CONFIG", "/srv/etc/config.toml")], &["fix", "shop.open", "shop", "--yes"])
    };
    let mut attacks = vec![
        (r#"["/home/mallory/x.sh"]"#, ""),
        (r#"["sh", "/home/mallory/x.sh"]"#, ""),
        (r#"["true"]"#, "cwd = \"/home/mallory\"\n"),
    ];
    let mut harmless = vec![(r#"["/opt/x.sh"]"#, ""), (r#"["sh", "-e", "/opt/x.sh"]"#, "")];
    if which::which("make").is_ok() {
        attacks.extend([
            (r#"["make", "restart"]"#, "cwd = \"/home/mallory/repo\"\n"),
            (r#"["make", "-C", "/home/mallory/repo", "restart"]"#, ""),
        ]);
        harmless.extend([(r#"["make", "restart"]"#, "cwd = \"/opt/repo\"\n"), (r#"["make", "-C", "/opt/repo", "restart"]"#, "")]);
    }
    for (argv, cwd) in attacks {
        let run = apply(argv, cwd);
        assert!(
            matches!(run.code, 12 | 15) && output_of(&run).contains("belongs to user 4711"),
            "{argv} {cwd}: {}",
            output_of(&run)
        );
        assert_eq!((executions(&host).as_str(), host.sh("ls /srv/maintenance").as_str()), ("", "/srv/maintenance"), "{argv}");
    }
    for (argv, cwd) in harmless {
        let run = apply(argv, cwd);
        assert_eq!(run.code, 0, "{argv} {cwd}: {}", output_of(&run));
    }
}

#[test]
fn home_kept_by_sudo_is_not_passed_to_a_program() {
    let Some(host) = host() else { return };
    write_as_user(&host, &format!("{HOME}/.profile"), "644", PROGRAM);
    let home = r#"["sh", "-lc", "echo $HOME $USER $LOGNAME"], contains = "/root root root""#;
    let (verdict, text) =
        check(&host, &command_runbook(home, ""), &[("HOME", HOME), ("USER", "mallory"), ("ENV", "/home/mallory/.profile")]);
    assert_eq!((verdict.as_str(), executions(&host).as_str()), ("ok", ""), "{text}");
}

#[test]
fn secret_file_of_another_user_is_not_sent() {
    let Some(host) = host() else { return };
    host.sh("mkdir -m 700 /srv/secret; echo canary-of-root > /srv/secret/file; chmod 600 /srv/secret/file");
    as_user(&host, &format!("ln -s /srv/secret/file {HOME}/token"));
    let http = |file: &str| {
        format!(
            "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"health\"\ntitle = \"The shop responds\"\n\
             http = {{ url = \"http://127.0.0.1:9005/\", bearer_file = \"{file}\" }}\n"
        )
    };
    let requests = host.hook(9005);
    let (verdict, text) = check(&host, &http("/home/mallory/token"), &[]);
    assert!(verdict == "unknown" && text.contains("/home/mallory belongs to user 4711"), "{text}");
    assert_eq!(std::fs::read_dir(&requests).map_or(0, Iterator::count), 0, "no request was made");
    let (verdict, text) = check(&host, &http("/srv/secret/file"), &[]);
    assert_ne!(verdict, "unknown", "{text}");
}

#[test]
fn state_directory_of_another_user_waives_and_sends_nothing() {
    let Some(host) = host() else { return };
    let waivers = r#"{"version":1,"waivers":[{"which":"*","window":{"once":{"from":"2020-01-01T00:00:00Z","until":"2099-01-01T00:00:00Z"}},"tag":"flaky","reason":"x","by":"root"}]}"#;
    // the file in its current format
    host.sh("mkdir -p /srv/lib; touch /srv/maintenance");
    let runbook = "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"health\"\ntitle = \"The maintenance is over\"\n\
        file = { path = \"/srv/maintenance\", exists = false }\n";
    write(&host, "/srv/etc/config.toml", "644", "");
    write(&host, "/srv/etc/runbooks.d/shop.toml", "644", runbook);
    let opsctl = |state: &str, args: &[&str]| {
        opsctl_in(&host, &[("OPSCTL_CONFIG", "/srv/etc/config.toml"), ("OPSCTL_STATE_DIR", state)], args)
    };
    opsctl("/srv/lib/state", &["waive", "shop.health", "--for", "1h", "--reason", "test"]).exits(0);
    assert!(host.sh("cat /srv/lib/state/waivers.json").contains("shop.health"), "{waivers}");
    opsctl("/srv/lib/state", &["shop"]).exits(0);
    // the same file in directories of another user
    host.sh(&format!("cp -r /srv/lib/state {HOME}/state; chown -R {UID} {HOME}/state; cp -r /srv/lib/state {HOME}/roots; ln -s {HOME}/roots /srv/lib/link"));
    for state in ["/home/mallory/state", "/home/mallory/roots", "/srv/lib/link"] {
        let run = opsctl(state, &["shop", "--format", "json"]);
        assert_eq!(run.code, 2, "{state}: {}", output_of(&run));
        assert!(run.report().notes.iter().any(|n| n.contains("belongs to user 4711")), "{state}: {:?}", run.report().notes);
        let run = opsctl(state, &["note", "deploy", "shop", "x"]);
        assert!(run.code != 0 && run.stderr.contains("belongs to user 4711"), "{state}: {}", output_of(&run));
    }
}

#[test]
fn owner_reported_by_a_fuse_mount_is_not_trusted() {
    let Some(host) = host() else { return };
    if !std::path::Path::new("/dev/fuse").exists() || which::which("python3").is_err() {
        return;
    }
    host.sh(&format!(
        "cp {} /srv/claims.py; mkdir {HOME}/m /srv/mounted; chown {UID} {HOME}/m",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/claims.py")
    ));
    for (mountpoint, user) in [("/home/mallory/m", UID), ("/srv/mounted", 0)] {
        host.spawn("python3", &["/srv/claims.py", mountpoint, &user.to_string(), EVIL]);
        crate::lab::eventually(30, "the filesystem is mounted", || {
            host.sh(&format!("cat {mountpoint}/config.toml || true")).contains("evil").then_some(())
        });
        // both report the same owner and mode
        assert_eq!(host.sh(&format!("stat -c '%a %u' {mountpoint}/config.toml {mountpoint}")), "644 0\n755 0");
    }
    // the home directory is owned by root, so only the mount is the reason
    host.sh(&format!("chown root:root {HOME}"));
    let run = host.opsctl(&["report", "disk.space", "--config", "/home/mallory/m/config.toml"]);
    assert_refused(&host, &run, "/home/mallory/m is in a FUSE filesystem that user 4711 mounted");
    assert_used(&host, &host.opsctl(&["report", "disk.space", "--config", "/srv/mounted/config.toml"]));
}

#[test]
fn unprivileged_user_uses_its_own_configuration_and_that_of_root() {
    let Some(host) = host() else { return };
    write_as_user(&host, &format!("{HOME}/config.toml"), "664", "[policy]\nmax_fixes_per_hour = 9\n");
    write(&host, "/srv/etc/config.toml", "644", "");
    host.sh(&format!("mkdir -m 777 /srv/foreign; cp /srv/etc/config.toml /srv/foreign/; chown 4712 /srv/foreign/config.toml; chown {UID} {HOME}"));
    let user = format!("--reuid={UID}");
    let show = |file: &str| {
        let mut command = host.opsctl_command(&["setpriv", &user, "--clear-groups"], &["config", "show", "--config", file]);
        host.read(command.env("OPSCTL_STATE_DIR", "/home/mallory/state"))
    };
    assert!(show("/home/mallory/config.toml").exits(0).stdout.contains("max_fixes_per_hour = 9"));
    show("/srv/etc/config.toml").exits(0);
    let run = show("/srv/foreign/config.toml");
    assert!(run.code == 78 && run.stderr.contains("belongs to user 4712"), "{}", output_of(&run));
}

#[test]
fn file_of_another_user_can_be_checked() {
    let Some(host) = host() else { return };
    // as in a deployment, before the file is installed
    write_as_user(&host, &format!("{HOME}/config.toml"), "644", "[policy]\nmax_fixes_per_hour = 9\n");
    let run = host.opsctl(&["config", "check", "/home/mallory/config.toml"]);
    assert!(run.code == 0 && run.stdout.contains("config.toml: ok"), "{}", output_of(&run));
    assert!(run.stderr.contains("would not be used: /home/mallory belongs to user 4711"), "{}", output_of(&run));
    write_as_user(&host, &format!("{HOME}/config.toml"), "644", "[polcy]\n");
    host.opsctl(&["config", "check", "/home/mallory/config.toml"]).exits(78);
}
