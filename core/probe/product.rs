//! Recognition of a product by program, image or unit.

use crate::model::{CeleryRole, Product};

/// Programs by their name in `/proc/<pid>/comm`.
const PROGRAMS: &[(&str, Product)] = &[
    ("postgres", Product::Postgres),
    // Red Hat's packages
    ("postmaster", Product::Postgres),
    ("pgbouncer", Product::Pgbouncer),
    ("redis-server", Product::Redis),
    ("valkey-server", Product::Redis),
    ("keydb-server", Product::Redis),
    ("dragonfly", Product::Redis),
    // the Erlang virtual machine runs other programs too: its arguments decide
    ("beam.smp", Product::Rabbitmq),
    ("rabbitmq-server", Product::Rabbitmq),
    ("nginx", Product::Nginx),
    ("openresty", Product::Nginx),
    ("prometheus", Product::Prometheus),
    ("alertmanager", Product::Alertmanager),
    // Debian's name; the kernel keeps 15 characters of it
    ("prometheus-aler", Product::Alertmanager),
    ("prometheus-alertmanager", Product::Alertmanager),
    ("loki", Product::Loki),
    ("alloy", Product::Alloy),
    ("promtail", Product::Promtail),
    ("grafana", Product::Grafana),
    ("grafana-server", Product::Grafana),
];

/// Images by the last part of their name; exporters and consoles have other names.
const IMAGES: &[(&str, Product)] = &[
    ("postgres", Product::Postgres),
    ("postgresql", Product::Postgres),
    ("postgis", Product::Postgres),
    ("pgvector", Product::Postgres),
    ("timescaledb", Product::Postgres),
    ("timescaledb-ha", Product::Postgres),
    ("pgbouncer", Product::Pgbouncer),
    ("redis", Product::Redis),
    ("redis-stack", Product::Redis),
    ("redis-stack-server", Product::Redis),
    ("valkey", Product::Redis),
    ("keydb", Product::Redis),
    ("dragonfly", Product::Redis),
    ("rabbitmq", Product::Rabbitmq),
    ("nginx", Product::Nginx),
    ("nginx-unprivileged", Product::Nginx),
    ("nginx-proxy", Product::Nginx),
    ("openresty", Product::Nginx),
    ("prometheus", Product::Prometheus),
    ("alertmanager", Product::Alertmanager),
    ("loki", Product::Loki),
    ("alloy", Product::Alloy),
    ("promtail", Product::Promtail),
    ("grafana", Product::Grafana),
    ("grafana-oss", Product::Grafana),
    ("grafana-enterprise", Product::Grafana),
];

fn lookup(table: &[(&str, Product)], name: &str) -> Option<Product> {
    table.iter().find(|(known, _)| *known == name).map(|(_, product)| *product)
}

/// Product of a program, by its name.
#[must_use]
pub fn product_of_program(name: &str) -> Option<Product> {
    lookup(PROGRAMS, name)
}

/// Product of a container, by its image and its command line.
#[must_use]
pub fn product_of(image: &str, command: &str) -> Option<Product> {
    let repository = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let name = repository.split(':').next().unwrap_or_default();
    lookup(IMAGES, name).or_else(|| {
        // `docker-entrypoint.sh redis-server --appendonly yes`: the program is among the first words
        let program = |word: &str| product_of_program(word.trim_matches(['"', '\'']).rsplit('/').next().unwrap_or_default());
        command.split_whitespace().take(3).find_map(program)
    })
}

/// Product of a systemd unit, by its name: `redis-server.service`, `postgresql@15-main.service`. Debian's `postgresql.service` is
/// only an umbrella for the units of its clusters.
#[must_use]
pub fn product_of_unit(unit: &str) -> Option<Product> {
    let name = unit.strip_suffix(".service")?;
    let (base, instance) = name.split_once('@').map_or((name, None), |(base, instance)| (base, Some(instance)));
    match base {
        "postgresql" => instance.map(|_| Product::Postgres),
        "pgbouncer" => Some(Product::Pgbouncer),
        "redis" | "redis-server" | "valkey" | "valkey-server" | "keydb-server" | "keydb" | "dragonfly" => Some(Product::Redis),
        "rabbitmq-server" => Some(Product::Rabbitmq),
        "nginx" | "openresty" => Some(Product::Nginx),
        "prometheus" => Some(Product::Prometheus),
        "alertmanager" | "prometheus-alertmanager" => Some(Product::Alertmanager),
        "loki" => Some(Product::Loki),
        "alloy" => Some(Product::Alloy),
        "promtail" => Some(Product::Promtail),
        "grafana" | "grafana-server" => Some(Product::Grafana),
        // the PostgreSQL project's packages for Red Hat: postgresql-16.service
        other => other.strip_prefix("postgresql-")?.parse::<u8>().is_ok().then_some(Product::Postgres),
    }
}

