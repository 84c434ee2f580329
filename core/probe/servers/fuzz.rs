//! Fuzz targets for output and files of servers.

use super::{cleartext, find, identity, login, postgres, rabbitmq, redis, sockets, web};
use crate::fuzz::Target;
use crate::model::Product;
use crate::probe::Redactor;
use crate::probe::product;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("pgpass", |text| drop((login::pgpass(text, "h", 1, "d", "u"), login::service(text, "a").len()))),
    Target::text("postgres-version", |text| {
        let _ = postgres::version_number(text);
    }),
    Target::text("server-command", |text| {
        let (image, command) = text.split_once('\n').unwrap_or((text, text));
        let _ = (product::product_of(image, command), product::product_of_unit(image), product::product_of_program(command));
        let _ = find::serves(Product::Rabbitmq, command);
        let flags = web::Flags::parse(command);
        drop((flags.listens(Product::Loki), flags.listens(Product::Alloy), flags.prefix(), flags.is_agent()));
    }),
    Target::bytes("amqp-greeting", |bytes| {
        if let Some((header, body)) = bytes.split_first_chunk::<7>() {
            drop(rabbitmq::parse_connection_start(*header, body));
        }
    }),
    Target::text("redis-info", |text| {
        assert!(redis::parse_info(text).len() <= 2 * text.lines().count(), "a line is at most one field, by two names");
        drop(redis::configured(text, Some(6379), &Redactor::default()));
        let words: Vec<String> = text.lines().map(str::to_owned).collect();
        drop((redis::of_arguments(&words), redis::directives(text).count()));
    }),
    Target::text("proc-net-unix", |text| {
        for line in text.lines() {
            let _ = sockets::established(line);
        }
        drop(sockets::ports_of_arguments(text));
    }),
    Target::bytes("postgres-authentication", |bytes| {
        let sees_request = |size: usize| {
            let mut watch = cleartext::Watch::default();
            bytes.chunks(size).any(|part| watch.sees_request(part))
        };
        assert!((2..9).all(|size| sees_request(size) == sees_request(1)), "the result depends on the size of the reads");
    }),
    // the control groups of a process and, after an empty line, those of the container
    Target::text("process-cgroups", |text| {
        let (process, container) = text.split_once("\n\n").unwrap_or((text, text));
        let _ = identity::is_below(process, container, "0123456789ab");
        assert!(identity::parts(text).all(|(end, part)| text[..end].ends_with(part)), "{text:?}");
    }),
];
