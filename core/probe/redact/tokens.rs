//! Tokens with a known prefix, private keys, hashes of passwords. The formats are those of the services' documentation and of
//! repository scanners (gitleaks, trufflehog, detect-secrets).

use super::kinds::Search;
use super::values::{self, until};

/// A token by its prefix.
pub(super) struct Token {
    /// Prefix.
    pub(super) start: &'static str,
    /// Minimum number of bytes after the prefix.
    shortest: usize,
    /// Permitted characters besides letters and digits.
    signs: &'static [u8],
}

const fn t(start: &'static str, shortest: usize, signs: &'static [u8]) -> Token {
    Token { start, shortest, signs }
}

/// One line per service.
#[rustfmt::skip]
pub(super) const TOKENS: &[Token] = &[
    // AWS
    t("AKIA", 16, b""), t("ASIA", 16, b""), t("ABIA", 16, b""), t("ACCA", 16, b""), t("ABSK", 40, b"+/="), t("bedrock-api-key-", 20, b"+/=_-"),
    // GitHub
    t("ghp_", 20, b""), t("gho_", 20, b""), t("ghu_", 20, b""), t("ghs_", 20, b""), t("ghr_", 20, b""), t("github_pat_", 20, b"_"),
    // GitLab
    t("glpat-", 16, b"_-."), t("gldt-", 16, b"_-"), t("glrt-", 16, b"_-."), t("glcbt-", 16, b"_-"), t("glptt-", 16, b"_-"), t("glft-", 16, b"_-"),
    t("glimt-", 16, b"_-"), t("glagent-", 16, b"_-"), t("gloas-", 16, b"_-"), t("glsoat-", 16, b"_-"), t("glffct-", 16, b"_-"), t("GR1348941", 16, b"_-"),
    // registries of packages and images
    t("npm_", 20, b""), t("pypi-", 50, b"_-"), t("rubygems_", 40, b""), t("cio", 32, b""), t("dckr_pat_", 20, b"_-"), t("dckr_oat_", 20, b"_-"),
    t("CLOJARS_", 40, b""), t("oy2", 40, b""), t("AKCp", 60, b""), t("cmVmd", 50, b""),
    // Slack
    t("xoxa-", 10, b"-."), t("xoxb-", 10, b"-."), t("xoxc-", 10, b"-."), t("xoxd-", 10, b"-.%/+="), t("xoxe-", 10, b"-."), t("xoxe.", 10, b"-."),
    t("xoxo-", 10, b"-."), t("xoxp-", 10, b"-."), t("xoxr-", 10, b"-."), t("xoxs-", 10, b"-."), t("xapp-", 10, b"-"),
    // payment
    t("sk_live_", 10, b"_"), t("sk_test_", 10, b"_"), t("sk_prod_", 10, b"_"), t("rk_live_", 10, b"_"), t("rk_test_", 10, b"_"), t("whsec_", 20, b"+/="),
    t("sq0atp-", 20, b"_-"), t("sq0csp-", 20, b"_-"), t("EAAA", 40, b"_-"), t("FLWSECK", 12, b"_-"), t("shippo_live_", 20, b""), t("shippo_test_", 20, b""),
    t("access_token$production$", 10, b"$"), t("live_pub_", 20, b""), t("EZAK", 50, b""), t("EZTK", 50, b""), t("duffel_live_", 20, b"_-="), t("duffel_test_", 20, b"_-="),
    // mail and messages
    t("SG.", 30, b"_-."), t("xkeysib-", 30, b"-"), t("xsmtpsib-", 30, b"-"), t("key-", 32, b""), t("SK", 32, b""),
    // models
    t("sk-proj-", 20, b"_-"), t("sk-svcacct-", 20, b"_-"), t("sk-admin-", 20, b"_-"), t("sk-ant-", 20, b"_-"), t("sk-or-", 20, b"_-"), t("sk-", 20, b"_-"),
    t("hf_", 30, b""), t("api_org_", 30, b""), t("gsk_", 40, b""), t("pplx-", 40, b""), t("xai-", 40, b""), t("r8_", 30, b""), t("lsv2_", 30, b"_"), t("nvapi-", 40, b"_-"),
    // Google
    t("AIza", 30, b"_-"), t("GOCSPX-", 20, b"_-"), t("ya29.", 20, b"_-."), t("1//0", 40, b"_-"),
    // hosting
    t("dop_v1_", 40, b""), t("doo_v1_", 40, b""), t("dor_v1_", 40, b""), t("fm1r_", 40, b"+/=_-"), t("fm1a_", 40, b"+/=_-"), t("fm2_", 40, b"+/=_-,"), t("fo1_", 30, b"_-"),
    t("HRKU-", 30, b"_-"), t("nfp_", 30, b""), t("rnd_", 28, b""), t("tskey-", 20, b"-"), t("LTAI", 16, b""), t("AKID", 32, b""), t("AQVN", 30, b"_-"), t("YCAJE", 20, b"_-"),
    t("v1.0-", 60, b"-"), t("sha256~", 40, b"_-"), t("tk-us-", 40, b"_-"), t("pscale_tkn_", 30, b"_-.="), t("pscale_pw_", 30, b"_-.="), t("pscale_oauth_", 30, b"_-.="),
    t("sbp_", 40, b"_"), t("sb_secret_", 20, b"_-"), t("napi_", 30, b""), t("mdb_sa_sk_", 20, b"_-"), t("dnkey-", 40, b"_-="), t("ops_eyJ", 40, b"+/=_-"), t("A3-", 30, b"-"),
    // secrets, builds, infrastructure
    t("hvs.", 20, b"_-"), t("hvb.", 20, b"_-"), t("hvr.", 20, b"_-"), t("dapi", 32, b"-"), t("dp.pt.", 40, b""), t("dp.st.", 40, b"._-"), t("dp.ct.", 40, b""), t("dp.sa.", 40, b""),
    t("pul-", 40, b""), t("bkua_", 30, b""), t("CCIPAT_", 20, b"_"), t("ico-", 30, b""), t("pnu_", 30, b""), t("pnb_", 30, b""), t("API-", 26, b""), t("ATATT3", 60, b"_-="), t("ATCTT3", 60, b"_-="),
    t("ATBB", 28, b""), t("sgp_", 40, b"_"), t("AGE-SECRET-KEY-1", 40, b""), t("jfrt@", 30, b""), t("p8e-", 30, b""),
    // monitoring
    t("glsa_", 30, b"_"), t("glc_", 30, b"+/="), t("NRAK-", 20, b""), t("NRJS-", 18, b""), t("NRII-", 20, b"-_"), t("NRAA-", 20, b""), t("sntrys_", 40, b"+/=_"), t("sntryu_", 40, b""),
    t("dt0c01.", 60, b"."), t("dt0s01.", 60, b"."), t("hcaik_", 30, b""), t("hcbik_", 30, b""), t("xaat-", 30, b"-"), t("xapt-", 30, b"-"), t("phx_", 30, b""),
    t("sqp_", 40, b""), t("squ_", 40, b""), t("sqa_", 40, b""),
    // shops, documents, tasks
    t("shpat_", 32, b""), t("shpca_", 32, b""), t("shppa_", 32, b""), t("shpss_", 32, b""), t("shptka_", 32, b""), t("lin_api_", 30, b""), t("lin_oauth_", 30, b""), t("ntn_", 40, b""),
    t("secret_", 43, b""), t("figd_", 30, b"_-"), t("PMAK-", 50, b"-"), t("rdme_", 60, b""), t("CFPAT-", 40, b"_-"), t("tfp_", 40, b"_-."), t("fio-u-", 60, b"_-="),
    t("aio_", 28, b""), t("sm_aat_", 16, b""), t("sm_pat_", 16, b""), t("sm_sat_", 16, b""), t("pat", 70, b"."),
];

