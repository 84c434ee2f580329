//! `[listen]`: addresses and authentication of `opsctl listen`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{HeaderName, Uri};
use toml::Spanned;

use super::problem::ValidationError;
use super::raw;
use super::valid::duration;

/// The validated table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// TCP address, if there is one.
    pub address: Option<SocketAddr>,
    /// Unix socket.
    pub socket: Option<PathBuf>,
    /// Users that may connect to the unix socket, besides root.
    pub socket_users: Vec<String>,
    /// Groups that may connect to the unix socket, besides its own.
    pub socket_groups: Vec<String>,
    /// File of the token.
    pub token_file: Option<PathBuf>,
    /// File of the secret for request signatures.
    pub hmac_secret_file: Option<PathBuf>,
    /// Header of the signature.
    pub hmac_header: HeaderName,
    /// Header of the signed timestamp.
    pub hmac_timestamp_header: HeaderName,
    /// Maximum difference between a signed timestamp and the current time.
    pub hmac_window: Duration,
    /// Names of this host in `Host`.
    pub hosts: Vec<String>,
    /// Accepted values of `Origin`, in lower case.
    pub origins: Vec<String>,
    /// Maximum number of queued alerts.
    pub queue: usize,
    /// Maximum number of runs per minute.
    pub runs_per_minute: usize,
    /// Time after a response during which the same alert is not handled again.
    pub repeat_after: Duration,
}

/// Validates the table.
pub(super) fn validate(raw: &raw::Listen) -> Result<Listen, ValidationError> {
    let address = match raw.address.get_ref().as_str() {
        "off" => None,
        text => Some(text.parse().map_err(|_| {
            let why = format!("`{text}` is not an address such as `127.0.0.1:9797`, nor `off`");
            problem("address", &raw.address, &why)
        })?),
    };
    if let Some(path) = raw.socket.as_ref().filter(|path| !path.get_ref().starts_with('/')) {
        return Err(problem("socket", path, "not an absolute path"));
    }
    let header = |key: &str, name: &Spanned<String>| {
        let why = if name.get_ref().is_empty() {
            "a header is required: a signature without a timestamp can be replayed".to_owned()
        } else {
            format!("`{}` is not the name of a header", name.get_ref())
        };
        name.get_ref().parse::<HeaderName>().map_err(|_| problem(key, name, &why))
    };
    let hmac_header = header("hmac_header", &raw.hmac_header)?;
    let hmac_timestamp_header = header("hmac_timestamp_header", &raw.hmac_timestamp_header)?;
    if hmac_header == hmac_timestamp_header {
        let why = "the same header as `hmac_header`";
        return Err(problem("hmac_timestamp_header", &raw.hmac_timestamp_header, why));
    }
    let time = |key: &str, text: &Spanned<String>| duration(text.get_ref()).map_err(|why| problem(key, text, &why));
    let hmac_window = time("hmac_window", &raw.hmac_window)?;
    if hmac_window < Duration::from_secs(1) {
        return Err(problem("hmac_window", &raw.hmac_window, "shorter than a second, the unit of the timestamp"));
    }
    let texts = |list: &[Spanned<String>]| list.iter().map(|text| text.get_ref().clone()).collect();
    Ok(Listen {
        address,
        socket: raw.socket.as_ref().map(|path| path.get_ref().into()),
        socket_users: texts(&raw.socket_users),
        socket_groups: texts(&raw.socket_groups),
        token_file: raw.token_file.as_ref().map(PathBuf::from),
        hmac_secret_file: raw.hmac_secret_file.as_ref().map(PathBuf::from),
        hmac_header,
        hmac_timestamp_header,
        hmac_window,
        hosts: raw.hosts.clone(),
        origins: raw.origins.iter().map(origin).collect::<Result<_, _>>()?,
        queue: usize::try_from(raw.queue.max(1)).unwrap_or(usize::MAX),
        runs_per_minute: usize::try_from(raw.runs_per_minute.max(1)).unwrap_or(usize::MAX),
        repeat_after: time("repeat_after", &raw.repeat_after)?,
    })
}

/// An origin as sent by browsers: scheme, host and port only. Rejected: `null`, the origin of any sandboxed page, and `*`.
fn origin(text: &Spanned<String>) -> Result<String, ValidationError> {
    let parsed = text.get_ref().parse::<Uri>();
    let valid = parsed.is_ok_and(|uri| {
        let whole = uri.scheme_str().zip(uri.authority()).map(|(scheme, authority)| format!("{scheme}://{authority}"));
        whole.is_some_and(|whole| whole.eq_ignore_ascii_case(text.get_ref()) && !whole.contains('*'))
    });
    let why = format!("`{}` is not an origin such as `https://ops.example.org`", text.get_ref());
    if valid { Ok(text.get_ref().to_ascii_lowercase()) } else { Err(problem("origins", text, &why)) }
}

fn problem(key: &str, value: &Spanned<String>, why: &str) -> ValidationError {
    ValidationError::new(value.span(), format!("`{key}` in [listen]: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn checked(toml: &str) -> Result<Listen, String> {
        validate(&toml::from_str(toml).unwrap()).map_err(|p| p.message)
    }

    #[test]
    fn tcp_address_can_be_switched_off() {
        assert_eq!(checked("").unwrap().address, Some(([127, 0, 0, 1], 9797).into()));
        let only_socket = checked("address = \"off\"\nsocket = \"/run/x.sock\"").unwrap();
        assert_eq!((only_socket.address, only_socket.socket), (None, Some("/run/x.sock".into())));
        assert!(checked("address = \"on\"").unwrap_err().contains("nor `off`"));
        assert!(checked("socket = \"x.sock\"").unwrap_err().contains("not an absolute path"));
    }

    #[test]
    fn signature_requires_a_timestamp() {
        for wrong in [
            "hmac_timestamp_header = \"\"",
            "hmac_timestamp_header = \"X Y\"",
            "hmac_timestamp_header = \"X-GRAFANA-Alerting-Signature\"",
        ] {
            assert!(checked(wrong).unwrap_err().contains("`hmac_timestamp_header` in [listen]"), "{wrong}");
        }
        assert!(checked("hmac_window = \"10ms\"").is_err() && checked("hmac_window = \"1s\"").is_ok());
    }

    #[test]
    fn origins_have_scheme_and_host() {
        assert_eq!(checked("origins = [\"https://Ops.example.org:8443\"]").unwrap().origins, ["https://ops.example.org:8443"]);
        for wrong in ["null", "*", "https://*", "ops.example.org", "https://ops.example.org/", "https://ops.example.org/x", ""] {
            assert!(checked(&format!("origins = [\"{wrong}\"]")).is_err(), "{wrong}");
        }
    }
}
