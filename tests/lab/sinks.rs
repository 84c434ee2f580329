//! Whoever gets what opsctl tells: a mail server and a webhook that keep everything, and a log server that stops reading when told.

use std::path::PathBuf;

use super::{Host, eventually};

/// Where the scripts are.
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab");

impl Host {
    /// A webhook on this port; what is posted to it is in the folder.
    #[track_caller]
    pub(crate) fn hook(&self, port: u16) -> PathBuf {
        self.keeper("hook.py", port)
    }

    /// A mail server on this port; its mails are in the folder.
    #[track_caller]
    pub(crate) fn mailbox(&self, port: u16) -> PathBuf {
        self.keeper("mailbox.py", port)
    }

    fn keeper(&self, script: &str, port: u16) -> PathBuf {
        let folder = self.path(&format!("{script}-{port}"));
        let (script, folder_text) = (format!("{LAB}/{script}"), folder.display().to_string());
        self.spawn("python3", &[&script, &port.to_string(), &folder_text]);
        self.until_open(port);
        folder
    }

    /// A server that reads what logs are sent to it; [`Host::sh`] with `pkill -USR1 -f drain.py` makes it stop.
    #[track_caller]
    pub(crate) fn drain(&self, port: u16) {
        self.spawn("python3", &[&format!("{LAB}/drain.py"), &port.to_string()]);
        self.until_open(port);
    }

    /// Waits until something listens on a port of the host.
    #[track_caller]
    pub(crate) fn until_open(&self, port: u16) {
        let what = format!("something listens on {port}");
        eventually(30, &what, || (!self.sh(&format!("ss -Hltn 'sport = {port}'")).is_empty()).then_some(()));
    }

    /// Starts `opsctl listen` on its usual port and waits for it.
    #[track_caller]
    pub(crate) fn listen(&self) {
        let script = format!(
            "exec env OPSCTL_STATE_DIR={} OPSCTL_CONFIG={} /run/lab/opsctl listen 2>> {}",
            self.path("state").display(),
            self.path("opsctl.toml").display(),
            self.path("listen.log").display()
        );
        self.spawn("sh", &["-c", &script]);
        self.until_open(9797);
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
