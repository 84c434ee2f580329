//! Secrets in addresses: the login of a URL, a token in place of a user, the path of a webhook.

use std::ops::Range;

use super::kinds::Search;
use super::values::{self, is_quote, until};

/// Limit of an address, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Limit of a login without a scheme, in bytes.
const MAX_LOGIN_BYTES: usize = 256;

/// Services with a secret in the path of their addresses, up to the beginning of the secret.
pub(super) const WEBHOOKS: &[&str] = &[
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "webhook.office.com/webhookb2/",
    "outlook.office.com/webhook/",
    "outlook.office365.com/webhook/",
    "api.telegram.org/bot",
    "hooks.zapier.com/hooks/catch/",
    "maker.ifttt.com/use/",
    "hc-ping.com/",
    "hchk.io/",
    "events.pagerduty.com/integration/",
    "open.feishu.cn/open-apis/bot/v2/hook/",
    "open.larksuite.com/open-apis/bot/v2/hook/",
    "hooks.chime.aws/incomingwebhooks/",
    "chat.googleapis.com/v1/spaces/",
    "/cgi-bin/webhook/send?",
    "/hooks/",
    "/webhook/",
    "/webhooks/",
    "/incoming-webhook/",
    "/generic-webhook-trigger/",
];

/// Whether the text is an ordinary user name of `https://user@host`.
fn is_user_name(user: &[u8]) -> bool {
    /// A token is longer.
    const MAX_USER_NAME: usize = 16;
    user.len() <= MAX_USER_NAME
        && user.iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_' | b'.'))
        && !["token", "secret", "key", "pass"].iter().any(|word| memchr::memmem::find(user, word.as_bytes()).is_some())
}

fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || is_quote(byte) || matches!(byte, b'<' | b'>' | b'\\')
}

/// The URL with its `://` at `sign`.
pub(super) fn url(search: &mut Search<'_>, sign: usize) {
    let text = search.text;
    let scheme_at = scheme_start(text, sign);
    let scheme = text[scheme_at..sign].to_ascii_lowercase();
    if scheme.is_empty() {
        return;
    }
    let from = sign + 3;
    let limit = text.len().min(from + MAX_URL_BYTES);
    let mut end = until(&text[..limit], from, ends_url);
    // in a list of addresses, one ends where the next begins
    if let Some(next) = memchr::memmem::find(&text[from..end], b"://") {
        let next = scheme_start(text, from + next);
        if next > from && (next > from + 1) {
            end = next - 1;
        }
    }
    let web = matches!(scheme.rsplit(|b| *b == b'+').next(), Some(b"http" | b"https" | b"ws" | b"wss" | b"ftp" | b"git"));
    match userinfo(&text[from..end], web) {
        Some(at) => userinfo_secret(search, from..from + at, web),
        None if end == text.len() && !web => cut_login(search, from, end),
        None => {}
    }
}

/// Beginning of the scheme of the `://` at `sign`.
fn scheme_start(text: &[u8], sign: usize) -> usize {
    /// Limit of a scheme.
    const MAX_SCHEME: usize = 32;
    let from = sign.saturating_sub(MAX_SCHEME);
    let named = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text[from..sign].iter().rposition(|b| !named(b)).map_or(from, |n| from + n + 1)
}

/// Position of the `@` after the login, in the text after `://`. A password may contain any character, so that the result is not
/// always certain: for a database it is the last `@` with a host after it; on the web, where paths contain an `@` as well, a host
/// and its port come first.
fn userinfo(rest: &[u8], web: bool) -> Option<usize> {
    let authority = until(rest, 0, |b| matches!(b, b'/' | b'?' | b'#'));
    let by_rule = rest[..authority].iter().rposition(|b| *b == b'@');
    let candidates = || memchr::memchr_iter(b'@', rest).rev().filter(|at| is_host(rest, at + 1));
    let Some(at) = by_rule else {
        let colon = rest[..authority].iter().position(|b| *b == b':')?;
        let port = &rest[colon + 1..authority];
        // `host:80/path@2x.png`, `host:${PORT}/`
        let looks_like_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit) || port.starts_with(b"${");
        if colon > 0 && looks_like_port && (web || port.starts_with(b"${")) {
            return None;
        }
        return candidates().find(|at| !in_query(rest, *at, None));
    };
    let query = rest.get(authority) == Some(&b'?') && values::is_pair(rest, authority + 1);
    let host = &rest[at + 1..authority];
    let certain = web && (host.contains(&b'.') || host.contains(&b':'));
    let path = rest.get(authority + 1) == Some(&b'@');
    let found = if query || certain || (web && path) { Some(at) } else { candidates().find(|at| !in_query(rest, *at, by_rule)) };
    found.or(Some(at))
}

