//! A firewall unit fails at boot because its executable is missing. Further cases: faults of units that `systemctl --failed` does not list.

use crate::lab::Machine;

const FIREWALL: &str = "systemd.unit-failed unit:site-firewall.service";
const APP: &str = "systemd.enabled-inactive unit:app.service";

/// A oneshot with `RemainAfterExit=` and a missing executable, and a service that requires it.
const FILES: &[(&str, &str)] = &[
    (
        "/etc/systemd/system/site-firewall.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/gone.sh --load\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "/etc/systemd/system/app.service",
        "[Unit]\nRequires=site-firewall.service\nAfter=site-firewall.service\n[Service]\nExecStart=/usr/local/bin/fixture wait-term\n[Install]\nWantedBy=multi-user.target\n",
    ),
];

fn broken_at_boot() -> Option<Machine> {
    let machine = Machine::prepared(FILES)?;
    machine.wait_for("systemd has started", "systemctl is-system-running --wait | grep -E 'running|degraded'");
    machine.sh("systemctl enable site-firewall.service app.service; systemctl start app.service || true");
    Some(machine)
}

/// Makes the unit fail as at boot, and restores its executable.
fn fail_unit(machine: &Machine) {
    machine.sh("systemctl stop site-firewall; mv /usr/local/sbin/gone.sh /root/; systemctl start site-firewall || true; mv /root/gone.sh /usr/local/sbin/");
}

#[test]
fn missing_executable_is_the_root_of_an_inactive_dependent() {
    let Some(machine) = broken_at_boot() else { return };
    assert!(!machine.sh("systemctl list-units --failed").contains("app.service"), "`systemctl --failed` does not list it");
    let run = machine.diagnose(&["systemd"]);
    run.must(&[FIREWALL, APP]).roots(&[FIREWALL]).explains(FIREWALL, APP);
    run.mentions(FIREWALL, &["/usr/local/sbin/gone.sh", "203/EXEC", "ago"]);
    run.must_not(&["systemd.restart-loop", "systemd.state", "systemd.bad-unit"]);
    machine.leaves(&run, "");

    // a start that would fail is refused, and the fix of an effect while its cause is open
    machine.fix("systemd.restart", "site-firewall.service", &["--risk", "R3"]).exits(15);
    machine.fix("systemd.start-enabled", "app.service", &[]).exits(15);
    assert_eq!(machine.sh("systemctl is-active app.service || true"), "inactive");

    // with the executable restored both are started, and the start can be reverted
    machine.sh("printf '#!/bin/sh\\n' > /usr/local/sbin/gone.sh; chmod +x /usr/local/sbin/gone.sh");
    machine.sh("mkdir -p /etc/opsctl; printf '[policy]\\nallow = [\"systemd.restart\"]\\n' > /etc/opsctl/config.toml");
    // a firewall is R3: `--yes` without `--risk R3` does not cover it
    machine.fix("systemd.restart", "site-firewall.service", &[]).exits(10);
    // started by hand after the plan
    let by_hand = || _ = machine.sh("systemctl start site-firewall.service");
    machine.fix_meanwhile("systemd.restart", "site-firewall.service", &["--risk", "R3"], by_hand).exits(11);
    fail_unit(&machine);
    machine.fix("systemd.restart", "site-firewall.service", &["--risk", "R3"]).exits(0);
    let run = machine.diagnose(&["systemd"]);
    run.roots(&[APP]);
    machine.fix("systemd.start-enabled", "app.service", &[]).exits(0);
    assert_eq!(machine.sh("systemctl is-active app.service"), "active");
    machine.diagnose(&["systemd"]).roots(&[]);

    let entries = machine.opsctl(&["audit", "show"]).stdout;
    let last = entries.lines().filter_map(|l| l.strip_prefix('#')?.split_whitespace().next()?.parse::<u64>().ok()).max();
    let last = last.unwrap_or_else(|| panic!("no entries: {entries}")).to_string();
    machine.opsctl(&["undo", &last, "--yes"]).exits(0);
    assert_eq!(machine.sh("systemctl is-active app.service || true"), "inactive");
    restart_that_removes_rules_of_the_engine_fails(&machine);
}

/// A firewall script that flushes all tables removes the rules of the container engine too.
fn restart_that_removes_rules_of_the_engine_fails(machine: &Machine) {
    const RULES: &str = "iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER";
    fail_unit(machine);
    // the rules exist while the engine does not respond, as during its restart
    machine.sh(RULES);
    let script = |text: &str| {
        machine.sh(&format!("printf '#!/bin/sh\\n{text}\\n' > /usr/local/sbin/gone.sh; chmod +x /usr/local/sbin/gone.sh"))
    };
    script("iptables -t nat -F; iptables -t nat -X");
    let run = machine.fix("systemd.restart", "site-firewall.service", &["--risk", "R3"]);
    run.exits(12);
    assert!(run.stdout.contains("rules of the container engine are missing"), "{}", run.stdout);

    machine.sh(&format!("systemctl stop site-firewall; {RULES}"));
    script("exit 1");
    machine.sh("systemctl start site-firewall || true");
    script("iptables -A INPUT -p tcp --dport 23 -j DROP");
    machine.fix("systemd.restart", "site-firewall.service", &["--risk", "R3"]).exits(0);
}

