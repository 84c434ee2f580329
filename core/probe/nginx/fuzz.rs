//! Fuzz targets of nginx's configuration and logs.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use memchr::memmem::Finder;

use super::error_shapes::Configured;
use super::{
    Config, Errors, LogFormat, Requests, Scanner, config, error_log, log_scan, memory, peers, process, syntax, without_prefix,
};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("nginx-config", |text| {
        if let Ok(directives) = syntax::parse(text, &Arc::from("nginx.conf")) {
            drop(config::read(&directives, "/etc/nginx/nginx.conf", "/usr/share/nginx"));
        }
    }),
    Target::text("nginx-listen", |text| {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        drop((config::listen(&words, false), config::listen(&words, true), process::arguments(text)));
    }),
    Target::bytes("nginx-error-log", |bytes| {
        let configured = Configured::of(&Config::default());
        let mut errors = Errors::default();
        error_log::count(bytes, &TimeZone::UTC, &configured, &mut errors);
        // a second log
        error_log::count(bytes, &TimeZone::UTC, &configured, &mut errors);
        let _ = error_log::time(bytes, &TimeZone::UTC);
        drop(without_prefix(&String::from_utf8_lossy(bytes)));
    }),
    // the format in the first line
    Target::bytes("nginx-access-log", |bytes| {
        let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
        let (format, lines) = bytes.split_at(end);
        let format = String::from_utf8_lossy(format);
        for format in [&format, config::COMBINED] {
            let Some(format) = LogFormat::new(format) else { continue };
            let mut requests = Requests::default();
            let _ = (format.status(lines), format.time(lines));
            Scanner::new(format).scan(lines, &mut requests);
        }
        drop(log_scan::beginning(&String::from_utf8_lossy(lines)));
    }),
    Target::bytes("nginx-memory", |bytes| {
        let mut found = BTreeSet::new();
        memory::addresses(bytes, &[(80, Finder::new(b":80"))], &mut found);
        let _ = (memory::private(&String::from_utf8_lossy(bytes)), peers::conversation(&String::from_utf8_lossy(bytes)));
        let _ = peers::waiting(&String::from_utf8_lossy(bytes));
    }),
];
