#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn known() -> KnownNames {
    KnownNames {
        fixes: ["disk.prune-dangling-images", "container.start"].map(str::to_owned).to_vec(),
        checks: ["disk", "disk.space", "healthcheck"].map(str::to_owned).to_vec(),
        codes: ["disk.space", "container.down"].map(str::to_owned).to_vec(),
        host_codes: Vec::new(),
    }
}

fn error(text: &str) -> String {
    read_text(Path::new("c.toml"), text.to_owned(), &known(), &[])
        .map_or_else(|e| e.to_string(), |l| panic!("accepted: {:?}", l.config))
}

fn config(text: &str) -> Config {
    read_text(Path::new("c.toml"), text.to_owned(), &known(), &[]).unwrap_or_else(|e| panic!("{e}")).config
}

#[test]
fn empty_file_is_the_default() {
    let loaded = Loaded::defaults();
    assert_eq!(loaded.config.file, None);
    assert_eq!(loaded.config.policy, Policy { allow: vec![], max_fixes_per_hour: 3, max_per_fix: 10, max_per_host: 20 });
    assert_eq!(loaded.config.deadline.as_secs(), 10);
}

#[test]
fn every_part_is_read() {
    let c = config(
        r#"
        [policy]
        allow = ["disk.prune-dangling-images"]
        max_fixes_per_hour = 1
        max_fixes_per_hour_per_fix = 2
        max_fixes_per_hour_per_host = 4
        [paths]
        state_dir = "/srv/opsctl"
        [engine]
        endpoint = "tcp://127.0.0.1:2375"
        [[owner]]
        match = "web*"
        owner = "team-x"
        [[owner]]
        match = "*"
        owner = "ops"
        [run]
        deadline = "1m 30s"
        skip = ["disk.space", "healthcheck"]
        [runbooks.disk]
        "#,
    );
    let allow = vec!["disk.prune-dangling-images".into()];
    assert_eq!(c.policy, Policy { allow, max_fixes_per_hour: 1, max_per_fix: 2, max_per_host: 4 });
    assert_eq!((c.owner_of("web-1"), c.owner_of("db")), (Some("team-x"), Some("ops")));
    assert_eq!((c.deadline.as_secs(), c.skip.len()), (90, 2));
    assert_eq!(c.state_dir.as_deref(), Some(Path::new("/srv/opsctl")));
    assert_eq!(c.endpoint.map(|e| e.to_string()).as_deref(), Some("tcp://127.0.0.1:2375"));
}

