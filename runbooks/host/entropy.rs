//! State of the kernel's random number generator. On recent kernels `entropy_avail` is not significant.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, Object, Severity};
use opsctl_core::probe::kernel::boot::version;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

const ENTROPY_LOW: Code = Code {
    id: "host.entropy-low",
    severities: &[Severity::Warn],
    when: "getrandom(2) would block: the kernel's random number generator is not seeded; before Linux 5.6 also if under 200 bits are left",
    hint: "add a virtio-rng device to the machine, or run haveged: programs that generate keys block until then",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "host.entropy",
    title: "the kernel's random number generator is seeded",
    codes: &[ENTROPY_LOW],
    fixes: &[],
    timeout: Duration::from_secs(2),
};

/// Until 5.6 reading /dev/random drained the pool and could block; since 5.18 the pool always reads 256, which is full.
const NONBLOCKING_SINCE: &str = "5.6";
/// Bits below which readers of /dev/random are about to block (netdata health.d/entropy.conf: 100, cleared at 200).
const MIN_ENTROPY_BITS: u64 = 200;

pub(super) struct Entropy;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    kernel: String,
    /// `/proc/sys/kernel/random/entropy_avail`.
    available: Option<u64>,
    /// `getrandom(2)` does not block.
    seeded: bool,
}

impl Check for Entropy {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let available = blocking::run("entropy", "/proc/sys/kernel/random", Duration::from_secs(1), host::entropy).await?;
        Ok(Evidence { kernel: host::kernel(), available, seeded: host::random_is_seeded() })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let message = if !e.seeded {
            "the kernel's random number generator is not seeded: getrandom(2) blocks".to_owned()
        } else if version(&e.kernel) < version(NONBLOCKING_SINCE)
            && let Some(bits) = e.available.filter(|b| *b < MIN_ENTROPY_BITS)
        {
            format!("{bits} bits of entropy are left, limit {MIN_ENTROPY_BITS}, on Linux {}", e.kernel)
        } else {
            return Judgement::default();
        };
        vec![Finding::new(&ENTROPY_LOW, Severity::Warn, Object::host(), message)].into()
    }
}
