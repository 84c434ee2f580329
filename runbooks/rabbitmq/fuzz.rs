//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::log;

pub(crate) const TARGETS: &[Target] = &[Target::text("rabbitmq-log", |text| text.lines().map(log::time_of).for_each(drop))];
