//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::{redis, workers};

pub(crate) const TARGETS: &[Target] = &[
    Target::bytes("celery-message", |bytes| {
        let _ = redis::task(bytes).is_some();
        drop(redis::bound_queue(&String::from_utf8_lossy(bytes)));
    }),
    Target::text("broker-url", |text| {
        let _ = workers::host_of(text);
    }),
];