/// Characteristic parts of tokens with an arbitrary prefix.
pub(super) const MARKERS: &[&str] =
    &[".atlasv1.", "8Q~", "7Q~", "-us", "_mmk", ":AA", "eyJ", "MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"];

/// Prefixes of password hashes.
pub(super) const HASHES: &[&str] = &[
    "$1$",
    "$2a$",
    "$2b$",
    "$2y$",
    "$2x$",
    "$5$",
    "$6$",
    "$7$",
    "$y$",
    "$gy$",
    "$apr1$",
    "$argon2",
    "$pbkdf2",
    "$scrypt$",
    "$sha1$",
    "$P$",
    "$H$",
    "$S$",
    "{SHA",
    "{SSHA",
    "{MD5}",
    "{SMD5}",
    "{CRYPT}",
    "{PLAIN}",
    "{PBKDF2",
    "{ARGON2",
    "{BLF-CRYPT}",
    "SCRAM-SHA-256$",
    "SCRAM-SHA-1$",
    "pbkdf2_sha256$",
    "pbkdf2_sha1$",
    "argon2$argon2",
    "bcrypt_sha256$",
    "bcrypt$$",
    "scrypt:32768:",
    "pbkdf2:sha256:",
    "md5",
    "Private-Lines:",
];

/// Parses a token by its prefix.
pub(super) fn token(search: &mut Search<'_>, start: usize, token: &Token) {
    let text = search.text;
    let beginning = token.start.as_bytes();
    if !text[start..].starts_with(beginning) || search.before(start).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return;
    }
    // `disk-cache`, and other words with a dash
    if token.start.starts_with("sk-") && search.before(start).is_some_and(|b| matches!(b, b'-' | b'_')) {
        return;
    }
    let from = start + beginning.len();
    let limit = text.len().min(from + values::MAX_VALUE_BYTES);
    let end = until(&text[..limit], from, |b| !b.is_ascii_alphanumeric() && !token.signs.contains(&b));
    let rest = &text[from..end];
    let rest = rest.strip_suffix(b".").unwrap_or(rest);
    if rest.len() < token.shortest || !is_random(rest) {
        return;
    }
    let well_formed = match beginning {
        b"SK" => rest.len() == 32 && rest.iter().all(u8::is_ascii_hexdigit),
        b"pat" => rest.get(14) == Some(&b'.'),
        _ => true,
    };
    if !well_formed {
        return;
    }
    let end = from + rest.len();
    search.add(start, end);
    if beginning.ends_with(b"IA") && beginning.len() == 4 {
        aws_secret_key(search, end);
    }
}

