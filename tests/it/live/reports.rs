//! `opsctl report` and `opsctl waive`, with real receivers.

use std::path::Path;

use crate::lab::{Host, Rootfs, Run, TRUST, eventually, installed};

/// A host with a stopped container and a healthy one.
fn host() -> Option<Host> {
    let host = Host::start()?;
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("well", &["app:1", "fixture", "wait-term"]);
    Some(host)
}

const ONLY: &[&str] = &["report", "container"];

fn report(host: &Host, more: &[&str]) -> Run {
    host.opsctl(&[ONLY, more].concat())
}

/// A container that should run and has exited.
fn down(host: &Host, name: &str) {
    host.run(name, &["--restart", "on-failure:1", "app:1", "fixture", "say", "boom", "3"]);
    host.until(name, "{{.State.Status}} {{.RestartCount}}", "exited 1");
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "eml" || e == "json"))
        .collect();
    names.sort();
    names.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect()
}

#[test]
fn cron_mails_new_findings_once() {
    let Some(host) = host() else { return };
    let first = report(&host, &[]);
    assert_eq!((first.code, first.stdout.as_str()), (0, ""), "{}", first.stderr);
    assert!(report(&host, &["--always"]).stdout.contains("Nothing needs attention"));
    down(&host, "broken");
    let news = report(&host, &[]);
    assert_eq!(news.code, 2);
    assert!(news.stdout.contains("broken") && news.stdout.contains("[new]"), "{}", news.stdout);
    // the exit code still reports the finding, the text does not
    let again = report(&host, &[]);
    assert_eq!((again.code, again.stdout.as_str()), (2, ""));
    let still = report(&host, &["--always"]).stdout;
    assert!(still.contains("[still"), "{still}");
    host.docker(&["rm", "broken"]);
    let over = report(&host, &[]);
    assert!(over.code == 0 && over.stdout.contains("Recovered") && over.stdout.contains("broken"), "{}", over.stdout);
    assert_eq!(report(&host, &[]).stdout, "");
    // the digest still contains it
    let digest = report(&host, &["--digest", "day"]);
    assert!(digest.stdout.contains("broken"), "{}", digest.stdout);
    // a machine-readable format is always one document
    let json = report(&host, &["--format", "json"]);
    assert!(json.report().course.is_some());
}

#[test]
fn reports_to_unreachable_receivers_are_delivered_later() {
    let Some(host) = host() else { return };
    let metrics = host.path("opsctl.prom");
    host.configure(&format!(
        "[report]\nheartbeat = \"http://127.0.0.1:9003/beat\"\ntextfile = \"{}\"\n\
         [[delivery]]\nto = \"smtp://127.0.0.1:2525\"\nmail = [\"ops@example.org\"]\nfrom = \"opsctl@example.org\"\n\
         [[delivery]]\nto = \"http://127.0.0.1:9001/canary-secret\"\nshape = \"slack\"\n\
         [[delivery]]\nto = \"http://127.0.0.1:9002/\"\nshape = \"json\"\nowner = \"shop\"\n\
         [[delivery]]\nto = \"file:{}\"\nwhen = [\"always\"]\n\
         [[owner]]\nmatch = \"shop*\"\nowner = \"shop\"\n",
        metrics.display(),
        host.path("report.html").display(),
    ));
    down(&host, "broken");
    // unreachable receivers: logged, queued, and without effect on the run
    let run = report(&host, &[]);
    assert!(run.code == 2 && run.stdout.contains("[new]"), "{}", run.stdout);
    assert_eq!(run.stderr.matches("is queued for the next run").count(), 2, "{}", run.stderr);
    assert!(run.stderr.contains("the heartbeat of [report] failed") && !run.stderr.contains("canary"), "{}", run.stderr);
    let spool = host.sh(&format!("cat {}/spool/*", host.path("state").display()));
    assert!(!spool.contains("canary") && spool.contains("broken"), "{spool}");
    assert!(std::fs::read_to_string(&metrics).unwrap().contains("opsctl_finding{code=\"container.down\""));
    assert!(std::fs::read_to_string(host.path("report.html")).unwrap().contains("broken"));

    // reachable again: queued reports come first, once
    let (mail, chat, shop, beat) = (host.mailbox(2525), host.hook(9001), host.hook(9002), host.hook(9003));
    let run = report(&host, &[]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let mails = files(&mail);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("RCPT TO:<ops@example.org>") && mails[0].contains("Subject: [opsctl]"), "{}", mails[0]);
    assert!(mails[0].contains("multipart/alternative") && mails[0].contains("text/html"));
    assert!(files(&chat)[0].contains("new: crit container.down"), "{:?}", files(&chat));
    assert_eq!((files(&shop).len(), files(&beat).len()), (0, 1), "team shop got a report without a finding");
    assert!(std::fs::read_dir(host.path("state").join("spool")).unwrap().next().is_none());

    // a finding of team shop
    down(&host, "shop-web");
    report(&host, &[]);
    let delivered: serde_json::Value = serde_json::from_str(&files(&shop)[0]).unwrap();
    let open = delivered["findings"].as_array().unwrap().iter().filter(|f| f["severity"] != "info");
    assert_eq!(open.count(), 1, "{delivered}");
    assert_eq!(
        (delivered["findings"][0]["subject"]["name"].as_str(), delivered["verdict"].as_str()),
        (Some("shop-web"), Some("crit"))
    );
    assert_eq!(files(&mail).len(), 2);

    // a webhook that returns 404 is not retried
    std::fs::write(chat.join("status"), "404").unwrap();
    host.docker(&["rm", "shop-web"]);
    let run = report(&host, &[]);
    assert!(run.stderr.contains("rejected the report: status 404"), "{}", run.stderr);
    assert!(!run.stderr.contains("canary"));
}