#[test]
fn all_unknown_keys_are_reported_with_position_and_nearest_name() {
    insta::assert_snapshot!(error("polcy = 1\n[policy]\nmax_fix_per_hour = 2\ndeadline = \"5s\"\n[[owner]]\nmach = \"x\"\n[runbooks.dsk]\n"), @r#"
    c.toml:1:1: unknown key `polcy`; did you mean `policy`?
      |
    1 | polcy = 1
      | ^^^^^
    c.toml:3:1: unknown key `max_fix_per_hour` in [policy]; did you mean `max_fixes_per_hour`?
      |
    3 | max_fix_per_hour = 2
      | ^^^^^^^^^^^^^^^^
    c.toml:4:1: unknown key `deadline` in [policy]; `deadline` belongs in [run]
      |
    4 | deadline = "5s"
      | ^^^^^^^^
    c.toml:6:1: unknown key `mach` in [owner]; did you mean `match`?
      |
    6 | mach = "x"
      | ^^^^
    c.toml:7:11: unknown runbook `dsk` in [runbooks]; did you mean `disk`?
      |
    7 | [runbooks.dsk]
      |           ^^^
    "#);
}

#[test]
fn table_without_keys_rejects_any_key() {
    // runbooks without settings: any key is an error
    let schema = serde_json::json!({"properties": {"x": {"type": "object", "additionalProperties": false}}});
    let keys = super::schema::Node::root(&schema).keys().unwrap();
    assert_eq!(keys[0].1.keys().map(|k| k.len()), Some(0));
}

#[test]
fn wrong_type_names_the_key() {
    insta::assert_snapshot!(error("[policy]\nmax_fixes_per_hour = \"many\"\n"), @r#"
    c.toml:2:22: `max_fixes_per_hour` in [policy]: string "many", expected a whole number that is not negative
      |
    2 | max_fixes_per_hour = "many"
      |                      ^^^^^^
    "#);
    insta::assert_snapshot!(error("[policy]\nmax_fixes_per_hour = -1\n"), @"
    c.toml:2:22: `max_fixes_per_hour` in [policy]: integer `-1`, expected a whole number that is not negative
      |
    2 | max_fixes_per_hour = -1
      |                      ^^
    ");
    insta::assert_snapshot!(error("policy = 3\n"), @"
    c.toml:1:10: `policy`: integer `3`, expected a table
      |
    1 | policy = 3
      |          ^
    ");
    insta::assert_snapshot!(error("[policy]\nallow = \"x\"\n"), @r#"
    c.toml:2:9: `allow` in [policy]: string "x", expected a list
      |
    2 | allow = "x"
      |         ^^^
    "#);
    insta::assert_snapshot!(error("[[owner]]\nmatch = \"x\"\n"), @r#"
    c.toml:1:1: `owner`: missing field `owner`
      |
    1 | [[owner]]
      | ^^^^^^^^^
    "#);
}

#[test]
fn toml_errors_are_reported_with_position() {
    insta::assert_snapshot!(error("[run]\nskip = []\nskip = [\"disk\"]\n"), @r#"
    c.toml:3:1: `skip` is set twice; first in line 2
      |
    3 | skip = ["disk"]
      | ^^^^
    "#);
    insta::assert_snapshot!(error("[run]\ndeadline = 10 s\n"), @"
    c.toml:2:12: string values must be quoted, expected literal string
      |
    2 | deadline = 10 s
      |            ^^^^
    ");
    insta::assert_snapshot!(error("[run\n"), @"
    c.toml:1:5: unclosed table, expected `]`
      |
    1 | [run
      |     ^
    ");
    insta::assert_snapshot!(error("a = \"x\ny\"\n").lines().next().unwrap(), @r#"c.toml:1:7: invalid basic string, expected `"`"#);
}

#[test]
fn all_invalid_values_are_reported_at_once() {
    insta::assert_snapshot!(error("[policy]\nallow = [\"disk.prune-dangling-image\", \"rm\"]\n[run]\ndeadline = \"soon\"\nskip = [\"dsk\"]\n[engine]\nendpoint = \"ftp://h\"\n[paths]\nstate_dir = \"here\"\n"), @r#"
    c.toml:2:10: `allow` in [policy]: no fix is called `disk.prune-dangling-image`; did you mean `disk.prune-dangling-images`?
      |
    2 | allow = ["disk.prune-dangling-image", "rm"]
      |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    c.toml:2:39: `allow` in [policy]: no fix is called `rm`; `opsctl list` shows all fixes
      |
    2 | allow = ["disk.prune-dangling-image", "rm"]
      |                                       ^^^^
    c.toml:4:12: `deadline` in [run]: `soon` is not a length of time such as `10s`, `500ms` or `1m 30s`
      |
    4 | deadline = "soon"
      |            ^^^^^^
    c.toml:5:9: `skip` in [run]: no runbook or check is called `dsk`; did you mean `disk`?
      |
    5 | skip = ["dsk"]
      |         ^^^^^
    c.toml:7:12: `endpoint` in [engine]: ftp:// is not a supported endpoint; use unix:///path, tcp://host:port, https://host:port or ssh://user@host
      |
    7 | endpoint = "ftp://h"
      |            ^^^^^^^^^
    c.toml:9:13: `state_dir` in [paths]: not an absolute path
      |
    9 | state_dir = "here"
      |             ^^^^^^
    "#);
    for bad in ["0s", "2h", "-1s", ""] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn named_file_must_exist_and_be_text() {
    let dir = tempfile::tempdir().unwrap();
    let environment = ConfigEnvironment { home: Some(dir.path().into()), ..Default::default() };
    let missing = dir.path().join("no.toml");
    assert!(matches!(load(Some(&missing), &environment, &known()), Err(ConfigError::Read { .. })));
    let by_variable = ConfigEnvironment { opsctl_config: Some(missing), ..environment.clone() };
    assert!(load(None, &by_variable, &known()).is_err());
    let binary = dir.path().join("b.toml");
    std::fs::write(&binary, b"a = 1\n\xff\xfe").unwrap();
    assert!(read(&binary, &known()).is_err_and(|e| e.to_string().contains("line 2 is not UTF-8")));
    std::fs::write(&binary, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(read(&binary, &known()).is_err_and(|e| e.to_string().contains("larger than")));
}

#[test]
fn personal_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let environment = ConfigEnvironment { home: Some(dir.path().into()), ..Default::default() };
    let path = environment.user_config().unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "[policy]\nmax_fixes_per_hour = 9\n").unwrap();
    let loaded = load(None, &environment, &known()).unwrap();
    // a system configuration on the test machine takes precedence
    if !Path::new(SYSTEM_CONFIG).exists() {
        assert_eq!((loaded.config.policy.max_fixes_per_hour, loaded.config.file), (9, Some(path)));
    }
}

#[test]
fn lengths_of_days_and_weeks_are_read() {
    use jiff::SignedDuration;
    assert_eq!(length("2h"), Ok(SignedDuration::from_hours(2)));
    assert_eq!(length("3d"), Ok(SignedDuration::from_hours(72)));
    assert_eq!(length("1w 2d"), Ok(SignedDuration::from_hours(9 * 24)));
    for wrong in ["", "2", "soon", "-2h", "0s", "2y", "400d"] {
        assert!(length(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn deliveries_alerts_and_waivers_are_validated() {
    let c = config(
        r#"
        [report]
        remind_after = "2d"
        [[delivery]]
        to = "smtp://mail.example.org"
        mail = ["ops@example.org"]
        [[delivery]]
        to = "https://hooks.slack.com/services/x"
        when = ["alert", "week"]
        [[delivery]]
        to = "file:/var/log/opsctl/report.html"
        [[alert]]
        name = "Shop*"
        runbooks = ["disk"]
        [[waiver]]
        match = "disk.*@/var"
        reason = "x"
        until = "2030-01-01T00:00:00Z"
        "#,
    );
    assert!(matches!(&c.deliveries[0].destination, Destination::Mail { port: 25, tls: false, .. }));
    assert!(matches!(&c.deliveries[1].destination, Destination::Webhook { shape: WebhookFormat::Slack, .. }));
    assert_eq!(c.deliveries[1].when, [Occasion::Alert, Occasion::Week]);
    assert!(matches!(&c.deliveries[2].destination, Destination::File { format: crate::output::Format::Html, .. }));
    assert!(c.alerts[0].is_for("ShopCheckoutSlow") && c.remind_after.as_hours() == 48 && c.waivers.len() == 1);
    for (text, expected) in [
        ("[[delivery]]\nto = \"mail.example.org\"", "not an address such as"),
        ("[[delivery]]\nto = \"smtp://mail.example.org\"", "has no recipients"),
        ("[[delivery]]\nto = \"smtp://a:b@mail.example.org\"\nmail = [\"a@b.org\"]", "password_file"),
        ("[[delivery]]\nto = \"smtp://mail.example.org\"\nmail = [\"nobody\"]", "not a mail address"),
        ("[[delivery]]\nto = \"https://example.org/hook\"", "set `shape`"),
        ("[[delivery]]\nto = \"https://example.org/hook\"\nshape = \"slak\"", "did you mean `slack`"),
        ("[[delivery]]\nto = \"file:report.txt\"", "not an absolute path"),
        ("[[delivery]]\nto = \"file:/x\"\nwhen = [\"chnage\"]", "did you mean `change`"),
        ("[[alert]]\nname = \"x\"\nrunbooks = [\"dsk\"]", "did you mean `disk`"),
        ("[[waiver]]\nmatch = \"disk.spce\"\nreason = \"x\"\nuntil = \"2030-01-01T00:00:00Z\"", "did you mean `disk.space`"),
        ("[[waiver]]\nmatch = \"*\"\nreason = \"x\"\nuntil = \"tomorrow\"", "neither a moment"),
        ("[listen]\naddress = \"here\"", "not an address such as"),
        ("[report]\nheartbeat = \"hc.example.org\"", "not an address such as"),
        ("[report]\ntextfile = \"/tmp/x.txt\"", ".prom"),
        ("[report]\nremind_after = \"soon\"", "not a length of time"),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn address_of_the_host_is_a_host_and_a_port() {
    for address in ["web-1:9100", "10.0.0.1:9100", "[fd00::2]:9100"] {
        config(&format!("[host]\naddress = \"{address}\""));
    }
    for address in ["web-1", ":9100", "web-1:0", "web-1:metrics", "[fd00::2]"] {
        let message = error(&format!("[host]\naddress = \"{address}\""));
        assert!(message.contains("not `host:port`"), "{address}: {message}");
    }
}
