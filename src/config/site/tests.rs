#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

use super::*;

/// A valid file with the given keys in its check.
fn with(check: &str) -> String {
    format!(
        "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n\n[[check]]\nname = \"health\"\ntitle = \"the backend answers\"\n{check}\n"
    )
}

/// The result of loading these files.
fn result(files: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    match load(dir.path(), &KnownNames::registry()) {
        Ok(site) => format!("ok: {}", site.iter().map(|own| own.id).collect::<Vec<_>>().join(" ")),
        Err(e) => e.to_string().replace(&format!("{}/", dir.path().display()), ""),
    }
}

const VALID: &str = "http = { url = \"http://127.0.0.1:1/\" }";

#[test]
fn every_error_has_its_position() {
    let fix =
        |rest: &str| with(&format!("{VALID}\n[check.fix]\nname = \"restart\"\ntitle = \"restart it\"\nrisk = \"R2\"\n{rest}"));
    let mistakes: Vec<String> = vec![
        "[runbok]\nname = \"shop\"\n".to_owned(),
        with("htpp = { url = \"http://127.0.0.1/\" }"),
        with("http = { url = \"http://127.0.0.1/\", stauts = [200] }"),
        with("http = { status = [200] }"),
        with("http = { url = \"127.0.0.1\" }"),
        with("http = { url = \"http://127.0.0.1/\", status = [99] }"),
        with("http = { url = \"ftp://127.0.0.1/\" }"),
        with("http = { url = \"http://127.0.0.1/\", header = { Authorization = \"Bearer abc\" } }"),
        with("http = { url = \"http://127.0.0.1/\", header = { X = \"${A\" } }"),
        with("http = { url = \"http://127.0.0.1/\", bearer_file = \"token\" }"),
        with("http = { url = \"http://127.0.0.1/\", json = { status = \"ok\" } }"),
        with(&format!("{VALID}\ntcp = {{ address = \"127.0.0.1:1\" }}")),
        with(""),
        with("tcp = { address = \"127.0.0.1\" }"),
        with("tls = { address = \"a:443\", starttls = \"imap\" }"),
        with("sql = { query = \"DELETE FROM public.orders\", equals = \"1\" }"),
        with("sql = { query = \"SELECT 1; DROP TABLE x\", equals = \"1\" }"),
        with("sql = { query = \"SELECT 1\" }"),
        with("redis = { command = [\"FLUSHALL\"], equals = \"OK\" }"),
        with("redis = { command = [\"LEN\", \"celery\"] }\ncrit_above = 10"),
        with("redis = { command = [\"INFO\"] }\ncrit_above = 10"),
        with("redis = { command = [] }\ncrit_above = 10"),
        with("metric = { query = \"up\" }"),
        with("command = { argv = [\"check.sh -x\"] }"),
        with("command = { argv = [\"./check.sh\"] }"),
        with("command = { argv = [\"/bin/check\", \"--password=hunter2\"] }"),
        with("command = { argv = [\"/bin/check\", \"-H\", \"redis://:hunter2@h\"] }"),
        with("command = { argv = [\"/bin/check\"], exit = \"icinga\" }"),
        with("file = { path = \"backup.gz\" }"),
        with("file = { path = \"/backup.gz\", max_age = \"soon\" }"),
        with("file = { path = \"/backup.gz\" }\ncrit_above = 3"),
        with("log = { pattern = \"ERROR\" }"),
        with("log = { container = \"web\", pattern = \"(ERROR\" }"),
        with(&format!("{VALID}\nseverity = \"critical\"")),
        with(&format!("{VALID}\ntimeout = \"5min\"")),
        with(&format!("{VALID}\nwarn_above = 3\ncrit_above = 2")),
        with(&format!("{VALID}\nwarn_above = \"3\"")),
        with(&format!("{VALID}\nunit = \"byte\"")),
        with(&format!("{VALID}\nexplained_by = [\"postgres.upp shared_postgres\"]")),
        with(&format!("{VALID}\nexplained_by = [\"postgres.up\"]")),
        with(&format!("{VALID}\nexplained_by = [\"shop.health\"]")),
        fix("argv = [\"make\", \"restart\"]\nrisc = \"R1\""),
        fix("argv = []"),
        fix("argv = [\"make\"]\ncwd = \"repo\""),
        with(&format!("{VALID}\n[check.fix]\nname = \"restart\"\ntitle = \"x\"\nargv = [\"make\"]\nrisk = \"R4\"")),
        with(&format!("{VALID}\n[[check]]\nname = \"health\"\ntitle = \"again\"\n{VALID}")),
        with(VALID).replace("name = \"shop\"", "name = \"disk\""),
        with(VALID).replace("name = \"shop\"", "name = \"My Shop\""),
        "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n".to_owned(),
        "[runbook]\nname = \"shop\"\n".to_owned(),
    ];
    let errors: Vec<String> = mistakes.iter().map(|text| result(&[("shop.toml", text)])).collect();
    assert!(errors.iter().all(|t| t.starts_with("shop.toml:")), "{errors:#?}");
    insta::assert_snapshot!(errors.join("\n\n"));
}