#[test]
fn waived_finding_is_shown_and_does_not_count() {
    let Some(host) = host() else { return };
    down(&host, "broken");
    let waive = |args: &[&str]| host.opsctl(&[&["waive"], args].concat());
    assert_eq!(host.run_runbooks(&["container"]).code, 2);
    let run = waive(&["container.down@broken", "--for", "2h", "--reason", "new disk", "--tag", "maintenance"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = host.run_runbooks(&["container"]);
    let finding = run.finding("container.down container:broken");
    assert!(finding.waived.as_ref().is_some_and(|w| w.contains("maintenance until") && w.contains("new disk (root)")));
    assert_eq!(run.code, 0);
    // and no fix is applied
    let fix = host.fix("container.start", "broken", &[]);
    assert!(fix.code == 15 && fix.stdout.contains("waived"), "{} {}", fix.code, fix.stdout);
    assert_eq!(report(&host, &[]).stdout, "");
    assert!(waive(&[]).stdout.contains("container.down@broken  in force"));
    assert_eq!(waive(&["container.down@broken", "--remove"]).code, 0);
    assert_eq!(host.run_runbooks(&["container"]).code, 2);
    assert_eq!(waive(&["container.down@broken", "--remove"]).code, 64);

    // expired: the finding counts again, and the report states it
    assert_eq!(waive(&["container.*@broken", "--for", "1s", "--reason", "a moment"]).code, 0);
    let run = eventually(30, "the waiver is over", || {
        let run = host.run_runbooks(&["container"]);
        (run.code == 2).then_some(run)
    });
    run.mentions("container.down container:broken", &["expired", "a moment"]);
    assert!(
        run.report().notes.iter().any(|n| n.contains("container.*@broken") && n.contains("expired")),
        "{:?}",
        run.report().notes
    );

    // maintenance windows are in the configuration; this one is always open
    host.configure("[[waiver]]\nmatch = \"container.down\"\nreason = \"nightly\"\ntag = \"maintenance\"\nfrom = \"00:00\"\nuntil = \"23:59\"\n[[waiver]]\nmatch = \"container.down\"\nreason = \"nightly\"\nfrom = \"23:59\"\nuntil = \"00:00\"\n");
    assert_eq!(host.run_runbooks(&["container"]).code, 0);
    for (args, expected) in [
        (&["container.dwon", "--for", "1h", "--reason", "x"][..], "did you mean `container.down`"),
        (&["container.down", "--for", "soon", "--reason", "x"], "not a length of time"),
        (&["container.down", "--for", "1h"], "--reason"),
        (&["container.down", "--reason", "x"], "--for"),
    ] {
        let run = waive(args);
        assert!(run.code == 64 && run.stderr.contains(expected), "{args:?} {} {}", run.code, run.stderr);
    }
}

#[test]
fn webhook_over_tls_needs_a_valid_certificate() {
    if !installed(&["openssl"]) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.authority();
    host.certificate("hook", "localhost", "-1 day", "+30 days", "");
    let kept = host.hook_over_tls(9004, "hook");
    let to = "[[delivery]]\nto = \"https://localhost:9004/${CANARY}\"\nshape = \"json\"\nwhen = [\"always\"]\n";
    let report = || {
        let mut command = host.opsctl_command(&[], &["report", "disk.space"]);
        host.read(command.env("CANARY", "canary-of-the-address"))
    };
    host.configure(to);
    let run = report();
    assert!(
        run.stderr.contains("the webhook at localhost is unreachable") && run.stderr.contains("invalid peer certificate"),
        "{}",
        run.stderr
    );
    host.configure(&format!("{TRUST}{to}"));
    let run = report();
    // the queued report, and this one
    assert_eq!((run.stderr.as_str(), files(&kept).len()), ("", 2));
    assert!(!files(&kept).concat().contains("canary-of-the-address"));
}
