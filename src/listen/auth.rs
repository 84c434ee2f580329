//! Who may call: a token, or a signature of the body. Both are compared in constant time.

use std::path::{Path, PathBuf};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{self, HMAC_SHA256, Key, Tag};
use ring::rand::SystemRandom;

use crate::config::Listen;

/// Shorter ones can be guessed, in characters (128 bits of hexadecimal digits are 32; judgement).
const SHORTEST: usize = 16;

/// How old a signed request may be, in seconds.
const OLDEST_S: u64 = 300;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file.
    #[error("reading {path} of [listen]: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// What is in it.
    #[error(
        "{path} of [listen] holds less than {SHORTEST} characters, which can be guessed; for example `openssl rand -hex 32 > {path}`"
    )]
    Short {
        /// Which file.
        path: PathBuf,
    },
    /// Randomness.
    #[error("the kernel gives no random numbers")]
    Random,
}

/// What callers have to know.
pub struct Keys {
    /// A key of this process, and what the token is under it: comparing tags takes as long for every guess.
    token: Option<(Key, Tag)>,
    secret: Option<Key>,
    header: String,
    timestamp_header: Option<String>,
}

impl Keys {
    /// Reads the files that the configuration names.
    pub fn read(listen: &Listen) -> Result<Self, AuthError> {
        let token = listen.token_file.as_deref().map(secret).transpose()?;
        let secret = listen.hmac_secret_file.as_deref().map(secret).transpose()?;
        Self::new(token.as_deref(), secret.as_deref(), &listen.hmac_header, listen.hmac_timestamp_header.clone())
    }

    fn new(token: Option<&str>, secret: Option<&str>, header: &str, timestamp: Option<String>) -> Result<Self, AuthError> {
        let token = token.map(|token| {
            let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).map_err(|_| AuthError::Random)?;
            let tag = hmac::sign(&key, token.as_bytes());
            Ok((key, tag))
        });
        Ok(Self {
            token: token.transpose()?,
            secret: secret.map(|s| Key::new(HMAC_SHA256, s.as_bytes())),
            header: header.to_owned(),
            timestamp_header: timestamp,
        })
    }

    /// Anybody may call.
    #[must_use]
    pub fn are_open(&self) -> bool {
        self.token.is_none() && self.secret.is_none()
    }

    /// Whether the headers alone show who it is.
    pub(super) fn token_fits(&self, headers: &HeaderMap) -> bool {
        let Some((key, tag)) = &self.token else { return self.are_open() };
        let given = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(given_token);
        hmac::verify(key, given.unwrap_or_default().as_bytes(), tag.as_ref()).is_ok()
    }

    /// Whether a body that is worth reading could still show it.
    pub(super) fn wants_signature(&self, headers: &HeaderMap) -> bool {
        self.secret.is_some() && headers.contains_key(&self.header)
    }

    /// Whether the body is signed.
    pub(super) fn signature_fits(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> bool {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let (Some(key), Some(given)) = (&self.secret, text(&self.header).and_then(unhex)) else { return false };
        match &self.timestamp_header {
            None => hmac::verify(key, body, &given).is_ok(),
            Some(name) => {
                let Some(moment) = text(name) else { return false };
                let fresh = moment.parse::<i64>().is_ok_and(|at| now_s.abs_diff(at) <= OLDEST_S);
                let signed = [moment.as_bytes(), b":", body].concat();
                hmac::verify(key, &signed, &given).is_ok() && fresh
            }
        }
    }
}

fn secret(path: &Path) -> Result<String, AuthError> {
    let text = std::fs::read_to_string(path).map_err(|source| AuthError::Read { path: path.to_owned(), source })?;
    let text = text.trim();
    if text.chars().count() < SHORTEST { Err(AuthError::Short { path: path.to_owned() }) } else { Ok(text.to_owned()) }
}

/// The token of `Bearer TOKEN`, or the password of `Basic` (older Grafana knows nothing else).
pub(crate) fn given_token(header: &str) -> Option<String> {
    let (kind, rest) = header.split_once(' ')?;
    match kind.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.trim().to_owned()),
        "basic" => {
            let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
            decoded.split_once(':').map(|(_, password)| password.to_owned())
        }
        _ => None,
    }
}

/// Bytes of hexadecimal digits, with or without `sha256=` in front.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("sha256=").unwrap_or(text);
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fmt::Write as _;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (axum::http::HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    fn hex(tag: &Tag) -> String {
        tag.as_ref().iter().fold(String::new(), |mut out, b| {
            write!(out, "{b:02x}").unwrap();
            out
        })
    }

    #[test]
    fn only_the_token_opens() {
        let keys = Keys::new(Some(TOKEN), None, "x-signature", None).unwrap();
        let fits = |value: &str| keys.token_fits(&headers(&[("authorization", value)]));
        assert!(fits("Bearer 0123456789abcdef") && fits("bearer  0123456789abcdef"));
        assert!(fits(&format!("Basic {}", STANDARD.encode(format!("grafana:{TOKEN}")))));
        for wrong in ["Bearer 0123456789abcdeF", "Bearer ", "Bearer", "0123456789abcdef", "Basic !!!", "Digest x"] {
            assert!(!fits(wrong), "{wrong}");
        }
        assert!(!keys.token_fits(&HeaderMap::new()) && !keys.are_open());
        assert!(Keys::new(None, None, "x", None).unwrap().token_fits(&HeaderMap::new()));
    }

    #[test]
    fn a_signature_is_of_this_body_and_of_now() {
        let sign = |text: &[u8]| hex(&hmac::sign(&Key::new(HMAC_SHA256, TOKEN.as_bytes()), text));
        let keys = Keys::new(None, Some(TOKEN), "x-signature", None).unwrap();
        let good = sign(b"body");
        for value in [good.clone(), format!("sha256={good}")] {
            assert!(keys.signature_fits(&headers(&[("x-signature", &value)]), b"body", 0));
        }
        assert!(!keys.signature_fits(&headers(&[("x-signature", &good)]), b"Body", 0));
        for wrong in ["", "zz", "é", "00"] {
            let given = axum::http::HeaderValue::from_bytes(wrong.as_bytes()).unwrap();
            let map = HeaderMap::from_iter([(axum::http::HeaderName::from_static("x-signature"), given)]);
            assert!(!keys.signature_fits(&map, b"body", 0), "{wrong}");
        }
        let timed = Keys::new(None, Some(TOKEN), "x-signature", Some("x-time".into())).unwrap();
        let good = sign(b"1000:body");
        let at = |now| timed.signature_fits(&headers(&[("x-signature", &good), ("x-time", "1000")]), b"body", now);
        assert!(at(1000) && at(1300) && !at(1301));
        assert!(!timed.signature_fits(&headers(&[("x-signature", &good)]), b"body", 1000));
    }

    #[test]
    fn a_short_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "short\n").unwrap();
        assert!(matches!(secret(&path), Err(AuthError::Short { .. })));
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert_eq!(secret(&path).unwrap(), TOKEN);
    }
}