#[test]
fn all_files_are_reported_and_other_files_are_ignored() {
    let right = with(VALID);
    assert_eq!(result(&[]), "ok: ");
    assert_eq!(load(Path::new("/nonexistent/runbooks.d"), &KnownNames::default()).unwrap(), Site::new());
    let other = right.replace("\"shop\"", "\"api\"");
    let files = [("20-shop.toml", right.as_str()), ("10-api.toml", &other), (".hidden.toml", "x"), ("README.md", "x")];
    assert_eq!(result(&files), "ok: api shop");
    let errors = result(&[("a.toml", &right), ("b.toml", &right), ("c.toml", "x"), ("d.toml", &with("htp = 1"))]);
    let lines: Vec<&str> = errors.lines().filter(|l| l.contains(".toml:")).collect();
    assert_eq!(lines.len(), 3, "{errors}");
    assert!(errors.contains("b.toml:2:8: `name` in [runbook]: another file has a runbook called `shop`"), "{errors}");
}

#[test]
fn cycles_are_rejected_also_across_files() {
    let check = |runbook: &str, cause: &str| {
        with(&format!("{VALID}\nexplained_by = [\"{cause}\"]")).replace("\"shop\"", &format!("\"{runbook}\""))
    };
    let (a, b) = (check("a", "b.health"), check("b", "c.health"));
    assert_eq!(result(&[("a.toml", &a), ("b.toml", &b), ("c.toml", &check("c", "redis.up cache"))]), "ok: a b c");
    let errors = result(&[("a.toml", &a), ("b.toml", &b), ("c.toml", &check("c", "a.health"))]);
    assert_eq!(errors.matches("would cause itself").count(), 3, "{errors}");
}

#[test]
fn runbooks_of_another_user_are_rejected_for_root() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let errors = || load(dir.path(), &KnownNames::registry()).map_or_else(|e| e.to_string(), |_| "ok".to_owned());
    // also one without a program: it names files to read and addresses to send them to
    for text in [with("command = { argv = [\"true\"] }"), with(VALID)] {
        std::fs::write(&file, text).unwrap();
        mode(&file, 0o644);
        assert_eq!(errors(), "ok");
        mode(&file, 0o664);
        assert!(errors().contains("shop.toml can be written by others (mode 664): chown root and chmod go-w"), "{}", errors());
        mode(&file, 0o644);
        for wide in [0o777, 0o1777] {
            mode(dir.path(), wide);
            assert!(errors().contains(&format!("can be written by others (mode {wide:o})")), "{}", errors());
        }
        mode(dir.path(), 0o755);
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
        assert!(errors().contains("belongs to user 4242"), "{}", errors());
        assert_eq!(files(std::slice::from_ref(&file), &KnownNames::registry()).map_or(0, |s| s.len()), 1, "it can be validated");
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
}

#[test]
fn file_becomes_a_runbook_with_documentation() {
    let dir = tempfile::tempdir().unwrap();
    let text = with(
        "http = { url = \"http://127.0.0.1:8000/health/?token=canary\", contains = \"ok\", lacks = [\"not found\"] }\nwarn_above = 1\nalerts = [\"ShopDown\"]\n\
         explained_by = [\"postgres.up db\", \"memory.pressure\"]\n[check.fix]\nname = \"restart\"\ntitle = \"restart it\"\nrisk = \"R2\"\n\
         argv = [\"make\", \"restart\", \"WHAT=all of it\"]\ncwd = \"/opt/shop\"\n[[check]]\nname = \"queue\"\ntitle = \"the queue is short\"\n\
         redis = { server = \"cache\", command = [\"llen\", \"celery\"] }\ncrit_above = 1000\nexplained_by = [\"shop.health\"]",
    );
    std::fs::write(dir.path().join("shop.toml"), text).unwrap();
    let own = load(dir.path(), &KnownNames::registry()).unwrap().remove(0);
    assert_eq!(own.checks[0].causes, [("postgres.up".into(), "db".into()), ("memory.pressure".into(), "host".into())]);
    assert_eq!(own.checks[1].causes, [("shop.health".into(), "shop".into())]);
    assert!(matches!(&own.checks[1].probe, SiteProbe::Redis { command, .. } if *command == ["LLEN", "celery"]));
    let doc = crate::catalog::Documentation::parse(own.doc);
    assert_eq!((doc.problems(), doc.alerts()), (vec![], vec!["ShopDown"]));
    assert!(!own.doc.contains("canary"), "{}", own.doc);
    insta::assert_snapshot!(own.doc.replace(&dir.path().display().to_string(), "DIR"));
    let known = KnownNames::registry().with(&[own]);
    assert!(known.codes.contains(&"shop.health".to_owned()) && known.fixes.contains(&"shop.restart".to_owned()));
}

#[test]
fn schema_matches_the_files() {
    let schema = crate::config::runbook_schema();
    let keys = |pointer: &str| schema.pointer(pointer).and_then(|p| p.as_object()).map(serde_json::Map::len);
    assert_eq!((keys("/properties"), keys("/$defs/Runbook/properties")), (Some(2), Some(5)));
    let text = schema.to_string();
    assert!(text.contains("A statement that is true if the check passes") && text.contains("\"additionalProperties\":false"));
}
