//! The server products: one row for each, and their recognition by program, image or unit.

use crate::model::{CeleryRole, Product};

/// A server product.
#[derive(Debug)]
pub struct ProductSpec {
    /// The product.
    pub product: Product,
    /// Its name in texts.
    pub name: &'static str,
    /// Its default port.
    pub port: u16,
    /// Directories of its data in packages of distributions.
    pub data: &'static [&'static str],
    /// Patterns of its own log files in packages of distributions, for products that do not log to the journal.
    pub logs: &'static [&'static str],
    /// Its programs, by their name in `/proc/<pid>/comm`.
    pub programs: &'static [&'static str],
    /// Its images, by the last part of their name; exporters and consoles have other names.
    pub images: &'static [&'static str],
    /// Its systemd services, without instance and suffix.
    pub units: &'static [&'static str],
    /// The users that packages and official images create for it.
    pub users: &'static [&'static str],
    /// Schemes of URLs in `[[server]]`, and whether they require TLS.
    pub schemes: &'static [(&'static str, bool)],
    /// Whether these arguments (separated by NUL, or rewritten as a title) are those of a server in service.
    pub serves: fn(&str) -> bool,
    /// Whether a restart is left to the operator: it recovers, loses data in memory, or leaves a cluster.
    pub restart_by_hand: bool,
    /// Path of its readiness endpoint; empty if it has none over HTTP.
    pub ready: &'static str,
}

