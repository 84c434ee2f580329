//! The data directory of a database or monitoring server, from its command line, its configuration or its packages.

use opsctl_core::model::Product;
use opsctl_core::probe::product::{product_of_program, product_of_unit, spec};
use opsctl_core::probe::systemd::Unit;
use opsctl_core::probe::{Io, blocking};

use crate::shared::servers::READ_TIMEOUT;

/// The directory of a server's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) product: Product,
    pub(super) path: String,
    /// It is configured; otherwise it is a default of packages, and the server may use another one.
    pub(super) configured: bool,
}

/// The directory of the unit's data; `None` for an unknown product.
pub(super) async fn data_directory(unit: &Unit) -> Option<Data> {
    let unit = unit.clone();
    let from = unit.name.clone();
    blocking::run("the data directory", &from, READ_TIMEOUT, move |io| find_data(io, &unit)).await.ok().flatten()
}

fn find_data(io: &Io, unit: &Unit) -> Option<Data> {
    let command = unit.service.as_ref()?.exec_start.first().map(String::as_str).unwrap_or_default();
    let program = command.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let product = product_of_unit(&unit.name).or_else(|| product_of_program(program))?;
    let configured =
        configured_data(product, &unit.name, command, unit.context.pgdata.as_deref(), &|path: &str| io.read_lossy(path).ok());
    if let Some(path) = configured {
        return Some(Data { product, path, configured: true });
    }
    let default = spec(product).data.iter().find(|path| io.is_dir(path)).or(spec(product).data.first())?;
    Some(Data { product, path: (*default).to_owned(), configured: false })
}

/// The configured data directory; `file` reads a configuration file.
fn configured_data(
    product: Product,
    unit: &str,
    command: &str,
    pgdata: Option<&str>,
    file: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let options: &[&str] = match product {
        Product::Postgres => &["-D", "--pgdata"],
        Product::Redis => &["--dir"],
        Product::Prometheus | Product::Alertmanager => &["--storage.tsdb.path", "--storage.path"],
        _ => &[],
    };
    let absolute = |path: &str| path.starts_with('/').then(|| path.trim_end_matches('/').to_owned());
    if let Some(path) = option_value(command, options).and_then(absolute) {
        return Some(path);
    }
    match product {
        Product::Postgres => {
            // Debian: postgresql@15-main.service
            let instance = unit.split_once('@').and_then(|(_, instance)| instance.strip_suffix(".service"));
            if let Some((version, cluster)) = instance.and_then(|i| i.split_once('-')) {
                let text = file(&format!("/etc/postgresql/{version}/{cluster}/postgresql.conf"))?;
                let named = setting(&text, "data_directory", '=').and_then(|path| absolute(&path));
                return Some(named.unwrap_or_else(|| format!("/var/lib/postgresql/{version}/{cluster}")));
            }
            pgdata.and_then(absolute)
        }
        Product::Redis => {
            let configuration = command.split(' ').skip(1).find(|word| word.starts_with('/'))?;
            setting(&file(configuration)?, "dir", ' ').and_then(|path| absolute(&path))
        }
        _ => None,
    }
}

/// The value of an option on a command line: `-D /data`, `--dir=/data`.
fn option_value<'c>(command: &'c str, options: &[&str]) -> Option<&'c str> {
    let words: Vec<&str> = command.split(' ').collect();
    words.iter().enumerate().find_map(|(at, word)| {
        options.iter().find_map(|option| match word.strip_prefix(*option)? {
            "" => words.get(at + 1).copied(),
            rest => rest.strip_prefix('=').or_else(|| (option.len() == 2).then_some(rest)),
        })
    })
}

/// The last value of a setting in a configuration file, without quotes and comment.
fn setting(text: &str, name: &str, separator: char) -> Option<String> {
    let value_of = |line: &str| -> Option<String> {
        let rest = line.trim().strip_prefix(name)?;
        let value = rest.trim_start().strip_prefix(separator).or_else(|| rest.strip_prefix(separator))?;
        Some(value.to_owned())
    };
    let value = text.lines().filter_map(value_of).next_back()?;
    let value = value.split('#').next().unwrap_or_default().trim();
    Some(value.trim_matches(['\'', '"']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_data_directories() {
        let file = |path: &str| -> Option<String> {
            let text = match path {
                "/etc/postgresql/15/main/postgresql.conf" => "#data_directory = '/x'\ndata_directory = '/srv/pg' # moved\n",
                "/etc/postgresql/16/a/postgresql.conf" => "port = 5433\n",
                "/etc/redis/redis.conf" => "directory x\ndir /srv/redis\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let of = |product, unit: &str, command: &str, pgdata| configured_data(product, unit, command, pgdata, &file);
        let debian = "/usr/bin/pg_ctlcluster --skip-systemctl-redirect 15-main start";
        for (product, unit, command, pgdata, expected) in [
            (Product::Postgres, "postgresql@15-main.service", debian, None, Some("/srv/pg")),
            (Product::Postgres, "postgresql@16-a.service", debian, None, Some("/var/lib/postgresql/16/a")),
            (Product::Postgres, "postgresql@14-b.service", debian, None, None),
            (Product::Postgres, "postgresql.service", "/usr/bin/postmaster -D /data/", None, Some("/data")),
            (Product::Postgres, "postgresql-16.service", "/usr/bin/postmaster -D ${PGDATA}", Some("/srv/16/"), Some("/srv/16")),
            (Product::Redis, "redis.service", "/usr/bin/redis-server /etc/redis/redis.conf", None, Some("/srv/redis")),
            (Product::Prometheus, "p.service", "/usr/bin/prometheus --storage.tsdb.path=/srv/p", None, Some("/srv/p")),
            (Product::Prometheus, "p.service", "/usr/bin/prometheus $ARGS", None, None),
            (Product::Nginx, "nginx.service", "/usr/sbin/nginx", None, None),
        ] {
            assert_eq!(of(product, unit, command, pgdata).as_deref(), expected, "{unit}: {command}");
        }
    }
}
