//! Fuzz targets of the kernel's network tables.

use super::{counters, tcp_info};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("proc-net-netstat", |text| drop(counters::parse(text))),
    Target::bytes("tcp-info", |bytes| {
        let _ = tcp_info::TcpInfo::parse(bytes);
    }),
];