/// Whether this `@` is in a query: after `?name=`, if a login was found before.
fn in_query(rest: &[u8], at: usize, login: Option<usize>) -> bool {
    let from = login.unwrap_or(0);
    from < at && login.is_some() && memchr::memchr(b'?', &rest[from..at]).is_some_and(|n| values::is_pair(rest, from + n + 1))
}

/// Whether there is a host: a name, an address, or a list of them.
fn is_host(rest: &[u8], at: usize) -> bool {
    match rest.get(at) {
        // `user:password@/database`: the socket of this host
        Some(b'[' | b'/' | b'(' | b'$' | b'{') => true,
        Some(b) if b.is_ascii_alphanumeric() || *b == b'_' => {
            let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            let end = until(rest, at, |b| !named(b));
            rest.get(end)
                .is_none_or(|b| matches!(b, b':' | b'/' | b'?' | b',' | b'#' | b')' | b']' | b'}' | b';' | b'|' | b'&' | b'%'))
        }
        _ => false,
    }
}

/// The secret part of a login.
fn userinfo_secret(search: &mut Search<'_>, login: Range<usize>, web: bool) {
    let text = search.text;
    let user_end = until(&text[..login.end], login.start, |b| b == b':');
    let user = &text[login.start..user_end];
    let password = login.end.min(user_end + 1)..login.end;
    let value = &text[password.clone()];
    if !value.is_empty() {
        let reference = std::str::from_utf8(value).is_ok_and(values::is_reference);
        if value != super::REDACTED.as_bytes() && !reference && !value.iter().all(|b| *b == b'*') {
            search.add(password.start, password.end);
        }
    } else if web && !user.is_empty() && user != super::REDACTED.as_bytes() && !is_user_name(user) && !user.starts_with(b"$") {
        search.add(login.start, user_end);
    }
}

/// Parses `scheme://user:passw` at the end of a text that was cut: no port contains letters.
fn cut_login(search: &mut Search<'_>, from: usize, end: usize) {
    let rest = &search.text[from..end];
    let authority = until(rest, 0, |b| matches!(b, b'/' | b'?' | b'#' | b'['));
    let Some(colon) = memchr::memchr(b':', &rest[..authority]) else { return };
    let value = &rest[colon + 1..authority];
    let port = |b: &u8| {
        b.is_ascii_digit() || matches!(b, b',' | b':' | b'.' | b'$' | b'{' | b'}' | b'*' | b'-' | b'[' | b']' | b')' | b';')
    };
    let hosts = value.split(|b| *b == b',').skip(1).any(|host| memchr::memchr(b':', host).is_some());
    if !value.is_empty()
        && !value.iter().all(port)
        && !hosts
        && !value.starts_with(b"$")
        && !value.eq_ignore_ascii_case(b"port")
        && !search.is_redacted(from + colon + 1)
    {
        let letters = value.iter().take_while(|b| !matches!(b, b',' | b')' | b']' | b';')).any(u8::is_ascii_alphabetic);
        if letters {
            search.add(from + colon + 1, end);
        }
    }
}

