//! `[[server]]`: address and credentials of a server. Secrets are read when they are needed, and not stored.

use opsctl_core::model::Product;
use opsctl_core::model::address::without_brackets;
use opsctl_core::probe::product::PRODUCTS;
use opsctl_core::probe::servers::{Login, Secret, Trust, default_port, secret_file};
use opsctl_core::probe::{Io, Redactor, environment};
use url::Url;

use super::names::did_you_mean;
use super::problem::ValidationError;
use super::raw;

/// A validated server of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The name in `opsctl targets`, or any name.
    pub name: String,
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    password_file: Option<String>,
}

/// A [`Server`] with substituted variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Product, host and port; `None` if the server is discovered by its name.
    pub address: Option<(Product, String, u16)>,
    /// Credentials.
    pub login: Login,
}

/// All schemes with their product, and whether they require TLS.
fn schemes() -> impl Iterator<Item = (&'static str, Product, bool)> {
    PRODUCTS.iter().flat_map(|row| row.schemes.iter().map(|(scheme, tls)| (*scheme, row.product, *tls)))
}

/// Validates one entry.
pub(super) fn validate(raw: &raw::Server) -> Result<Server, ValidationError> {
    let name = raw.name.get_ref().clone();
    if name.is_empty() {
        return Err(ValidationError::new(raw.name.span(), "`name` in [[server]]: empty"));
    }
    if let Some(url) = &raw.url {
        // a variable may contain anything except syntax
        let shape = fill(url.get_ref(), &|_| Some("1".to_owned()))
            .map_err(|e| ValidationError::new(url.span(), format!("`url` in [[server]]: {e}")))?;
        parse_url(&shape).map_err(|e| ValidationError::new(url.span(), format!("`url` in [[server]]: {e}")))?;
    }
    if let (Some(password), Some(_)) = (&raw.password, &raw.password_file) {
        return Err(ValidationError::new(password.span(), "`password` in [[server]]: `password_file` is set too; one of them"));
    }
    Ok(Server {
        name,
        url: raw.url.as_ref().map(|u| u.get_ref().clone()),
        user: raw.user.clone(),
        password: raw.password.as_ref().map(|p| p.get_ref().clone()),
        password_file: raw.password_file.clone(),
    })
}

impl Server {
    /// Substitutes variables and reads the password file. The error names the missing item.
    pub fn resolve(&self, io: &Io, redactor: &Redactor) -> Result<Resolved, String> {
        let fill = |text: &str| fill(text, &environment).map_err(|e| format!("[[server]] {}: {e}", self.name));
        let mut resolved = Resolved { address: None, login: Login { from: "the configuration".to_owned(), ..Login::default() } };
        if let Some(url) = &self.url {
            let (url, product, tls) =
                parse_url(&encoded(url, &environment).map_err(|e| format!("[[server]] {}: {e}", self.name))?)?;
            let host = url.host_str().map(|host| without_brackets(host).to_owned());
            let port = url.port().unwrap_or_else(|| default_port(product));
            resolved.address = Some((product, host.clone().unwrap_or_else(|| "localhost".to_owned()), port));
            let login = &mut resolved.login;
            login.host = host;
            login.tls = trust(&url, product, tls);
            login.user = Some(decoded(url.username())).filter(|u| !u.is_empty());
            login.password = url.password().map(|p| Secret::new(decoded(p), redactor));
            // the database of a Redis URL is a number, and all databases are inspected
            login.database =
                Some(decoded(url.path().trim_start_matches('/'))).filter(|d| !d.is_empty() && product != Product::Redis);
        }
        if let Some(user) = &self.user {
            resolved.login.user = Some(fill(user)?);
        }
        if let Some(password) = &self.password {
            resolved.login.password = Some(Secret::new(fill(password)?, redactor));
        }
        if let Some(path) = &self.password_file {
            resolved.login.password =
                Some(secret_file(io, path, redactor).map_err(|e| format!("[[server]] {}: {e}", self.name))?);
        }
        Ok(resolved)
    }
}

/// Verification of the server: TLS schemes verify the certificate, PostgreSQL according to `sslmode`; `sslrootcert` names the CAs.
fn trust(url: &Url, product: Product, tls: bool) -> Option<Trust> {
    let value = |key: &str| url.query_pairs().find(|(k, _)| k == key).map(|(_, v)| v.into_owned());
    let authorities = value("sslrootcert").filter(|r| r != "system");
    match product {
        Product::Postgres | Product::Pgbouncer => Trust::of_sslmode(&value("sslmode").unwrap_or_default(), authorities),
        _ => tls.then_some(Trust::Verified { authorities, name: true }),
    }
}

pub(super) fn parse_url(url: &str) -> Result<(Url, Product, bool), String> {
    // errors of the URL parser contain no part of the URL, which can include a password
    let parsed =
        Url::parse(url).map_err(|e| format!("not a URL such as `postgres://user:${{PASSWORD}}@host:5432/database`: {e}"))?;
    let Some((_, product, tls)) = schemes().find(|(scheme, ..)| *scheme == parsed.scheme()) else {
        let hint = did_you_mean(parsed.scheme(), schemes().map(|(s, ..)| s));
        let known: Vec<String> = schemes().map(|(scheme, ..)| format!("{scheme}://")).collect();
        return Err(format!("`{}://` is none of {}{hint}", parsed.scheme(), known.join(", ")));
    };
    Ok((parsed, product, tls))
}

/// Replaces `${NAME}`; the error names the variable that is not set.
pub fn fill(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { return Err("`${` without `}`".to_owned()) };
        out.push_str(before);
        out.push_str(&value(name).ok_or_else(|| format!("environment variable {name} is not set"))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// [`fill`] for a URL: percent-encodes the values, as a password may contain URL syntax.
fn encoded(url: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let encode =
        |text: String| -> String {
            text.bytes()
                .map(|b| {
                    if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                        char::from(b).to_string()
                    } else {
                        format!("%{b:02X}")
                    }
                })
                .collect()
        };
    fill(url, &|name| value(name).map(encode))
}

/// `%41` is `A`.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|h| u8::from_str_radix(h, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn variables_in_a_url_may_contain_any_character() {
        let value = |name: &str| (name == "PW").then(|| "p@ss:w/rd%".to_owned());
        let (url, product, _) = parse_url(&encoded("postgres://app:${PW}@db:5433/app?sslmode=require", &value).unwrap()).unwrap();
        assert_eq!(
            (product, decoded(url.password().unwrap()).as_str(), url.port()),
            (Product::Postgres, "p@ss:w/rd%", Some(5433))
        );
        assert_eq!(encoded("redis://:${NO}@x", &value), Err("environment variable NO is not set".to_owned()));
        assert_eq!(fill("${PW", &value), Err("`${` without `}`".to_owned()));
    }

    #[test]
    fn unknown_scheme_suggests_the_nearest() {
        assert!(parse_url("postgre://x").unwrap_err().contains("did you mean `postgres`"));
        assert!(parse_url("not a url").unwrap_err().starts_with("not a URL"));
    }
}
