//! Users and groups. Without the C library, for the same reason as host names (`resolve.rs`).

use std::time::Duration;

use super::Io;
use super::command::{Argv, CommandOutput, run_blocking};
use super::resolve::NOT_FOUND;

/// Timeout of `getent`; a directory service may be on another host.
const GETENT_TIMEOUT: Duration = Duration::from_secs(5);

/// A database of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounts {
    /// Users: `/etc/passwd`.
    Users,
    /// Groups: `/etc/group`.
    Groups,
}

impl Accounts {
    /// The file with the accounts of this host.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/passwd",
            Self::Groups => "/etc/group",
        }
    }

    /// The number of an account: from the file, else from the name service of this host (`getent`), which knows directory services.
    /// `None` if there is no such account.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn id(self, io: &Io, name: &str) -> std::io::Result<Option<u32>> {
        let text = io.read_lossy(self.file())?;
        Ok(named(&text, name).or_else(|| self.in_name_service(io, name)))
    }

    /// Whether there is such an account, in the file or in the name service; `None` if that is unknown. `timeout` is that of the
    /// name service.
    #[must_use]
    pub fn exists(self, io: &Io, name: &str, timeout: Duration) -> Option<bool> {
        let text = io.read_lossy(self.file()).unwrap_or_default();
        if text.lines().any(|line| line.split(':').next() == Some(name)) {
            return Some(true);
        }
        match self.getent(io, name, timeout)?.status.code()? {
            0 => Some(true),
            NOT_FOUND => Some(false),
            _ => None,
        }
    }

    fn in_name_service(self, io: &Io, name: &str) -> Option<u32> {
        let exited = self.getent(io, name, GETENT_TIMEOUT).filter(|exited| exited.status.success())?;
        named(&exited.stdout, name)
    }

    fn getent(self, io: &Io, name: &str, timeout: Duration) -> Option<CommandOutput> {
        let database = match self {
            Self::Users => "passwd",
            Self::Groups => "group",
        };
        let argv = Argv::new("getent", &[database]).operand(name).ok()?;
        run_blocking(io, &argv, timeout).ok()
    }
}

/// Field 3 of the line with this name: passwd(5) and group(5) agree up to there.
fn named(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

/// The name of an id in the text of passwd(5) or group(5).
pub(in crate::probe) fn name_of(accounts: &[u8], id: u32) -> Option<String> {
    String::from_utf8_lossy(accounts).lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == id).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn name_is_compared_completely() {
        let text = "root:x:0:0::/root:/bin/sh\nprom:x:123:4::/:/bin/false\nbroken\nprometheus:x:abc:1:::";
        assert_eq!((named(text, "root"), named(text, "prom"), named(text, "pro")), (Some(0), Some(123), None));
        assert_eq!((named(text, "prometheus"), named(text, "broken")), (None, None));
    }

    #[test]
    fn id_is_compared_completely() {
        let text = b"root:x:0:0::/root:/bin/sh\nbroken\nodd:x:abc:1:::\nprom:x:123:4::/:/bin/false\n";
        assert_eq!((name_of(text, 123).as_deref(), name_of(text, 12)), (Some("prom"), None));
    }

    #[test]
    fn accounts_of_this_host() {
        let io = Io::for_test();
        assert_eq!(Accounts::Users.id(&io, "root").unwrap(), Some(0));
        assert_eq!(Accounts::Groups.id(&io, "root").unwrap(), Some(0));
        assert_eq!(Accounts::Groups.id(&io, "no such group").unwrap(), None);
    }
}