/// All products.
pub static PRODUCTS: &[ProductSpec] = &[
    ProductSpec {
        product: Product::Postgres,
        name: "PostgreSQL",
        port: 5432,
        data: &["/var/lib/postgresql", "/var/lib/pgsql"],
        logs: &["/var/log/postgresql/*.log", "/var/lib/pgsql/data/log/*.log"],
        // `postmaster`: Red Hat's packages. Debian's unit postgresql.service is only an umbrella for those of its clusters, see [`product_of_unit`]
        programs: &["postgres", "postmaster"],
        images: &["postgres", "postgresql", "postgis", "pgvector", "timescaledb", "timescaledb-ha"],
        units: &[],
        users: &["postgres", "pgsql", "postgresql"],
        schemes: &[("postgres", false), ("postgresql", false)],
        serves: postgres_serves,
        restart_by_hand: true,
        ready: "",
    },
    ProductSpec {
        product: Product::Pgbouncer,
        name: "PgBouncer",
        port: 6432,
        data: &[],
        logs: &["/var/log/postgresql/pgbouncer.log", "/var/log/pgbouncer/*.log"],
        programs: &["pgbouncer"],
        images: &["pgbouncer"],
        units: &["pgbouncer"],
        users: &["pgbouncer", "postgres"],
        schemes: &[("pgbouncer", false)],
        serves: always,
        restart_by_hand: false,
        ready: "",
    },
    ProductSpec {
        product: Product::Redis,
        name: "Redis",
        port: 6379,
        data: &["/var/lib/redis", "/var/lib/valkey"],
        logs: &["/var/log/redis/*.log", "/var/log/valkey/*.log"],
        programs: &["redis-server", "valkey-server", "keydb-server", "dragonfly"],
        images: &["redis", "redis-stack", "redis-stack-server", "valkey", "keydb", "dragonfly"],
        units: &["redis", "redis-server", "valkey", "valkey-server", "keydb-server", "keydb", "dragonfly"],
        users: &["redis", "valkey", "keydb", "dragonfly", "dfly"],
        schemes: &[("redis", false), ("rediss", true), ("valkey", false)],
        serves: redis_serves,
        restart_by_hand: true,
        ready: "",
    },
    ProductSpec {
        product: Product::Rabbitmq,
        name: "RabbitMQ",
        port: 5672,
        data: &["/var/lib/rabbitmq"],
        logs: &["/var/log/rabbitmq/rabbit@*.log"],
        // the Erlang virtual machine runs other programs too: its arguments decide
        programs: &["beam.smp", "rabbitmq-server"],
        images: &["rabbitmq"],
        units: &["rabbitmq-server"],
        users: &["rabbitmq"],
        schemes: &[("amqp", false), ("amqps", true)],
        serves: rabbitmq_serves,
        restart_by_hand: true,
        ready: "",
    },
    ProductSpec {
        product: Product::Nginx,
        name: "nginx",
        port: 80,
        data: &[],
        logs: &["/var/log/nginx/error.log"],
        programs: &["nginx", "openresty"],
        images: &["nginx", "nginx-unprivileged", "nginx-proxy", "openresty"],
        units: &["nginx", "openresty"],
        users: &["nginx", "openresty"],
        schemes: &[],
        serves: nginx_serves,
        restart_by_hand: false,
        ready: "",
    },
    ProductSpec {
        product: Product::Prometheus,
        name: "Prometheus",
        port: 9090,
        data: &["/var/lib/prometheus"],
        logs: &[],
        programs: &["prometheus"],
        images: &["prometheus"],
        units: &["prometheus"],
        users: &["prometheus"],
        schemes: &[("prometheus", false), ("prometheus+https", true)],
        serves: prometheus_serves,
        restart_by_hand: false,
        ready: "/-/ready",
    },
    ProductSpec {
        product: Product::Alertmanager,
        name: "Alertmanager",
        port: 9093,
        data: &["/var/lib/prometheus", "/var/lib/alertmanager"],
        logs: &[],
        // Debian's name; the kernel keeps 15 characters of it
        programs: &["alertmanager", "prometheus-aler", "prometheus-alertmanager"],
        images: &["alertmanager"],
        units: &["alertmanager", "prometheus-alertmanager"],
        users: &["alertmanager", "prometheus"],
        schemes: &[("alertmanager", false), ("alertmanager+https", true)],
        serves: prometheus_serves,
        restart_by_hand: false,
        ready: "/-/ready",
    },
    ProductSpec {
        product: Product::Loki,
        name: "Loki",
        port: 3100,
        data: &["/var/lib/loki"],
        logs: &[],
        programs: &["loki"],
        images: &["loki"],
        units: &["loki"],
        users: &["loki"],
        schemes: &[("loki", false), ("loki+https", true)],
        serves: loki_serves,
        restart_by_hand: false,
        ready: "/ready",
    },
    ProductSpec {
        product: Product::Alloy,
        name: "Alloy",
        port: 12345,
        data: &["/var/lib/alloy"],
        logs: &[],
        programs: &["alloy"],
        images: &["alloy"],
        units: &["alloy"],
        users: &["alloy"],
        schemes: &[("alloy", false)],
        serves: alloy_serves,
        restart_by_hand: false,
        ready: "/-/ready",
    },
    ProductSpec {
        product: Product::Promtail,
        name: "Promtail",
        port: 9080,
        data: &[],
        logs: &[],
        programs: &["promtail"],
        images: &["promtail"],
        units: &["promtail"],
        users: &["promtail", "loki"],
        schemes: &[],
        serves: loki_serves,
        restart_by_hand: false,
        ready: "/ready",
    },
    ProductSpec {
        product: Product::Grafana,
        name: "Grafana",
        port: 3000,
        data: &["/var/lib/grafana"],
        logs: &["/var/log/grafana/grafana.log"],
        programs: &["grafana", "grafana-server"],
        images: &["grafana", "grafana-oss", "grafana-enterprise"],
        units: &["grafana", "grafana-server"],
        users: &["grafana"],
        schemes: &[("grafana", false), ("grafana+https", true)],
        serves: grafana_serves,
        restart_by_hand: false,
        ready: "/api/health",
    },
    ProductSpec {
        product: Product::Tempo,
        name: "Tempo",
        port: 3200,
        data: &["/var/lib/tempo"],
        logs: &[],
        programs: &["tempo"],
        images: &["tempo"],
        units: &["tempo"],
        users: &["tempo"],
        schemes: &[("tempo", false), ("tempo+https", true)],
        serves: loki_serves,
        restart_by_hand: false,
        ready: "/ready",
    },
    ProductSpec {
        product: Product::Mimir,
        name: "Mimir",
        port: 8080,
        data: &["/var/lib/mimir"],
        logs: &[],
        programs: &["mimir"],
        images: &["mimir"],
        units: &["mimir"],
        users: &["mimir", "nonroot"],
        schemes: &[("mimir", false), ("mimir+https", true)],
        serves: mimir_serves,
        restart_by_hand: false,
        ready: "/ready",
    },
    ProductSpec {
        product: Product::Minio,
        name: "MinIO",
        port: 9000,
        data: &["/var/lib/minio"],
        logs: &[],
        programs: &["minio"],
        images: &["minio"],
        units: &["minio"],
        users: &["minio", "minio-user"],
        schemes: &[("minio", false), ("minio+https", true)],
        serves: minio_serves,
        restart_by_hand: true,
        // `ready` is 200 as soon as the process listens, without its drives; the quorum has a page of its own
        ready: "/minio/health/live",
    },
    ProductSpec {
        product: Product::Blackbox,
        name: "Blackbox exporter",
        port: 9115,
        data: &[],
        logs: &[],
        // the kernel keeps 15 characters of both
        programs: &["blackbox_export", "blackbox_exporter", "prometheus-blac", "prometheus-blackbox-exporter"],
        images: &["blackbox-exporter"],
        units: &["blackbox_exporter", "blackbox-exporter", "prometheus-blackbox-exporter"],
        users: &["prometheus", "blackbox_exporter", "blackbox-exporter", "nobody"],
        schemes: &[("blackbox", false), ("blackbox+https", true)],
        serves: prometheus_serves,
        restart_by_hand: false,
        ready: "/-/healthy",
    },
    ProductSpec {
        product: Product::Cadvisor,
        name: "cAdvisor",
        port: 8080,
        data: &[],
        logs: &[],
        programs: &["cadvisor"],
        images: &["cadvisor"],
        units: &["cadvisor"],
        users: &["cadvisor"],
        schemes: &[("cadvisor", false)],
        serves: cadvisor_serves,
        restart_by_hand: false,
        ready: "/healthz",
    },
];

