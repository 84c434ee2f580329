//! Fuzz targets of the change sources.

use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};

use super::{config, packages, sudo};
use crate::fuzz::Target;
use crate::probe::Io;
use crate::probe::io::clock;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("apt-and-dpkg-logs", |text| {
        for line in text.lines() {
            drop((packages::action(line, &TimeZone::UTC), clock::moment(line, &TimeZone::UTC)));
            drop(packages::units(&Io::for_test(), Path::new("/nonexistent"), line));
        }
        assert!(packages::runs(text, &TimeZone::UTC).len() <= text.lines().count(), "a run has a line of its own");
    }),
    Target::text("sudo-lines", |text| {
        for line in text.lines() {
            drop((sudo::parse(line), sudo::syslog(line, &TimeZone::UTC, Timestamp::UNIX_EPOCH)));
        }
    }),
    Target::text("changed-path", |text| drop((config::concerns(text), config::is_spare(text)))),
];
