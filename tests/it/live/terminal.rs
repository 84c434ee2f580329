//! Output of containers must not control the terminal of the operator.

use crate::lab::{Host, Rootfs, eventually};

/// Clears the screen, sets the window title, rings the bell, reverses the text, and is not UTF-8 at its end.
const NASTY: &str = r"\033[2J\033]0;owned\007\033[31m\302\233 5m\342\200\256 evil \377\376\000";

#[test]
fn foreign_control_characters_never_reach_a_terminal() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.sh(&format!("printf '{NASTY}%.0s' $(seq 200) > /mnt/nasty; head -c 65536 /dev/urandom >> /mnt/nasty; printf '{NASTY}\\n' >> /mnt/nasty"));
    let health = format!("--health-cmd=printf '{NASTY}%.0s' 1 2 3; exit 1");
    host.run(
        "loud",
        &[
            "-v",
            "/mnt/nasty:/nasty",
            &health,
            "--health-interval=1s",
            "--health-retries=1",
            "app:1",
            "fixture",
            "print",
            "/nasty",
        ],
    );
    host.run("loop", &["-v", "/mnt/nasty:/nasty", "--restart", "always", "app:1", "sh", "-c", "cat /nasty; exit 1"]);
    host.until("loud", "{{.State.Health.Status}}", "unhealthy");
    eventually(60, "it loops", || host.inspect("loop", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(()));
    host.diagnose().must(&["healthcheck.unhealthy container:loud", "container.restart-loop container:loop"]);

    let colour = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for format in ["table", "markdown", "json", "jsonl"] {
        let opsctl = format!(
            "TERM=xterm-256color OPSCTL_STATE_DIR={0}/state /run/lab/opsctl diagnose -v --format {format} 2> /dev/null; true",
            host.path("").display()
        );
        // a pseudo-terminal
        let seen = host.command("script").args(["-qec", &opsctl, "/dev/null"]).output().unwrap().stdout;
        let seen = String::from_utf8(seen).expect("only UTF-8 reaches a terminal");
        assert!(seen.contains("loop"), "the output is missing: {seen:?}");
        let plain = colour.replace_all(&seen, "");
        let foreign: Vec<char> = plain.chars().filter(|c| (c.is_control() && !"\r\n".contains(*c)) || *c == '\u{202e}').collect();
        assert!(foreign.is_empty(), "{format}: {foreign:?} in {plain:?}");
        // a colour without a reset, or one that opsctl did not select, would come from the container
        assert!(!seen.contains("\x1b[31m\u{9b}"), "{format}");
    }
}
