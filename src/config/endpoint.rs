//! `[[endpoint]]`: an address to check, and the expected response.

use opsctl_core::model::address::without_brackets;
use opsctl_core::probe::endpoint::{Endpoint, Expect};
use url::Url;

use super::names::did_you_mean;
use super::problem::ValidationError;
use super::raw;

/// Supported schemes and their default ports.
const SCHEMES: &[(&str, u16)] = &[("http", 80), ("https", 443), ("tcp", 0), ("smtp", 25), ("postgres", 5432)];

/// An address of the command line: a URL, or `host:port` for TLS.
pub fn from_argument(text: &str) -> Result<Endpoint, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}/") };
    let raw = raw::Endpoint {
        url: toml::Spanned::new(0..0, url),
        expect_status: Vec::new(),
        expect_body: None,
        expect_json: std::collections::BTreeMap::new(),
        latency_ms: None,
        from: None,
        proves: None,
    };
    validate(&raw).map_err(|p| p.message.replace("`url` in [[endpoint]]: ", ""))
}

/// Validates one entry.
pub(super) fn validate(raw: &raw::Endpoint) -> Result<Endpoint, ValidationError> {
    let problem = |why: String| ValidationError::new(raw.url.span(), format!("`url` in [[endpoint]]: {why}"));
    let url =
        Url::parse(raw.url.get_ref()).map_err(|e| problem(format!("not a URL such as `https://example.org/health/`: {e}")))?;
    let Some((scheme, usual)) = SCHEMES.iter().find(|(s, _)| *s == url.scheme()) else {
        let known: Vec<String> = SCHEMES.iter().map(|(s, _)| format!("{s}://")).collect();
        let hint = did_you_mean(url.scheme(), SCHEMES.iter().map(|(s, _)| *s));
        return Err(problem(format!("`{}://` is none of {}{hint}", url.scheme(), known.join(", "))));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem("credentials in the URL are not sent; remove them".to_owned()));
    }
    let host = without_brackets(url.host_str().unwrap_or_default()).to_owned();
    if host.is_empty() {
        return Err(problem("it has no host".to_owned()));
    }
    let port = url.port().unwrap_or(*usual);
    if port == 0 {
        return Err(problem("it has no port".to_owned()));
    }
    let http = matches!(*scheme, "http" | "https");
    let expects = !raw.expect_status.is_empty() || raw.expect_body.is_some() || !raw.expect_json.is_empty();
    if !http && expects {
        return Err(problem(format!("the response of {scheme}:// is not checked: `expect_…` is for http:// and https://")));
    }
    if let Some(status) = raw.expect_status.iter().find(|s| !(100..=599).contains(s.get_ref())) {
        return Err(ValidationError::new(
            status.span(),
            format!("`expect_status` in [[endpoint]]: {} is no HTTP status (100 to 599)", status.get_ref()),
        ));
    }
    if let Some(pointer) = raw.expect_json.keys().find(|p| !p.is_empty() && !p.starts_with('/')) {
        return Err(problem(format!("`{pointer}` in `expect_json` is no JSON pointer such as `/status`")));
    }
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    let from = raw.from.clone().filter(|f| f != "host");
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let id = format!(
        "endpoint:{}{}",
        raw.url.get_ref().split('?').next().unwrap_or_default(),
        from.as_ref().map_or_else(String::new, |f| format!("@{f}"))
    );
    Ok(Endpoint {
        id,
        url: shown.to_string(),
        scheme: (*scheme).to_owned(),
        host,
        port,
        path: if path.is_empty() { "/".to_owned() } else { path },
        from,
        proves: raw.proves.clone(),
        expect: Expect {
            status: raw.expect_status.iter().map(|s| *s.get_ref()).collect(),
            body: raw.expect_body.clone(),
            json: raw.expect_json.clone(),
            ..Expect::default()
        },
        latency_ms: raw.latency_ms,
        address: None,
        headers: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::parse::parse;
    use super::*;

    fn checked(text: &str) -> Result<Endpoint, String> {
        let raw = parse(&format!("[[endpoint]]\n{text}")).unwrap();
        validate(&raw.endpoint[0]).map_err(|p| p.message)
    }

    #[test]
    fn endpoint_with_hidden_query() {
        let e =
            checked("url = \"https://Shop.example/health/?token=canary\"\nproves = \"deep health\"\nfrom = \"host\"").unwrap();
        assert_eq!(
            (e.host.as_str(), e.port, e.path.as_str(), e.url.as_str()),
            ("shop.example", 443, "/health/?token=canary", "https://shop.example/health/")
        );
        assert!(!e.id.contains("canary") && e.from.is_none());
        assert_eq!(checked("url = \"smtp://mail.example\"").unwrap().port, 25);
    }

    #[test]
    fn invalid_endpoints_are_rejected() {
        for (text, why) in [
            ("url = \"x\"", "not a URL"),
            ("url = \"htps://a/\"", "did you mean `https`"),
            ("url = \"https://u:p@a/\"", "credentials in the URL are not sent"),
            ("url = \"tcp://a\"", "it has no port"),
            ("url = \"tcp://a:1\"\nexpect_body = \"x\"", "is not checked"),
            ("url = \"http://a/\"\nexpect_status = [99]", "99 is no HTTP status"),
            ("url = \"http://a/\"\nexpect_json = { status = \"ok\" }", "no JSON pointer"),
        ] {
            let message = checked(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
