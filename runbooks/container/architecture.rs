//! Processor architecture of a container's image, for containers that do not stay up.
//!
//! An image for another architecture runs if the kernel has an emulator for it (`binfmt_misc`), and its label can be wrong.
//! Only a container that fails without having run any program of its image is a finding.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::log::{Level, ReasonKind};
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const ARCHITECTURE: Code = Code {
    id: "container.architecture",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the container exits, its image is for another processor architecture than this host, and no program of it has run (warn; crit if the container should run); an image that runs by emulation is no finding",
    hint: "pull or build the image for this architecture (docker pull --platform, docker buildx build --platform); a restart does not help",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.architecture",
    title: "images are for the architecture of this host",
    codes: &[ARCHITECTURE],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

/// Age of a start from which a container that was restarted counts as running (judgement: 10 min).
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// Architectures of images (`GOARCH`).
const ARCHITECTURES: &[&str] = &["amd64", "386", "arm64", "arm", "ppc64le", "s390x", "riscv64", "mips64le", "loong64"];

pub(super) struct Architecture;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    /// Architecture of its image: `arm64`.
    image: String,
    /// Architecture of the engine's machine: `x86_64`.
    host: String,
    /// Output of its last run; only if the architectures differ.
    log: LogEvidence,
}

impl Check for Architecture {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        // a program of another architecture never runs: the engine reports each attempt as over
        inventory.container_targets(|c| matches!(c.state.as_str(), "restarting" | "exited" | "created" | "dead"))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let docker = cx.docker()?;
        let container = docker.inspect(&target.id).await?;
        if !fails(&container) {
            return Err(ProbeError::Skip("it has not failed".to_owned()));
        }
        let Some(image) = docker.of(&container.id).image(&container.image_id).await? else {
            return Err(ProbeError::Skip("its image no longer exists on this host".to_owned()));
        };
        let host = docker.of(&container.id).settings().await?.architecture.clone();
        let mut e = Evidence { container: (*container).clone(), image: image.architecture, host, ..Evidence::default() };
        if !runs_on(&e.image, &e.host) {
            e.log = cx.log_of_run(&container).await;
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let c = &e.container;
        if runs_on(&e.image, &e.host) {
            return Judgement::default();
        }
        let rejected = is_no_exec(&c.state.error) || e.log.reason().is_some_and(|r| r.kind == ReasonKind::WrongArchitecture);
        // a program that has printed something was executed: its architecture is not the reason
        if !rejected && (c.is_up() || !e.log.entries.is_empty() || !c.state.error.is_empty()) {
            return Judgement::default();
        }
        if !rejected && let Some(gap) = &e.log.gap {
            return Judgement { gaps: vec![gap.clone()], ..Judgement::default() };
        }
        let should_run =
            c.state.restarting || matches!(c.restart_policy.name.as_str(), "always" | "unless-stopped" | "on-failure");
        let severity = if should_run { Severity::Crit } else { Severity::Warn };
        let message = format!("{} does not run: its image is for {}, this host is {}", c.name, e.image, e.host);
        let line = e.log.entries.iter().find(|l| l.level >= Level::Error).map(|l| l.text.clone());
        let finding = Finding::new(&ARCHITECTURE, severity, c.subject_of_all_runs(), message)
            .key(KeyKind::Container, &c.id)
            .cite_opt("log", line)
            .cite("engine", &c.state.error)
            .cite("image", &c.image);
        vec![if rejected { finding } else { finding.likely() }].into()
    }
}

/// Whether its last run ended with an error, or could not begin. The end by a signal has other reasons; 255 is the exit code of
/// runc 1.0 for a program that cannot be executed.
fn fails(c: &Container) -> bool {
    let young = c.state.started_at.is_some_and(|t| clock::now().duration_since(t) < RECENT);
    let exited = !c.state.running && (matches!(c.state.exit_code, 1..=127 | 255) || is_no_exec(&c.state.error));
    c.state.restarting || exited || (c.restart_count > 0 && young)
}

/// The error of execve(2) for a program of another architecture (`ENOEXEC`), of runc and crun.
fn is_no_exec(error: &str) -> bool {
    error.to_lowercase().contains("exec format error")
}

/// Whether a machine (`uname -m`) executes programs of an image (`GOARCH`) without emulation. Unknown names are no statement.
fn runs_on(image: &str, machine: &str) -> bool {
    let executes: &[&str] = match machine {
        "x86_64" | "amd64" => &["amd64", "386"],
        "i386" | "i486" | "i586" | "i686" | "386" => &["386"],
        // 32-bit programs run on most of these processors
        "aarch64" | "arm64" => &["arm64", "arm"],
        "armv6l" | "armv7l" | "armv8l" | "arm" => &["arm"],
        "ppc64le" => &["ppc64le"],
        "s390x" => &["s390x"],
        "riscv64" => &["riscv64"],
        _ => return true,
    };
    executes.contains(&image) || !ARCHITECTURES.contains(&image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_that_a_machine_executes() {
        for (image, machine) in [
            ("amd64", "x86_64"),
            ("386", "x86_64"),
            ("arm64", "aarch64"),
            ("arm", "armv7l"),
            ("amd64", "amd64"),
            ("", "x86_64"),
            ("arm64", ""),
        ] {
            assert!(runs_on(image, machine), "{image} on {machine}");
        }
        for (image, machine) in
            [("arm64", "x86_64"), ("amd64", "aarch64"), ("amd64", "i686"), ("arm64", "armv7l"), ("s390x", "x86_64")]
        {
            assert!(!runs_on(image, machine), "{image} on {machine}");
        }
    }
}
