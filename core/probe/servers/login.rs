//! Logins. Passwords never leave the process: they have no `Serialize`, and `Debug` prints a placeholder.

use std::fmt;

use super::tls::Trust;
use crate::probe::proc::files::file_of;
use crate::probe::{Io, Redactor, environment};

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Registers it with the redactor, which removes it from everything that is shown or stored.
    #[must_use]
    pub fn new(secret: impl Into<String>, redactor: &Redactor) -> Self {
        let secret = secret.into();
        redactor.learn(&secret);
        Self(secret)
    }

    /// The plain text, to be sent to the server only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Credentials and connection parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// User or role, or `None` for the server's default.
    pub user: Option<String>,
    /// Password, if any.
    pub password: Option<Secret>,
    /// Database.
    pub database: Option<String>,
    /// Required TLS verification, if any.
    pub tls: Option<Trust>,
    /// Host name of the server in the configuration.
    pub host: Option<String>,
    /// Source: `the configuration`, `POSTGRES_PASSWORD of its container`.
    pub from: String,
}

impl Login {
    /// A user without a password.
    #[must_use]
    pub fn user(user: impl Into<String>, from: impl Into<String>) -> Self {
        Self { user: Some(user.into()), from: from.into(), ..Self::default() }
    }
}

/// Value of a variable of an environment.
#[must_use]
pub(super) fn variable<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().find_map(|e| e.strip_prefix(name)?.strip_prefix('=')).filter(|v| !v.is_empty())
}

/// A password from the first of `names` that is set, or from the file named by `NAME_FILE`, as `pid` sees it: the convention of
/// the official images.
#[must_use]
pub(super) fn password(
    io: &Io,
    environment: &[String],
    names: &[&str],
    pid: Option<i32>,
    redactor: &Redactor,
) -> Option<(Secret, String)> {
    names.iter().find_map(|name| {
        if let Some(value) = variable(environment, name) {
            return Some((Secret::new(value, redactor), (*name).to_owned()));
        }
        let path = variable(environment, &format!("{name}_FILE"))?;
        let text = file_of(io, pid?, path)?;
        Some((Secret::new(text.trim_end_matches(['\r', '\n']), redactor), format!("{name}_FILE")))
    })
}

/// Password from `~/.pgpass`: `host:port:database:user:password`, `*` for any, `\` before `:` and `\` (libpq-pgpass).
#[must_use]
pub(super) fn pgpass(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let expected = [host, &port.to_string(), database, user].map(str::to_owned);
    text.lines().filter(|l| !l.starts_with('#')).find_map(|line| {
        let fields = pgpass_fields(line);
        let (password, keys) = fields.split_last()?;
        (keys.len() == 4 && keys.iter().zip(&expected).all(|(k, w)| k == "*" || k == w)).then(|| password.clone())
    })
}

fn pgpass_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            // the password is the rest of the line
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => {
                if let (Some(last), Some(next)) = (fields.last_mut(), chars.next()) {
                    last.push(next);
                }
            }
            c => {
                if let Some(last) = fields.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    fields
}

/// A section of a connection service file (`pg_service.conf`): `host`, `port`, `user`, `password`, `dbname`.
#[must_use]
pub(super) fn service<'a>(text: &'a str, name: &str) -> Vec<(&'a str, &'a str)> {
    let heading = format!("[{name}]");
    let lines = text.lines().map(str::trim).skip_while(|l| *l != heading).skip(1).take_while(|l| !l.starts_with('['));
    lines.filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect()
}

