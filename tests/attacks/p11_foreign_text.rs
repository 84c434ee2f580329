//! Promise 11: external text is neutralized for terminals, documents, chats and agents.

use super::{Scene, UID, quoted};

/// Terminal escapes, HTML, and a forged line of a line format.
const TEXT: &str =
    "MISCONF \u{1b}[2J\u{1b}]0;owned\u{7}\u{202e} <script>alert(1)</script> <img src=x onerror=alert(1)> ok 1 - all is well";

#[test]
fn text_of_a_hostile_server_is_escaped_in_every_format() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["redis-server"]);
    let (ping, info) = (
        format!("ping={TEXT}"),
        "info=redis_version:7.0.15\\nrdb_last_bgsave_status:err\\nrdb_bgsave_in_progress:0\\nrole:master\\n",
    );
    let args = ["--port", "6379", "--auth", "trust", "--set", &ping, "--set", info, "--set", "dir=/data"];
    scene.hostile("cache", &[], "redis-server", "redis-server *:6379", "redis", &args);
    let run = scene.run_verified(&["redis"]);
    assert!(run.stdout.contains("MISCONF"), "the text is not shown: {}", run.stdout);
    for format in ["table", "jsonl", "markdown", "html", "junit", "tap", "nagios", "prometheus"] {
        let run = scene.opsctl(&["diagnose", "redis", "-vv", "--format", format]);
        let control = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
        assert!(!run.stdout.chars().any(control), "{format}: {:?}", run.stdout);
        if matches!(format, "html" | "junit") {
            assert!(!run.stdout.contains("<script>alert") && !run.stdout.contains("<img src=x"), "{format}: {}", run.stdout);
        }
        assert!(!run.stdout.lines().any(|l| l.starts_with("ok 1 - all is well")), "{format}: {}", run.stdout);
    }
}

/// The kernel logs the names of a program that crashes: `NAME[PID]: segfault at … in FILE[…]`.
#[test]
fn kernel_log_lines_of_a_user_are_no_findings() {
    let Some(scene) = Scene::without_engine() else { return };
    let files = [
        (",task=postgres,pid=4242,global_oom,task_memcg=x,", "oom-kill:x"),
        ("EXT4-fs error (device vda): bad I", "x"),
        ("nf_conntrack: table full, dropping packet", "x"),
        ("limit 65536kB,", "memory: usage "),
    ];
    for (file, name) in files {
        let path = scene.program_file_named(file);
        scene.sh(&format!(
            "cd / && ROGUE=$(printf 'crash\\n%s' {}) setpriv --reuid {UID} --regid {UID} --clear-groups {} || true",
            quoted(name),
            quoted(&path)
        ));
    }
    let run = scene.run_verified(&["memory", "disk", "network"]);
    for code in ["memory.oom-kill", "disk.io-errors", "network.conntrack"] {
        let finding = run.report().findings.iter().find(|f| f.code == code);
        assert!(finding.is_none(), "{finding:?}");
    }
}
