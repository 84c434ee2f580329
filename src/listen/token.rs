//! Files of the token and of the secret: created once, read only if they are safe.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use opsctl_core::model::quantity;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::OFlags;

use super::auth::AuthError;
use crate::config::{Config, ConfigEnvironment};
use crate::state::dir;

/// File name of the token beside the configuration.
const TOKEN_FILE: &str = "listen-token";

/// Random bytes of a created token: 256 bits, in 64 hexadecimal digits.
const TOKEN_BYTES: usize = 32;

/// Minimum length of a secret in characters: shorter secrets can be guessed (128 bits of hexadecimal digits are 32; judgement).
pub(super) const MIN_SECRET_CHARS: usize = 16;

/// Maximum size of a secret in bytes.
const MAX_SECRET_BYTES: u64 = 4096;

/// The file of the token: the configured one, or `listen-token` beside the configuration.
#[must_use]
pub fn token_path(config: &Config) -> PathBuf {
    let beside = || {
        let file = config.file.clone().unwrap_or_else(|| ConfigEnvironment::of_process().default_config());
        file.with_file_name(TOKEN_FILE)
    };
    config.listen.token_file.clone().unwrap_or_else(beside)
}

/// The token file that applies, if any: the configured one must exist, the one beside the configuration applies if it exists and
/// clients are not meant to sign.
pub(super) fn token_in_force(config: &Config) -> Option<PathBuf> {
    let path = token_path(config);
    let applies = config.listen.token_file.is_some()
        // a file that cannot be examined is an error on reading, and not a listener without its token
        || config.listen.hmac_secret_file.is_none()
            && !matches!(std::fs::symlink_metadata(&path), Err(e) if e.kind() == ErrorKind::NotFound);
    applies.then_some(path)
}

/// Creates the token atomically, readable by its owner alone. An existing file is never replaced: `false` if it is valid.
pub fn create_token(path: &Path) -> Result<bool, AuthError> {
    let failed = |source| AuthError::Write { path: path.to_owned(), source };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
        _ => {}
    }
    let mut bytes = [0_u8; TOKEN_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthError::Random)?;
    let write = || -> io::Result<bool> {
        // 0600 from the beginning
        let mut file = tempfile::Builder::new().prefix(".listen-token").tempfile_in(parent)?;
        writeln!(file, "{}", quantity::hex(&bytes))?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => dir::sync(parent).map(|()| true),
            Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e.error),
        }
    };
    let created = write().map_err(failed)?;
    secret(path)?;
    Ok(created)
}

/// Reads a secret. A secret that others can read or write is rejected.
pub(super) fn secret(path: &Path) -> Result<String, AuthError> {
    let failed = |source| AuthError::Read { path: path.to_owned(), source };
    let unsafe_file = |why: String| AuthError::Unsafe { path: path.to_owned(), why };
    // a FIFO or a terminal must not block
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let us = rustix::process::geteuid().as_raw();
    if !meta.is_file() {
        return Err(unsafe_file("it is not a regular file".to_owned()));
    }
    if meta.uid() != us && meta.uid() != 0 {
        return Err(unsafe_file(format!("it belongs to user {}; chown it to the user that runs opsctl", meta.uid())));
    }
    // a group may read it, for example that of the Alertmanager that sends it
    if meta.mode() & 0o027 != 0 {
        return Err(unsafe_file(format!("other users may read or write it (mode {:o}); chmod 600 it", meta.mode() & 0o7777)));
    }
    let mut text = String::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(unsafe_file(format!("it is larger than {MAX_SECRET_BYTES} bytes, which no secret is")));
    }
    let text = text.trim();
    if text.chars().count() < MIN_SECRET_CHARS {
        return Err(AuthError::Short { path: path.to_owned() });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn file(dir: &tempfile::TempDir, text: &str, mode: u32) -> PathBuf {
        let path = dir.path().join("secret");
        std::fs::write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn token_is_created_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/opsctl/listen-token");
        assert!(create_token(&path).unwrap());
        let first = secret(&path).unwrap();
        assert!(first.len() == 64 && first.bytes().all(|b| b.is_ascii_hexdigit()), "{first}");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert!(!create_token(&path).unwrap());
        assert_eq!(secret(&path).unwrap(), first);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn token_replaces_neither_link_nor_invalid_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(create_token(&path).is_err());
        assert!(!dir.path().join("elsewhere").exists());
        let short = file(&dir, "short\n", 0o600);
        assert!(matches!(create_token(&short), Err(AuthError::Short { .. })));
        assert_eq!(std::fs::read_to_string(&short).unwrap(), "short\n");
    }

    #[test]
    fn secret_readable_by_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o604, 0o620, 0o660, 0o602] {
            let error = secret(&file(&dir, SECRET, mode)).unwrap_err().to_string();
            assert!(error.contains(&format!("mode {mode:o}")), "{error}");
        }
        for mode in [0o600, 0o400, 0o640] {
            assert_eq!(secret(&file(&dir, &format!("{SECRET}\n"), mode)).unwrap(), SECRET);
        }
    }

    #[test]
    fn secret_that_is_not_a_bounded_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [fifo, "/dev/zero".into(), dir.path().to_owned(), file(&dir, &"x".repeat(5000), 0o600)] {
            assert!(matches!(secret(&path), Err(AuthError::Unsafe { .. } | AuthError::Read { .. })), "{}", path.display());
        }
        assert!(matches!(secret(&file(&dir, "short\n", 0o600)), Err(AuthError::Short { .. })));
    }
}