/// Letters of both cases, or digits: not a natural word.
fn is_random(rest: &[u8]) -> bool {
    let digit = rest.iter().any(u8::is_ascii_digit);
    let cases = rest.iter().any(u8::is_ascii_uppercase) && rest.iter().any(u8::is_ascii_lowercase);
    digit || cases || (rest.len() == 16 && rest.iter().all(u8::is_ascii_uppercase))
}

/// The secret key of AWS has no prefix: 40 characters of base64 near an access key.
fn aws_secret_key(search: &mut Search<'_>, at: usize) {
    /// Maximum distance from the access key.
    const MAX_GAP: usize = 64;
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let end = search.text.len().min(at + MAX_GAP);
    let mut i = at;
    while i < end {
        let start = until(&search.text[..end], i, base64);
        let stop = until(&search.text[..search.text.len().min(start + 64)], start, |b| !base64(b));
        if stop - start == 40 {
            return search.found.push(start..stop);
        }
        i = stop + 1;
    }
}

/// Parses a token with a characteristic part in its middle or at its end.
pub(super) fn marker(search: &mut Search<'_>, start: usize, end: usize) {
    /// Limit of the prefix of such a token.
    const MAX_BEGINNING: usize = 64;
    let text = search.text;
    let sign = &text[start..end];
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'~');
    let back = |allowed: fn(u8) -> bool| {
        let from = start.saturating_sub(MAX_BEGINNING);
        text[from..start].iter().rposition(|b| !allowed(*b)).map_or(from, |n| from + n + 1)
    };
    let limit = text.len().min(end + values::MAX_VALUE_BYTES);
    let forward = until(&text[..limit], end, |b| !word(b));
    let hex = |b: u8| b.is_ascii_hexdigit();
    match sign {
        b".atlasv1." => {
            let from = back(|b| b.is_ascii_alphanumeric());
            if start - from >= 10 && forward - end >= 40 {
                search.add(from, forward);
            }
        }
        // secrets of applications in Entra ID
        b"8Q~" | b"7Q~" => {
            let from = back(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'~' | b'.'));
            if start - from == 3 && forward - end >= 30 {
                search.add(from, forward);
            }
        }
        // Mailchimp
        b"-us" => {
            let from = back(|b| b.is_ascii_hexdigit());
            let digits = until(text, end, |b| !b.is_ascii_digit());
            if start - from == 32 && (end + 1..=end + 2).contains(&digits) && text[from..start].iter().all(|b| hex(*b)) {
                search.add(from, digits);
            }
        }
        // MaxMind
        b"_mmk" => {
            let from = back(|b| b.is_ascii_alphanumeric() || b == b'_');
            if start - from == 36 {
                search.add(from, end);
            }
        }
        // Telegram
        b":AA" => {
            let from = back(|b| b.is_ascii_digit());
            let stop = until(&text[..limit], end, |b| !b.is_ascii_alphanumeric() && b != b'_' && b != b'-');
            let before = search.before(from).is_some_and(|b| b.is_ascii_alphabetic()) && !text[..from].ends_with(b"bot");
            if (8..=10).contains(&(start - from)) && (31..=36).contains(&(stop - end)) && !before {
                search.add(from, stop);
            }
        }
        b"eyJ" => json_web_token(search, start),
        [b'M' | b'N' | b'O', _] => discord(search, start),
        _ => {}
    }
}