/// `celery -A proj worker -Q a,b`, `python -m celery …`, `[celeryd: celery@host:MainProcess] -active- (worker -A proj)`.
pub(in crate::probe) fn celery_command(line: &str) -> Option<(CeleryRole, Option<String>, Vec<String>)> {
    let words: Vec<&str> = line.split(['\0', ' ', '(', ')']).filter(|w| !w.is_empty()).collect();
    let is_celery = |w: &&str| {
        *w == "celery"
            || w.ends_with("/celery")
            || w.starts_with("[celeryd")
            || w.starts_with("[celery")
            || *w == "celery.__main__"
    };
    let start = words.iter().position(is_celery)?;
    let rest = &words[start..];
    let worker = rest.contains(&"worker") || words.iter().any(|w| w.starts_with("[celeryd"));
    let beat = rest.contains(&"beat") || words.iter().any(|w| w.starts_with("[celery") && w.contains("beat"));
    let role = match (worker, beat) {
        (true, false) if rest.iter().any(|w| matches!(*w, "-B" | "--beat")) => CeleryRole::WorkerWithBeat,
        (true, _) => CeleryRole::Worker,
        (false, true) => CeleryRole::Beat,
        (false, false) => return None,
    };
    let option = |short: &str, long: &str| {
        rest.iter().enumerate().find_map(|(i, w)| {
            if *w == short || *w == long {
                rest.get(i + 1).map(|v| (*v).to_owned())
            } else {
                w.strip_prefix(long).and_then(|v| v.strip_prefix('=')).map(str::to_owned)
            }
        })
    };
    let queues = option("-Q", "--queues").map(|q| q.split(',').map(str::to_owned).collect()).unwrap_or_default();
    Some((role, option("-A", "--app"), queues))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_is_recognized_by_image_program_and_unit() {
        for (image, command, product) in [
            ("redis", "", Some(Product::Redis)),
            ("docker.io/library/redis:7.2-alpine", "docker-entrypoint.sh redis-server", Some(Product::Redis)),
            ("registry:5000/valkey/valkey@sha256:00", "", Some(Product::Redis)),
            ("svc:1", "/usr/bin/redis-server --port 6379", Some(Product::Redis)),
            ("svc:1", "\"docker-entrypoint.sh postgres\"", Some(Product::Postgres)),
            ("oliver006/redis_exporter", "/redis_exporter", None),
            ("redis/redisinsight", "node x", None),
            ("myapp", "python wait_for.py --host redis redis-server", None),
            ("rabbitmq:3-management", "", Some(Product::Rabbitmq)),
            ("edoburu/pgbouncer:1.23", "", Some(Product::Pgbouncer)),
            ("prom/prometheus:v2.53.0", "/bin/prometheus --config.file=/x", Some(Product::Prometheus)),
            ("grafana/alloy:v1.0.0", "/bin/alloy run /etc/alloy/config.alloy", Some(Product::Alloy)),
            ("svc:1", "prometheus-alertmanager --config.file=/x", Some(Product::Alertmanager)),
            ("prom/node-exporter", "/bin/node_exporter", None),
            ("prometheuscommunity/postgres-exporter", "", None),
        ] {
            assert_eq!(product_of(image, command), product, "{image} {command}");
        }
        assert_eq!(product_of_unit("postgresql@15-main.service"), Some(Product::Postgres));
        assert_eq!(product_of_unit("postgresql-16.service"), Some(Product::Postgres));
        assert_eq!((product_of_unit("postgresql.service"), product_of_unit("redis-exporter.service")), (None, None));
        assert_eq!((product_of_unit("redis.timer"), product_of_unit("redis@6380.service")), (None, Some(Product::Redis)));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(image in ".*", command in ".*") {
            let _ = (product_of(&image, &command), product_of_unit(&image));
        }
    }
}
