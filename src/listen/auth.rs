//! Authentication of clients: a token, or a signature of timestamp and body. Both are compared in constant time.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{self, HMAC_SHA256, Key, Tag};
use ring::rand::SystemRandom;

use super::token::{MIN_SECRET_CHARS, secret, token_in_force};
use crate::config::Config;

/// Maximum number of digits of a timestamp in seconds: until the year 5138.
const MAX_TIMESTAMP_DIGITS: usize = 11;

/// Length of a signature in bytes.
const SIGNATURE_BYTES: usize = 32;

/// Reason why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file cannot be read.
    #[error("reading {path} of [listen]: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file cannot be created.
    #[error("creating {path} of [listen]: {source}")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Other users can read or replace the secret.
    #[error("{path} of [listen] is not safe: {why}")]
    Unsafe {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// The secret can be guessed.
    #[error(
        "{path} of [listen] holds less than {MIN_SECRET_CHARS} characters, which can be guessed; for example `openssl rand -hex 32 > {path}`"
    )]
    Short {
        /// Path of the file.
        path: PathBuf,
    },
    /// No random numbers.
    #[error("the kernel returns no random numbers")]
    Random,
}

/// Token and secret of the clients.
pub struct Keys {
    /// A key of this process, and the tag of the token under it: comparing tags takes equally long for every guess.
    token: Option<(Key, Tag)>,
    secret: Option<Key>,
    header: HeaderName,
    timestamp_header: HeaderName,
    window: Duration,
}

/// The signature of a request, not yet compared with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    tag: Vec<u8>,
    timestamp: String,
    at_s: i64,
}

impl Signature {
    /// The signature itself, used to detect replays.
    pub(super) fn tag(&self) -> &[u8] {
        &self.tag
    }

    /// The signed timestamp, in seconds since 1970.
    pub(super) fn at_s(&self) -> i64 {
        self.at_s
    }
}

impl Keys {
    /// Reads the files named in the configuration.
    pub fn read(config: &Config) -> Result<Self, AuthError> {
        let token = token_in_force(config).as_deref().map(secret).transpose()?;
        let listen = &config.listen;
        let signing = listen.hmac_secret_file.as_deref().map(secret).transpose()?;
        let headers = (listen.hmac_header.clone(), listen.hmac_timestamp_header.clone());
        Self::new(token.as_deref(), signing.as_deref(), headers, listen.hmac_window)
    }

    fn new(
        token: Option<&str>,
        secret: Option<&str>,
        (header, timestamp_header): (HeaderName, HeaderName),
        window: Duration,
    ) -> Result<Self, AuthError> {
        let token = token.map(|token| {
            let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).map_err(|_| AuthError::Random)?;
            let tag = hmac::sign(&key, token.as_bytes());
            Ok((key, tag))
        });
        let secret = secret.map(|s| Key::new(HMAC_SHA256, s.as_bytes()));
        Ok(Self { token: token.transpose()?, secret, header, timestamp_header, window })
    }

    /// Whether no client could be authenticated over TCP.
    #[must_use]
    pub fn are_missing(&self) -> bool {
        self.token.is_none() && self.secret.is_none()
    }

    /// Whether clients may sign their requests.
    pub(super) fn accept_signatures(&self) -> bool {
        self.secret.is_some()
    }

    /// Maximum distance of a signed timestamp from now, in seconds.
    pub(super) fn window_s(&self) -> i64 {
        i64::try_from(self.window.as_secs()).unwrap_or(i64::MAX)
    }

    /// Whether the request has the token.
    pub(super) fn token_fits(&self, headers: &HeaderMap) -> bool {
        let Some((key, tag)) = &self.token else { return false };
        let presented = single_value(headers, &AUTHORIZATION).and_then(bearer_token);
        hmac::verify(key, presented.unwrap_or_default().as_bytes(), tag.as_ref()).is_ok()
    }

    /// The signature of a request if its headers can be those of one: the body is read only in that case. The error is sent to the
    /// client.
    pub(super) fn signature(&self, headers: &HeaderMap, now_s: i64) -> Result<Option<Signature>, &'static str> {
        if self.secret.is_none() || !headers.contains_key(&self.header) {
            return Ok(None);
        }
        let decoded = single_value(headers, &self.header).and_then(unhex).filter(|tag| tag.len() == SIGNATURE_BYTES);
        let tag = decoded.ok_or("the signature is not the hexadecimal form of an HMAC-SHA256")?;
        let timestamp = single_value(headers, &self.timestamp_header).ok_or("the signature has no timestamp")?;
        // digits only: a number has one spelling, and the separator of the signed text is no part of it
        let digits =
            !timestamp.is_empty() && timestamp.len() <= MAX_TIMESTAMP_DIGITS && timestamp.bytes().all(|b| b.is_ascii_digit());
        let at_s = timestamp.parse::<i64>().ok().filter(|_| digits).ok_or("the timestamp is not a number of seconds")?;
        if now_s.abs_diff(at_s) > self.window.as_secs() {
            return Err("the timestamp of the signature is too far from the clock of this host");
        }
        Ok(Some(Signature { tag, timestamp: timestamp.to_owned(), at_s }))
    }

    /// Whether the signature matches this body.
    pub(super) fn verifies(&self, signature: &Signature, body: &[u8]) -> bool {
        let Some(key) = &self.secret else { return false };
        let signed = [signature.timestamp.as_bytes(), b":", body].concat();
        hmac::verify(key, &signed, &signature.tag).is_ok()
    }
}

