//! Mounts configured in fstab.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::kernel::filesystem::mounts::without_credentials;
use crate::probe::proc::process::unescape;
use crate::probe::{ProbeError, blocking};

/// A line of fstab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstabEntry {
    /// Device, label or server.
    pub source: String,
    /// Mountpoint; `none` or `swap` for swap.
    pub mountpoint: String,
    /// Filesystem type.
    pub fstype: String,
    /// Options, without credentials.
    pub options: Vec<String>,
}

/// The entries of /etc/fstab; empty if the file does not exist.
pub async fn fstab() -> Result<Vec<FstabEntry>, ProbeError> {
    const FILE: &str = "/etc/fstab";
    match blocking::run("mounts of fstab", FILE, Duration::from_secs(1), |io| io.read_lossy(FILE)).await? {
        Ok(text) => Ok(parse(&text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(ProbeError::io("mounts of fstab", FILE, &e)),
    }
}

/// Options with a secret, or the path of one (mount.cifs(8), mount.davfs(8)).
const SECRETS: &[&str] = &["password", "password2", "pass", "pass2", "passwd", "credentials", "cred"];

/// fstab(5): six fields, the last four optional here; `#` begins a comment; spaces are `\040`.
pub(super) fn parse(text: &str) -> Vec<FstabEntry> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<FstabEntry> {
    let mut fields = line.split_whitespace();
    let source = unescape(fields.next()?);
    let mountpoint = unescape(fields.next()?);
    let mountpoint = if mountpoint.len() > 1 { mountpoint.trim_end_matches('/').to_owned() } else { mountpoint };
    let fstype = fields.next()?.to_owned();
    let named = |o: &str| o.split_once('=').is_some_and(|(key, _)| SECRETS.contains(&key));
    let options = fields.next().unwrap_or("defaults").split(',').filter(|o| !o.is_empty() && !named(o)).map(unescape).collect();
    Some(FstabEntry { source: without_credentials(&source), mountpoint, fstype, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_entries_have_no_passwords() {
        let text = "# comment\nUUID=1 / ext4 errors=remount-ro 0 1\n//nas/x /mnt/my\\040share/ cifs user=a,password=canary,nofail\n\nswapfile none swap\nbroken\n";
        let got = parse(text);
        assert_eq!(got.iter().map(|e| e.mountpoint.as_str()).collect::<Vec<_>>(), ["/", "/mnt/my share", "none"]);
        assert!(!format!("{got:?}").contains("canary"));
        assert_eq!(got[1].options, ["user=a", "nofail"]);
    }

    #[test]
    fn credentials_in_the_source_are_removed() {
        let got = parse("//bob:canary@nas/share /mnt/nas cifs password2=canary,,vers=3.0 0 0\n");
        assert_eq!((got[0].source.as_str(), &got[0].options[..]), ("//nas/share", &["vers=3.0".to_owned()][..]));
    }

    #[test]
    fn corpus_of_fstab() {
        crate::corpus::check("fstab", 8, |text| {
            let shown = |e: &FstabEntry| format!("{}>{}({})", e.source, e.mountpoint, e.fstype);
            let all = parse(text);
            let options: Vec<String> = all.iter().map(|e| e.options.join(",")).collect();
            vec![("mounts", all.iter().map(shown).collect::<Vec<_>>().join(" ")), ("options", options.join(" "))]
        });
    }
}