/// The row of a product.
#[must_use]
pub fn spec(product: Product) -> &'static ProductSpec {
    // every product has a row (tested)
    PRODUCTS.iter().find(|row| row.product == product).unwrap_or(&PRODUCTS[0])
}

/// Default port of a product.
#[must_use]
pub fn default_port(product: Product) -> u16 {
    spec(product).port
}

fn has(arguments: &str, word: &str) -> bool {
    arguments.split(['\0', ' ']).any(|a| a == word)
}

fn always(_arguments: &str) -> bool {
    true
}

fn postgres_serves(arguments: &str) -> bool {
    // initdb runs these briefly
    !["--boot", "--single", "--check", "-C", "--version", "--describe-config"].into_iter().any(|word| has(arguments, word))
}

fn redis_serves(arguments: &str) -> bool {
    // a sentinel monitors servers and is not one itself
    !has(arguments, "[sentinel]") && !has(arguments, "--sentinel")
}

fn rabbitmq_serves(arguments: &str) -> bool {
    // its tools run in the same virtual machine
    arguments.replace('\0', " ").contains("-s rabbit boot")
}

fn nginx_serves(arguments: &str) -> bool {
    // workers without a master keep serving but cannot be reloaded; `-t` and `-s` exit immediately
    !arguments.starts_with("nginx: worker")
        && !arguments.starts_with("nginx: cache")
        && !["-t", "-T", "-s", "-v", "-V"].into_iter().any(|word| has(arguments, word))
}

fn alloy_serves(arguments: &str) -> bool {
    // its tools have the same name: `alloy fmt`
    has(arguments, "run")
}

fn loki_serves(arguments: &str) -> bool {
    // Debian's package `loki` is a genetics program; Grafana Loki does not start without its configuration
    arguments.contains("-config.") && !has(arguments, "-version") && !has(arguments, "--version")
}

fn mimir_serves(arguments: &str) -> bool {
    // it starts without a configuration file too
    !["-version", "--version", "-help", "-help-all", "-modules", "-config.check-syntax"]
        .into_iter()
        .any(|word| has(arguments, word))
}

fn minio_serves(arguments: &str) -> bool {
    has(arguments, "server") || has(arguments, "gateway")
}

fn cadvisor_serves(arguments: &str) -> bool {
    !["-version", "--version", "-h", "-help", "--help"].into_iter().any(|word| has(arguments, word))
}

fn grafana_serves(arguments: &str) -> bool {
    !has(arguments, "cli") && !has(arguments, "-v")
}

fn prometheus_serves(arguments: &str) -> bool {
    !["--version", "--help", "-h"].into_iter().any(|word| has(arguments, word))
}

/// Product of a program, by its name.
#[must_use]
pub fn product_of_program(name: &str) -> Option<Product> {
    PRODUCTS.iter().find(|row| row.programs.contains(&name)).map(|row| row.product)
}