/// Parses `eyJ….….…`, signed or encrypted.
fn json_web_token(search: &mut Search<'_>, start: usize) {
    let text = search.text;
    if search.before(start).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return;
    }
    let part = |b: u8| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'-' | b'=');
    let limit = text.len().min(start + 4 * values::MAX_VALUE_BYTES);
    let mut ends = Vec::new();
    let mut at = start;
    while ends.len() < 5 {
        let end = until(&text[..limit], at, part);
        ends.push(end - at);
        at = end + 1;
        if search.at(end) != Some(b'.') {
            break;
        }
    }
    let end = at - 1;
    if ends.len() >= 2 && ends[0] >= 11 && ends[1] >= 4 {
        // a sentence may end after it
        search.add(start, if text[..end].ends_with(b".") { end - 1 } else { end });
    }
}

/// A bot token of Discord: the id of the bot in base64, a time, a signature.
fn discord(search: &mut Search<'_>, start: usize) {
    if search.before(start).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return;
    }
    let text = &search.text[..search.text.len().min(start + 96)];
    let part = |at: usize| until(text, at, |b| !b.is_ascii_alphanumeric() && b != b'_' && b != b'-');
    let id = part(start);
    let time = part(id + 1);
    let end = part(time + 1);
    let dots = text.get(id) == Some(&b'.') && text.get(time) == Some(&b'.');
    if dots && (23..=28).contains(&(id - start)) && time - id == 7 && (27..=45).contains(&(end - time - 1)) {
        search.add(start, end);
    }
}

