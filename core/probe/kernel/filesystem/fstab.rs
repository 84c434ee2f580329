//! Mounts configured in fstab.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    let secret = |o: &&str| !o.starts_with("password=") && !o.starts_with("pass=") && !o.starts_with("credentials=");
    let options = fields.next().unwrap_or("defaults").split(',').filter(secret).map(str::to_owned).collect();
    Some(FstabEntry { source, mountpoint, fstype, options })
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
}