/// Product of a container, by its image and its command line.
#[must_use]
pub fn product_of(image: &str, command: &str) -> Option<Product> {
    let name = image_name(image);
    let by_image = PRODUCTS.iter().find(|row| row.images.contains(&name)).map(|row| row.product);
    by_image.or_else(|| {
        // `docker-entrypoint.sh redis-server --appendonly yes`: the program is among the first words
        let program = |word: &str| product_of_program(word.trim_matches(['"', '\'']).rsplit('/').next().unwrap_or_default());
        command.split_whitespace().take(3).find_map(program)
    })
}

/// Databases and brokers that opsctl does not examine, by the last part of the name of their image. Not memcached: its data may be
/// lost at any time.
const OTHER_DATABASES: &[&str] = &[
    "arangodb",
    "cassandra",
    "clickhouse",
    "clickhouse-server",
    "cockroach",
    "consul",
    "couchbase",
    "couchdb",
    "cp-kafka",
    "cp-zookeeper",
    "elasticsearch",
    "etcd",
    "influxdb",
    "kafka",
    "mariadb",
    "mariadb-galera",
    "mongo",
    "mongodb",
    "mongodb-community-server",
    "mysql",
    "mysql-server",
    "nats",
    "neo4j",
    "opensearch",
    "percona",
    "percona-server",
    "percona-server-mongodb",
    "percona-xtradb-cluster",
    "redpanda",
    "rethinkdb",
    "scylla",
    "vault",
    "zookeeper",
];

/// Whether the restart of a container is left to the operator, by its image and its command line: a database or a broker.
#[must_use]
pub fn restart_is_by_hand(image: &str, command: &str) -> bool {
    OTHER_DATABASES.contains(&image_name(image))
        || product_of(image, command).is_some_and(|product| spec(product).restart_by_hand)
}

/// The last part of the name of an image, without registry, tag and digest.
fn image_name(image: &str) -> &str {
    let repository = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    repository.split(':').next().unwrap_or_default()
}

/// Product of a systemd unit, by its name: `redis-server.service`, `postgresql@15-main.service`. Debian's `postgresql.service` is
/// only an umbrella for the units of its clusters.
#[must_use]
pub fn product_of_unit(unit: &str) -> Option<Product> {
    let name = unit.strip_suffix(".service")?;
    let (base, instance) = name.split_once('@').map_or((name, None), |(base, instance)| (base, Some(instance)));
    if base == "postgresql" {
        return instance.map(|_| Product::Postgres);
    }
    // the PostgreSQL project's packages for Red Hat: postgresql-16.service
    if base.strip_prefix("postgresql-").is_some_and(|version| version.parse::<u8>().is_ok()) {
        return Some(Product::Postgres);
    }
    PRODUCTS.iter().find(|row| row.units.contains(&base)).map(|row| row.product)
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
    fn every_product_has_one_row() {
        for row in PRODUCTS {
            assert_eq!(PRODUCTS.iter().filter(|other| other.product == row.product).count(), 1, "{}", row.name);
            assert!(!row.programs.is_empty() && !row.users.is_empty() && row.port > 0, "{}", row.name);
        }
        // no product without a row: the error of serde lists all of them
        let error = serde_json::from_str::<Product>("\"none\"").err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(error.matches('`').count() / 2 - 1, PRODUCTS.len(), "{error}");
    }

    #[test]
    fn databases_and_brokers_are_restarted_by_hand() {
        for (image, command, by_hand) in [
            ("postgres:15", "", true),
            ("bitnami/redis@sha256:00", "", true),
            ("valkey/valkey:8", "", true),
            ("eqalpha/keydb", "", true),
            ("docker.dragonflydb.io/dragonflydb/dragonfly", "", true),
            ("svc:1", "docker-entrypoint.sh redis-server", true),
            ("docker.elastic.co/elasticsearch/elasticsearch:8.1", "", true),
            ("hashicorp/vault:1.15", "", true),
            ("memcached:1.6", "", false),
            ("prometheuscommunity/postgres-exporter", "", false),
            ("mongo-express", "", false),
            ("edoburu/pgbouncer", "", false),
            ("prom/prometheus", "", false),
            ("app:1", "python serve.py", false),
        ] {
            assert_eq!(restart_is_by_hand(image, command), by_hand, "{image}");
        }
    }

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
}
