//! Fuzz targets of the kernel's network tables.

use super::{conntrack, counters, routes, tcp_info};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("proc-net-netstat", |text| drop(counters::parse(text))),
    Target::text("proc-net-stat-arp-cache", |text| {
        let _ = routes::statistics(text);
    }),
    Target::bytes("ctnetlink", |bytes| {
        let _ = conntrack::flow(bytes);
    }),
    Target::bytes("tcp-info", |bytes| {
        let _ = tcp_info::TcpInfo::parse(bytes);
    }),
];
