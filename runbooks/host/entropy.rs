//! Is there randomness? On any kernel of the last years there is, whatever `entropy_avail` says.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, Severity, Subject, Target};
use opsctl_core::probe::boot::version;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking, host};
use serde::{Deserialize, Serialize};

const ENTROPY_LOW: Code = Code {
    id: "host.entropy-low",
    severities: &[Severity::Warn],
    when: "getrandom(2) would wait: the kernel's generator is not seeded; before Linux 5.6 also when under 200 bits are left",
    hint: "give the machine a virtio-rng device, or run haveged: whatever needs a key waits until then",
};

static SPEC: CheckSpec = CheckSpec {
    id: "host.entropy",
    title: "the kernel gives random numbers",
    codes: &[ENTROPY_LOW],
    fixes: &[],
    timeout: Duration::from_secs(2),
};

/// Until 5.6 reading /dev/random took bits out of the pool and could wait for more; since 5.18 the pool always reads full, with 256.
const FIXED_IN: &str = "5.6";
/// Under this many bits readers of /dev/random waited soon (catalogue).
const FEW_BITS: u64 = 200;

pub(super) struct Entropy;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    kernel: String,
    /// `/proc/sys/kernel/random/entropy_avail`.
    available: Option<u64>,
    /// `getrandom(2)` gives bytes at once.
    seeded: bool,
}

impl Check for Entropy {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Target) -> Result<Evidence, ProbeError> {
        let available = blocking::run("entropy", "/proc/sys/kernel/random", Duration::from_secs(1), host::entropy).await?;
        Ok(Evidence { kernel: host::kernel(), available, seeded: host::random_is_seeded() })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let message = if !e.seeded {
            "the kernel's random numbers are not seeded: whoever asks for one waits".to_owned()
        } else if version(&e.kernel) < version(FIXED_IN)
            && let Some(bits) = e.available.filter(|b| *b < FEW_BITS)
        {
            format!("{bits} bits of entropy are left, limit {FEW_BITS}, on Linux {}", e.kernel)
        } else {
            return Judgement::default();
        };
        vec![Finding::new(&ENTROPY_LOW, Severity::Warn, Subject::host(), message)].into()
    }
}