#[test]
fn unit_faults_outside_of_systemctl_failed_are_found() {
    let Some(machine) = Machine::boot() else { return };
    healthy_machine_has_no_root_causes(&machine);
    oom_kill_is_found_independent_of_the_exit_code(&machine);
    // `Restart=always` until the start limit: failed, with the result of the last run
    machine.unit(
        "crash.service",
        "[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/usr/local/bin/fixture say no-database 3\n",
    );
    // exits every few seconds without a start limit: active or activating
    machine.unit(
        "flap.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1\nExecStart=/bin/sleep 1\n",
    );
    machine.unit("typo.service", "[Service]\nType=nonsense\nRestart=maybe\n[Install]\nWantedBy=multi-user.target\n");
    machine.unit("edited.service", "[Service]\nExecStart=/usr/local/bin/fixture wait-term\n");
    machine.unit("lazy.timer", "[Timer]\nOnCalendar=daily\nUnit=edited.service\n[Install]\nWantedBy=timers.target\n");
    machine.sh("systemctl enable -q lazy.timer");
    machine.sh("systemctl start edited.service; systemctl start --no-block crash.service flap.service");
    machine
        .sh("sed -i s/wait-term/wait/ /etc/systemd/system/edited.service; touch -d '+1 hour' /etc/systemd/system/edited.service");
    machine.sh("mkdir -p /etc/systemd/system/multi-user.target.wants; ln -s ../lost.service /etc/systemd/system/multi-user.target.wants/lost.service");
    machine.wait_for("crash.service has failed", "systemctl is-failed crash.service");
    machine.wait_for("flap.service was restarted four times", "[ $(systemctl show -P NRestarts flap.service) -ge 4 ]");

    let run = machine.diagnose(&["systemd"]);
    let (crash, flap) = ("systemd.unit-failed unit:crash.service", "systemd.restart-loop unit:flap.service");
    let (typo, edited) = ("systemd.bad-unit unit:typo.service", "systemd.need-reload unit:edited.service");
    run.must(&[crash, flap, typo, edited, "systemd.bad-unit unit:lost.service", "systemd.timer-late unit:lazy.timer"]);
    run.mentions(crash, &["exited with 3", "no-database", "start limit was reached"]).mentions(flap, &["restarted flap.service"]);
    assert!(!machine.sh("systemctl list-units --failed").contains("flap"), "it never enters the failed state");
    machine.leaves(&run, "variants");

    machine.fix("systemd.daemon-reload", "edited.service", &[]).exits(0);
    machine.diagnose(&["systemd"]).must_not(&["systemd.need-reload"]);
    machine.fix("systemd.start-enabled", "lazy.timer", &[]).exits(0);
    assert_eq!(machine.sh("systemctl is-active lazy.timer"), "active");
    // a restart that does not last is no fix, and the unit is stopped again
    machine.fix("systemd.restart", "crash.service", &[]).exits(13);
}

fn oom_kill_is_found_independent_of_the_exit_code(machine: &Machine) {
    machine.unit("hoard.service", "[Service]\nMemoryMax=20M\nExecStart=/bin/sh -c 'fixture mem-eater 4; exit $?'\n");
    machine.sh("systemctl start hoard.service");
    machine.wait_for("hoard.service was killed", "systemctl is-failed hoard.service");
    let hoard = "systemd.unit-failed unit:hoard.service";
    machine.diagnose(&["systemd"]).roots(&[hoard]).mentions(hoard, &["the kernel killed its fixture at its 20 MiB memory limit"]);
    machine.sh("systemctl reset-failed hoard.service");
}

fn healthy_machine_has_no_root_causes(machine: &Machine) {
    machine.unit("job.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n");
    machine.unit(
        "barred.service",
        "[Unit]\nConditionPathExists=/nonexistent\n[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n",
    );
    machine.sh("systemctl enable --now job.service barred.service; systemd-run --unit=run-u1 /bin/false; systemd-run --on-calendar=daily /bin/true");
    machine.wait_for("the transient unit failed", "systemctl is-failed run-u1.service");
    let run = machine.diagnose(&["systemd", "host"]);
    run.roots(&[]).must(&["systemd.unit-failed unit:run-u1.service"]);
    // the failed state of an irrelevant unit is reset
    machine.fix("systemd.reset-failed", "run-u1.service", &[]).exits(0);
    assert!(!machine.succeeds("systemctl is-failed run-u1.service"));
    machine.sh("systemctl mask cron.service 2> /dev/null; systemctl is-system-running");
}