/// Parses a hash of a password, with its salt.
pub(super) fn hash(search: &mut Search<'_>, start: usize, end: usize) {
    let text = search.text;
    let sign = &text[start..end];
    let limit = text.len().min(start + values::MAX_VALUE_BYTES);
    if sign.eq_ignore_ascii_case(b"Private-Lines:") {
        return putty(search, start);
    }
    if sign.eq_ignore_ascii_case(b"md5") {
        // PostgreSQL; a checksum has a sign between its kind and its value
        let stop = until(&text[..limit], end, |b| !b.is_ascii_hexdigit());
        let whole = !search.before(start).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if stop - end == 32 && whole && !search.at(stop).is_some_and(|b| b.is_ascii_alphanumeric()) {
            search.add(start, stop);
        }
        return;
    }
    if sign[0] == b'{' {
        let Some(close) = text[start..limit].iter().take(24).position(|b| *b == b'}').map(|n| start + n + 1) else { return };
        let known = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'{' | b'}' | b'.');
        let stop = until(&text[..limit], close, |b| b.is_ascii_whitespace() || values::is_quote(b) || matches!(b, b',' | b';'));
        if stop - close >= 6 && text[start..close].iter().all(known) {
            search.add(start, stop);
        }
        return;
    }
    // `:` separates the keys of SCRAM and the parameters of werkzeug, and the fields of /etc/shadow
    let colons = sign.len() > 8 && matches!(sign[0].to_ascii_lowercase(), b's' | b'p');
    let known = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'$' | b'=' | b',' | b'+' | b'-' | b'_') || (colons && b == b':')
    };
    let stop = until(&text[..limit], end, |b| !known(b));
    let rest = &text[end..stop];
    let rest = rest.strip_suffix(b".").unwrap_or(rest);
    if end - start + rest.len() >= 20
        && rest.iter().any(|b| b.is_ascii_digit() || *b == b'$')
        && rest.iter().any(u8::is_ascii_alphabetic)
    {
        search.add(start, end + rest.len());
    }
}

/// Parses the private part of a `PuTTY` key, with the number of lines given in the text.
fn putty(search: &mut Search<'_>, start: usize) {
    let first = values::line_end(search.text, start);
    let count =
        search.text[start..first].iter().filter(|b| b.is_ascii_digit()).fold(0, |n: usize, b| n * 10 + usize::from(b - b'0'));
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\r');
    let mut end = first;
    for _ in 0..count.min(200) {
        let next = values::line_end(search.text, end + 1);
        if end >= search.text.len() || !search.text[end + 1..next].iter().all(base64) {
            break;
        }
        end = next;
    }
    search.add(first + 1, end);
}

/// Parses a private key in PEM, to its end or to the end of the text.
pub(super) fn pem(search: &mut Search<'_>, start: usize) {
    /// `-----BEGIN ENCRYPTED PRIVATE KEY-----` and its like.
    const MAX_HEAD: usize = 80;
    let text = search.text;
    let title = start + b"-----BEGIN ".len();
    let Some(head) =
        memchr::memmem::find(&text[title.min(text.len())..text.len().min(start + MAX_HEAD)], b"-----").map(|n| title + n)
    else {
        return;
    };
    let title = &text[title..head];
    if memchr::memmem::find(title, b"PRIVATE KEY").is_none() || title.contains(&b'\n') {
        return;
    }
    let from = head + 5;
    let next = memchr::memmem::find(&text[from..], b"-----").map(|n| from + n);
    match next {
        Some(end) if text[end..].starts_with(b"-----END") || text[end..].starts_with(b"-----end") => search.add(from, end),
        _ => {
            let body = |b: u8| {
                b.is_ascii_alphanumeric()
                    || b.is_ascii_whitespace()
                    || matches!(b, b'+' | b'/' | b'=' | b'\\' | b':' | b',' | b'-' | b'[' | b']')
            };
            let end = until(&text[..next.unwrap_or(text.len())], from, |b| !body(b));
            let kept = text[from..end].trim_ascii_end();
            search.add(from, from + kept.len());
        }
    }
}
