//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::redis;

pub(crate) const TARGETS: &[Target] = &[Target::bytes("celery-message", |bytes| {
    let _ = redis::task(bytes).is_some();
    drop(redis::bound_queue(&String::from_utf8_lossy(bytes)));
})];
