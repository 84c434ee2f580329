//! Receivers of the messages of opsctl: a mail server and a webhook that store everything.

use std::path::PathBuf;

use super::{Host, eventually};

/// Directory of the scripts.
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab");

impl Host {
    /// Starts a webhook on this port; posted bodies are stored in the directory.
    #[track_caller]
    pub(crate) fn hook(&self, port: u16) -> PathBuf {
        self.keeper("hook.py", port, &[])
    }

    /// [`Host::hook`] with TLS and the certificate of this name from the lab's authority.
    #[track_caller]
    pub(crate) fn hook_over_tls(&self, port: u16, certificate: &str) -> PathBuf {
        let files = ["pem", "key"].map(|end| format!("/mnt/ca/{certificate}.{end}"));
        self.keeper("hook.py", port, &[&files[0], &files[1]])
    }

    /// Starts a mail server on this port; mails are stored in the directory.
    #[track_caller]
    pub(crate) fn mailbox(&self, port: u16) -> PathBuf {
        self.keeper("mailbox.py", port, &[])
    }

    fn keeper(&self, script: &str, port: u16, more: &[&str]) -> PathBuf {
        let directory = self.path(&format!("{script}-{port}"));
        let (script, directory_text) = (format!("{LAB}/{script}"), directory.display().to_string());
        self.spawn("python3", &[&[script.as_str(), &port.to_string(), &directory_text], more].concat());
        self.until_open(port);
        directory
    }

    /// Waits for a listener on a port of the host.
    #[track_caller]
    pub(crate) fn until_open(&self, port: u16) {
        let condition = format!("a listener on port {port}");
        eventually(30, &condition, || (!self.sh(&format!("ss -Hltn 'sport = {port}'")).is_empty()).then_some(()));
    }

    /// Writes a file of the host that only root can read.
    #[track_caller]
    pub(crate) fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap_or_else(|e| panic!("{name}: {e}"));
        path
    }

    /// Starts `opsctl listen` on its default port and waits for the listener.
    #[track_caller]
    pub(crate) fn listen(&self) {
        self.start_listening();
        self.until_open(9797);
    }

    /// [`Host::listen`] on a Unix socket instead of a port.
    #[track_caller]
    pub(crate) fn listen_at(&self, socket: &str) {
        self.start_listening();
        let connects = format!("timeout 5 socat -u OPEN:/dev/null UNIX-CONNECT:{socket}");
        eventually(30, "the unix socket accepts connections", || {
            let output = self.command("bash").args(["-c", &connects]).output().ok()?;
            output.status.success().then_some(())
        });
    }

    #[track_caller]
    fn start_listening(&self) {
        let script = format!(
            "exec env OPSCTL_STATE_DIR={} OPSCTL_CONFIG={} /run/lab/opsctl listen 2>> {}",
            self.path("state").display(),
            self.path("opsctl.toml").display(),
            self.path("listen.log").display()
        );
        self.spawn("sh", &["-c", &script]);
    }

    /// Terminates it as systemd would and waits for its exit.
    #[track_caller]
    pub(crate) fn stop_listening(&self) {
        self.sh("pkill -TERM -x opsctl");
        eventually(120, "opsctl listen exits", || {
            let output = self.command("pgrep").args(["-x", "opsctl"]).output().ok()?;
            (!output.status.success()).then_some(())
        });
    }

    /// The log of `opsctl listen`.
    pub(crate) fn listen_log(&self) -> String {
        std::fs::read_to_string(self.path("listen.log")).unwrap_or_default()
    }
}