/// The value of a header that occurs once: of two, a proxy in front may have read the other.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// The token of `Bearer TOKEN`, or the password of `Basic` (older Grafana supports only that).
pub(crate) fn bearer_token(header: &str) -> Option<String> {
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
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::quantity;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const WINDOW: Duration = Duration::from_secs(300);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        map
    }

    fn names() -> (HeaderName, HeaderName) {
        (HeaderName::from_static("x-signature"), HeaderName::from_static("x-time"))
    }

    fn signing() -> Keys {
        Keys::new(None, Some(TOKEN), names(), WINDOW).unwrap()
    }

    fn sign(text: &str) -> String {
        quantity::hex(hmac::sign(&Key::new(HMAC_SHA256, TOKEN.as_bytes()), text.as_bytes()).as_ref())
    }

    /// Whether a request with these headers and this body is accepted at this time.
    fn accepts(pairs: &[(&'static str, &str)], body: &str, now_s: i64) -> bool {
        let keys = signing();
        let signature = keys.signature(&headers(pairs), now_s).ok().flatten();
        signature.is_some_and(|signature| keys.verifies(&signature, body.as_bytes()))
    }

    #[test]
    fn only_the_exact_token_is_accepted() {
        let keys = Keys::new(Some(TOKEN), None, names(), WINDOW).unwrap();
        let fits = |value: &str| keys.token_fits(&headers(&[("authorization", value)]));
        assert!(fits("Bearer 0123456789abcdef") && fits("bearer  0123456789abcdef"));
        assert!(fits(&format!("Basic {}", STANDARD.encode(format!("grafana:{TOKEN}")))));
        for wrong in ["Bearer 0123456789abcdeF", "Bearer ", "Bearer", "0123456789abcdef", "Basic !!!", "Digest x"] {
            assert!(!fits(wrong), "{wrong}");
        }
        assert!(!keys.token_fits(&HeaderMap::new()) && !keys.are_missing());
        let twice = headers(&[("authorization", "Bearer x"), ("authorization", "Bearer 0123456789abcdef")]);
        assert!(!keys.token_fits(&twice));
    }

    #[test]
    fn absent_token_matches_no_request() {
        let keys = Keys::new(None, None, names(), WINDOW).unwrap();
        assert!(keys.are_missing());
        for map in [HeaderMap::new(), headers(&[("authorization", "Bearer ")]), headers(&[("authorization", "Basic Og==")])] {
            assert!(!keys.token_fits(&map));
        }
    }

    #[test]
    fn signature_covers_timestamp_and_body() {
        let good = sign("1000:body");
        for value in [good.clone(), format!("sha256={good}"), good.to_uppercase()] {
            assert!(accepts(&[("x-signature", &value), ("x-time", "1000")], "body", 1000));
        }
        assert!(!accepts(&[("x-signature", &good), ("x-time", "1000")], "Body", 1000));
        assert!(!accepts(&[("x-signature", &good), ("x-time", "1001")], "body", 1000));
    }

    #[test]
    fn signature_of_the_body_alone_is_refused() {
        let old = sign("body");
        assert!(!accepts(&[("x-signature", &old)], "body", 0));
        assert!(!accepts(&[("x-signature", &old), ("x-time", "0")], "body", 0));
        // a timestamp in the body does not count
        assert!(!accepts(&[("x-signature", &sign("1000:body"))], "1000:body", 1000));
    }

    #[test]
    fn signature_is_accepted_within_the_window_on_both_sides() {
        let good = sign("1000:body");
        let at = |now| accepts(&[("x-signature", &good), ("x-time", "1000")], "body", now);
        assert!(at(700) && at(1000) && at(1300));
        assert!(!at(699) && !at(1301) && !at(i64::MAX) && !at(i64::MIN));
    }

    #[test]
    fn malformed_signatures_and_timestamps_are_refused() {
        let good = sign("1000:body");
        for wrong in ["", "zz", "00", &good[2..], &format!("{good}00"), "+1+1"] {
            assert!(signing().signature(&headers(&[("x-signature", wrong), ("x-time", "1000")]), 1000).is_err(), "{wrong}");
        }
        for wrong in ["", "+1000", "-1000", "1000.0", " 1000x", "1e3", "100000000000000000000"] {
            let signed = sign(&format!("{wrong}:body"));
            assert!(!accepts(&[("x-signature", &signed), ("x-time", wrong)], "body", 1000), "{wrong}");
        }
        let twice = [("x-signature", good.as_str()), ("x-time", "1"), ("x-time", "1000")];
        assert!(!accepts(&twice, "body", 1000));
        assert_eq!(signing().signature(&HeaderMap::new(), 0), Ok(None));
    }
}
