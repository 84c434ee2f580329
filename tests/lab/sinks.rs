//! Whoever gets what opsctl tells: a mail server and a webhook that keep everything.

use std::path::PathBuf;

use super::{Host, eventually};

/// Where the scripts are.
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab");

impl Host {
    /// A webhook on this port; what is posted to it is in the folder.
    #[track_caller]
    pub(crate) fn hook(&self, port: u16) -> PathBuf {
        self.keeper("hook.py", port, &[])
    }

    /// [`Host::hook`] with TLS: a certificate of the lab's authority, by its name.
    #[track_caller]
    pub(crate) fn hook_over_tls(&self, port: u16, certificate: &str) -> PathBuf {
        let files = ["pem", "key"].map(|end| format!("/mnt/ca/{certificate}.{end}"));
        self.keeper("hook.py", port, &[&files[0], &files[1]])
    }

    /// A mail server on this port; its mails are in the folder.
    #[track_caller]
    pub(crate) fn mailbox(&self, port: u16) -> PathBuf {
        self.keeper("mailbox.py", port, &[])
    }

    fn keeper(&self, script: &str, port: u16, more: &[&str]) -> PathBuf {
        let folder = self.path(&format!("{script}-{port}"));
        let (script, folder_text) = (format!("{LAB}/{script}"), folder.display().to_string());
        self.spawn("python3", &[&[script.as_str(), &port.to_string(), &folder_text], more].concat());
        self.until_open(port);
        folder
    }

    /// Waits until something listens on a port of the host.
    #[track_caller]
    pub(crate) fn until_open(&self, port: u16) {
        let what = format!("something listens on {port}");
        eventually(30, &what, || (!self.sh(&format!("ss -Hltn 'sport = {port}'")).is_empty()).then_some(()));
    }

    /// A file of the host that only root can read.
    #[track_caller]
    pub(crate) fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap_or_else(|e| panic!("{name}: {e}"));
        path
    }

    /// Starts `opsctl listen` on its usual port and waits for it.
    #[track_caller]
    pub(crate) fn listen(&self) {
        self.start_listening();
        self.until_open(9797);
    }

    /// [`Host::listen`] at a unix socket instead of a port.
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

    /// Ends it as systemd would, and waits until it has gone.
    #[track_caller]
    pub(crate) fn stop_listening(&self) {
        self.sh("pkill -TERM -x opsctl");
        eventually(120, "opsctl listen ends", || {
            let gone = self.command("pgrep").args(["-x", "opsctl"]).output().ok()?;
            (!gone.status.success()).then_some(())
        });
    }

    /// What `opsctl listen` said.
    pub(crate) fn listen_log(&self) -> String {
        std::fs::read_to_string(self.path("listen.log")).unwrap_or_default()
    }
}