/// `user:password@host:port` and `user:password@tcp(…)`, without a scheme.
pub(super) fn login(search: &mut Search<'_>, sign: usize) {
    let text = search.text;
    let from = sign.saturating_sub(MAX_LOGIN_BYTES);
    let start = text[from..sign].iter().rposition(|b| b.is_ascii_whitespace() || is_quote(*b) || *b == b'=' || *b == b'(');
    let start = start.map_or(from, |n| from + n + 1);
    let login = &text[start..sign];
    let after = &text[sign + 1..];
    let in_parentheses = after.starts_with(b"tcp(") || after.starts_with(b"unix(") || after.starts_with(b"tcp6(");
    if memchr::memmem::find(login, b"://").is_some() || login.contains(&b'@') && !in_parentheses {
        return;
    }
    let oracle = memchr::memmem::find(login, b"oracle:thin:").map(|n| n + b"oracle:thin:".len());
    let (user, sign_of_password) = oracle.map_or((0, b':'), |n| (n, b'/'));
    let Some(colon) = login[user..].iter().position(|b| *b == sign_of_password).map(|n| user + n) else { return };
    let name = &login[user..colon];
    let named = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    let host =
        until(&after[..after.len().min(MAX_LOGIN_BYTES)], 0, |b| !b.is_ascii_alphanumeric() && !matches!(b, b'.' | b'-' | b'_'));
    let port = until(&after[..after.len().min(host + 7)], (host + 1).min(after.len()), |b| !b.is_ascii_digit());
    // `redis:<id>@<pid>:<start>` is an identity of opsctl
    let is_name = after[..host].iter().any(u8::is_ascii_alphabetic) || memchr::memchr_iter(b'.', &after[..host]).count() == 3;
    let host_and_port = is_name && after.get(host) == Some(&b':') && (host + 3..=host + 6).contains(&port);
    // `image:tag@sha256:…`
    let digest = after.starts_with(b"sha") || after.starts_with(b"md5");
    let known = oracle.is_some() || in_parentheses || (host_and_port && !digest && !name.eq_ignore_ascii_case(b"mailto"));
    if named && known && colon + 1 < login.len() && !search.is_redacted(start + colon + 1) {
        search.add(start + colon + 1, sign);
    }
}

/// Parses the path after the beginning of a webhook's address.
pub(super) fn webhook(search: &mut Search<'_>, at: usize) {
    let text = search.text;
    let limit = text.len().min(at + MAX_URL_BYTES);
    if text[..at].ends_with(b"spaces/") || text[..at].ends_with(b"send?") {
        let end = until(&text[..limit], at, ends_url);
        if let Some(key) =
            memchr::memmem::find(&text[at..end], b"key=").map(|n| at + n + 4).filter(|key| !search.is_redacted(*key))
        {
            search.found.push(key..until(&text[..end], key, |b| b == b'&' || b == b'#'));
        }
        return;
    }
    let end = until(&text[..limit], at, |b| ends_url(b) || matches!(b, b'?' | b'#' | b',' | b')' | b']' | b'}' | b';'));
    let known = text[..at].ends_with(b"hooks/") && !text[..at].ends_with(b"api/webhooks/") || text[..at].ends_with(b"/webhook/");
    let telegram = text[..at].ends_with(b"/bot");
    let end = if telegram { until(&text[..end], at, |b| b == b'/') } else { end };
    let path = &text[at..end];
    // a path that only looks like that of a webhook contains a token
    let service =
        !known || search.text[..at].ends_with(b"office.com/webhook/") || search.text[..at].ends_with(b"office365.com/webhook/");
    let token = path.split(|b| *b == b'/').any(|part| part.len() >= 16 && values::looks_like_token(part, 16));
    if !path.is_empty() && (service && path.len() >= 8 || token) && !search.is_redacted(at) {
        search.add(at, end);
    }
}

/// Password of `scheme://user:password@host`. Not `model::address`, which does not recognize a login with an unescaped `/`.
pub(super) fn password(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let web = scheme.starts_with("http");
    let at = userinfo(rest.as_bytes(), web)?;
    let (_, password) = rest.get(..at)?.split_once(':')?;
    (!password.is_empty()).then_some(password)
}
