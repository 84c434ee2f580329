//! Recordings of incidents: the evidence of a diagnosis, and the assertions on it. Both are replayed on any machine
//! (`tests/it/recordings.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::asserted::{Asserted, add_row};
use super::host::{Host, RECORDING};
use super::report::Run;

/// Their directory: `NAME.json` is the recording, `NAME.asserted.json` holds its assertions.
pub(crate) const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/incidents");

impl Host {
    /// Asserts that a replay of the last diagnosis of this host has the same result. With `OPSCTL_REGENERATE=1` the recording is
    /// kept, under the name of the incident's file and, when there are several, a variant.
    #[track_caller]
    pub(crate) fn leaves(&self, run: &Run, variant: &str) {
        let incident = Path::new(Location::caller().file()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = if variant.is_empty() { incident } else { format!("{incident}.{variant}") };
        let config = fs::read_to_string(self.path("opsctl.toml")).unwrap_or_default();
        // where secrets are is of this host
        let asserted = Asserted { config, ..run.asserted() };
        let recording = self.path(RECORDING);
        let text = fs::read_to_string(&recording).unwrap_or_else(|e| panic!("{}: {e}", recording.display()));
        let began = run.report().started_at.to_string();
        assert!(text.contains(&format!("\"started_at\":\"{began}\"")), "{name}: this host was diagnosed again since");
        replay(&recording, &asserted, self.baseline());
        if std::env::var_os("OPSCTL_REGENERATE").is_some() {
            // findings on this machine from before the test would be reported on others too
            replay(&recording, &asserted, &BTreeSet::new());
            let assertions = serde_json::to_string_pretty(&asserted).unwrap_or_else(|e| panic!("{name}: {e}")) + "\n";
            for (end, text) in [("json", text), ("asserted.json", assertions)] {
                let file = Path::new(RECORDINGS).join(format!("{name}.{end}"));
                fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            }
        }
        let roots = asserted.roots.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        add_row("left", true, &format!("{variant}\t{roots}"));
    }
}

/// Replays the recording of this name and repeats its assertions.
#[track_caller]
pub(crate) fn replays(name: &str) {
    let asserted = Path::new(RECORDINGS).join(format!("{name}.asserted.json"));
    let text = fs::read_to_string(&asserted).unwrap_or_else(|e| panic!("{}: {e}", asserted.display()));
    let asserted: Asserted = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", asserted.display()));
    replay(&Path::new(RECORDINGS).join(format!("{name}.json")), &asserted, &BTreeSet::new());
}

/// Cause and effect.
pub(crate) type Edge = (String, String);

/// The direct edges in the replay of a recording, as `cause -> effect`, and the pairs that its live test asserts.
pub(crate) fn edges(name: &str) -> (Vec<Edge>, BTreeSet<Edge>) {
    let path = Path::new(RECORDINGS).join(format!("{name}.asserted.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let asserted: Asserted = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let run = run(&Path::new(RECORDINGS).join(format!("{name}.json")), &asserted, &BTreeSet::new());
    (run.edges(), asserted.explains.iter().chain(&asserted.traces).cloned().collect())
}

#[track_caller]
fn replay(recording: &Path, asserted: &Asserted, baseline: &BTreeSet<String>) {
    asserted.again(&run(recording, asserted, baseline));
}

fn run(recording: &Path, asserted: &Asserted, baseline: &BTreeSet<String>) -> Run {
    let directory = tempfile::tempdir().unwrap_or_else(|e| panic!("temporary directory: {e}"));
    let config: PathBuf = directory.path().join("opsctl.toml");
    fs::write(&config, &asserted.config).unwrap_or_else(|e| panic!("{}: {e}", config.display()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_opsctl"));
    command.args(["diagnose", "--format", "json", "--replay"]).arg(recording).arg("--config").arg(&config);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("OPSCTL_STATE_DIR", "/nonexistent/opsctl");
    Run::replay(&mut command, baseline)
}
