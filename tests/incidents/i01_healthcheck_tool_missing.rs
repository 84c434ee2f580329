//! The health test of a healthy service runs a program that the image lacks (grafana#60805, alloy#477).

use crate::lab::{Host, Rootfs, eventually};

const MISSING: &str = "healthcheck.command-missing container:alloy";
const UNHEALTHY: &str = "healthcheck.unhealthy container:alloy";

fn diagnose_unhealthy(host: &Host, variant: &str, words: &[&str]) {
    host.until("alloy", "{{.State.Health.Status}}", "unhealthy");
    let run = host.diagnose();
    run.must(&[UNHEALTHY, MISSING]).roots(&[MISSING]).explains(MISSING, UNHEALTHY);
    run.must_not(&["container.down", "container.restart-loop", "network."]);
    // the service responds, and a restart would change nothing
    run.verdict("healthcheck.http", "container:alloy", "ok").offers_no("container.restart", "container:alloy");
    run.mentions(MISSING, words);
    host.leaves(&run, variant);
}

/// Starts the service with its state on a volume.
fn serve(host: &Host, options: &[&str]) {
    let volume = ["-p", "127.0.0.1:12345:12345", "-v", "state:/var/lib/alloy/data"];
    host.run("alloy", &[&volume[..], options, &["alloy:1", "fixture", "httpd", "--port", "12345"]].concat());
}

#[test]
fn exec_form_without_the_program() {
    let Some(host) = Host::start() else { return };
    let test = r#"HEALTHCHECK --interval=1s --retries=2 CMD ["wget","--spider","-q","http://localhost:12345/-/ready"]"#;
    host.image("alloy:1", Rootfs::Tools, &[test]);
    serve(&host, &[]);
    diagnose_unhealthy(&host, "", &["wget", "bash", "nc"]);
}

#[test]
fn shell_form_without_the_program() {
    let Some(host) = Host::start() else { return };
    host.image("alloy:1", Rootfs::Shell, &[]);
    let test = "--health-cmd=curl -f http://localhost:12345/-/ready";
    serve(&host, &["--health-interval=1s", "--health-retries=2", test]);
    let code = eventually(20, "the test has run", || {
        let code = host.inspect("alloy", "{{range .State.Health.Log}}{{.ExitCode}} {{end}}");
        (!code.is_empty()).then_some(code)
    });
    assert!(code.starts_with("127"), "exit code of the shell: {code}");
    diagnose_unhealthy(&host, "shell-form", &["curl"]);
}

#[test]
fn shell_form_without_a_shell() {
    let Some(host) = Host::start() else { return };
    host.image("alloy:1", Rootfs::Scratch, &[]);
    let test = "--health-cmd=wget --spider -q http://localhost:12345/-/ready";
    serve(&host, &["--health-interval=1s", "--health-retries=2", test]);
    diagnose_unhealthy(&host, "no-shell", &["/bin/sh"]);
}