/// Server of the libpq environment: `PGSERVICE` (with its service file), `PGHOST` and `PGPORT`. Returns its address and login, or
/// `None` if no variable is set.
#[must_use]
pub fn libpq_server(io: &Io, redactor: &Redactor) -> Option<((String, u16), Login)> {
    let from_service = environment("PGSERVICE").and_then(|name| {
        let named = environment("PGSERVICEFILE").or_else(|| Some(format!("{}/.pg_service.conf", environment("HOME")?)));
        let system = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
        let files = [named, Some(format!("{system}/pg_service.conf"))];
        let texts = files.into_iter().flatten().filter_map(|path| own_file(io, &path).ok());
        texts
            .map(|t| service(&t, &name).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>())
            .find(|s| !s.is_empty())
    });
    let setting = |key: &str, variable: &str| {
        let of_service = from_service.as_ref().and_then(|s| s.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()));
        of_service.or_else(|| environment(variable).filter(|v| !v.is_empty()))
    };
    let host = setting("host", "PGHOST")?;
    let port = setting("port", "PGPORT").and_then(|p| p.parse().ok()).unwrap_or(5432);
    let login = Login {
        user: setting("user", "PGUSER"),
        password: setting("password", "PGPASSWORD").map(|p| Secret::new(p, redactor)),
        database: setting("dbname", "PGDATABASE"),
        tls: Trust::of_sslmode(&setting("sslmode", "PGSSLMODE").unwrap_or_default(), setting("sslrootcert", "PGSSLROOTCERT")),
        host: Some(host.clone()).filter(|h| !h.starts_with('/')),
        from: if from_service.is_some() { "PGSERVICE" } else { "the libpq environment" }.to_owned(),
    };
    Some(((host, port), login))
}

/// A password from a dedicated file, without the line break.
pub fn secret_file(io: &Io, path: &str, redactor: &Redactor) -> Result<Secret, String> {
    let text = own_file(io, path).map_err(|e| format!("the password file {path} is not used: {e}"))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']), redactor))
}

/// Content of the applicable password file.
#[must_use]
pub(super) fn pgpass_text(io: &Io) -> Option<String> {
    let named = environment("PGPASSFILE");
    let path = named.or_else(|| Some(format!("{}/.pgpass", environment("HOME")?)))?;
    own_file(io, &path).ok()
}

/// Size limit of a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 1 << 20;

/// A small file that decides how opsctl itself logs in, such as a password file. It belongs to this user or root, and for root so
/// does every directory above it.
pub(super) fn own_file(_io: &Io, path: &str) -> Result<String, crate::probe::io::trusted::TrustError> {
    crate::probe::io::trusted::read_to_string(std::path::Path::new(path), MAX_SECRET_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn secret_is_not_printed() {
        let redactor = Redactor::default();
        let login = Login { password: Some(Secret::new("hunter2-canary", &redactor)), ..Login::user("app", "x") };
        assert!(!format!("{login:?}").contains("canary"));
        assert!(!redactor.scrub("says hunter2-canary").contains("canary"));
    }

    #[test]
    fn pgpass_escapes_and_wildcards_are_parsed() {
        let text = "# comment\ndb:5432:app:other:no\n*:5432:*:app:pa\\:ss\\\\:x\nshort:line\n";
        assert_eq!(pgpass(text, "db", 5432, "app", "app").as_deref(), Some("pa:ss\\:x"));
        assert_eq!(pgpass(text, "db", 5433, "app", "app"), None);
    }

    #[test]
    fn service_section_is_parsed() {
        let text = "[a]\nhost=x\n[prod]\n# c\nhost = db\nport=5433\n\n[b]\nhost=y\n";
        assert_eq!(service(text, "prod"), [("host", "db"), ("port", "5433")]);
        assert!(service(text, "none").is_empty());
    }

    #[test]
    fn first_password_that_is_set_is_used() {
        let environment = ["A_PASSWORD=".to_owned(), "B_PASSWORD=secret-value".to_owned()];
        let (secret, from) =
            password(&Io::for_test(), &environment, &["A_PASSWORD", "B_PASSWORD"], None, &Redactor::default()).unwrap();
        assert_eq!((secret.reveal(), from.as_str()), ("secret-value", "B_PASSWORD"));
    }
}
