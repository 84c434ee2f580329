//! The optional Ed25519 key that entries and heads of the journal are signed with.
//!
//! Root of this host can read the key, and can therefore sign anything: a signature protects a copy on another host, without the key,
//! against changes in transit and by users without the key.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opsctl_core::model::quantity;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustix::fs::{Mode, OFlags, fstat, open, openat};
use sha2::{Digest as _, Sha256};

/// Limit of a key file, in bytes.
const MAX_KEY_BYTES: u64 = 16 << 10;

/// An Ed25519 public key as a `SubjectPublicKeyInfo` (RFC 8410, section 4): these bytes, then the 32 of the key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Labels of PEM files (RFC 7468).
const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads 64 hex digits, or the file of this name: PEM (`opsctl audit key` writes one, so does `openssl pkey -pubout`) or 64 hex digits.
    pub fn read(text: &str) -> Result<Self, String> {
        if let Some(bytes) = unhex(text) {
            return Ok(Self(bytes));
        }
        let content = File::open(text)
            .and_then(|file| io::read_to_string(file.take(MAX_KEY_BYTES)))
            .map_err(|e| format!("`{text}` is neither 64 hex digits nor a file with a public key: {e}"))?;
        let der = pem(&content, PUBLIC);
        let spki = der.as_deref().and_then(|der| der.strip_prefix(&SPKI)).and_then(|key| key.try_into().ok());
        spki.or_else(|| unhex(content.trim()))
            .map(Self)
            .ok_or_else(|| format!("{text} contains no Ed25519 public key (PEM or 64 hex digits)"))
    }

    /// 16 hex digits that identify the key in an entry.
    #[must_use]
    pub fn id(&self) -> String {
        quantity::hex(&Sha256::digest(self.0)[..8])
    }

    /// The key in hex.
    #[must_use]
    pub fn hex(&self) -> String {
        quantity::hex(&self.0)
    }

    /// Whether this signature (in hex) of these bytes is valid for the key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        unhex::<64>(signature).is_some_and(|s| UnparsedPublicKey::new(&ED25519, self.0).verify(message, &s).is_ok())
    }

    /// Whether `mark`, an id of a key and a signature, is this key's signature of a head.
    #[must_use]
    pub fn verifies_head(&self, head: &super::Head, mark: &str) -> bool {
        mark.split_once(':').is_some_and(|(id, signature)| id == self.id() && self.verifies(&head_text(head), signature))
    }
}

/// The bytes that the signature of a head covers.
fn head_text(head: &super::Head) -> Vec<u8> {
    format!("opsctl journal head 1\n{head}").into_bytes()
}

/// The private key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

impl SigningKey {
    /// Reads a PKCS#8 file (PEM or DER) that only its owner can read, in directories that only its owner or root can write.
    pub fn load(path: &Path) -> io::Result<Self> {
        Self::load_unnamed(path).map_err(|e| io::Error::new(e.kind(), format!("reading the signing key {}: {e}", path.display())))
    }

    fn load_unnamed(path: &Path) -> io::Result<Self> {
        let (dir, name) = trusted_parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&dir, &name, flags, Mode::empty())?);
        let meta = file.metadata()?;
        let us = rustix::process::geteuid().as_raw();
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if meta.uid() != us {
            return Err(refused(format!("it belongs to user {}, opsctl runs as user {us}; chown it", meta.uid())));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(refused(format!("others may read or write it (mode {:o}); chmod 600 it", meta.mode() & 0o7777)));
        }
        let mut bytes = Vec::new();
        file.take(MAX_KEY_BYTES).read_to_end(&mut bytes)?;
        let der = std::str::from_utf8(&bytes).ok().and_then(|text| pem(text, PRIVATE)).unwrap_or(bytes);
        let no_key = |e| io::Error::new(io::ErrorKind::InvalidData, format!("it is no PKCS#8 file with an Ed25519 key ({e})"));
        // other programs leave the public key out of the file, which version 1 of the format permits
        Self::of(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(no_key)?)
    }

    fn of(pair: Ed25519KeyPair) -> io::Result<Self> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| io::Error::other("the public key is not 32 bytes"))?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    /// Creates a key pair: `path` for the private key, `path.pub` for the public key. Neither may exist.
    pub fn create(path: &Path) -> io::Result<(Self, PathBuf)> {
        let mut public = path.as_os_str().to_owned();
        public.push(".pub");
        let public = PathBuf::from(public);
        let named = |path: &Path| {
            let path = path.display().to_string();
            move |e: io::Error| io::Error::new(e.kind(), format!("writing the key {path}: {e}"))
        };
        let (dir, name) = trusted_parent(path).map_err(named(path))?;
        let mut public_name = name.clone();
        public_name.push(".pub");
        let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
            .map_err(|_| io::Error::other("the kernel returned no random bytes"))?;
        let key = Self::of(Ed25519KeyPair::from_pkcs8(made.as_ref()).map_err(|e| io::Error::other(e.to_string()))?)?;
        let write = |name: &std::ffi::OsStr, mode: u32, text: &str| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&dir, name, flags, Mode::from_raw_mode(mode))?);
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        // the public key first: if it exists already, no private key without one is left behind
        write(&public_name, 0o644, &as_pem(PUBLIC, &[&SPKI[..], &key.public.0].concat())).map_err(named(&public))?;
        write(&name, 0o600, &as_pem(PRIVATE, made.as_ref())).map_err(|e| {
            let _ = rustix::fs::unlinkat(&dir, &public_name, rustix::fs::AtFlags::empty());
            named(path)(e)
        })?;
        Ok((key, public))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id of the key and its signature of these bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        format!("{}:{}", self.public.id(), quantity::hex(self.pair.sign(message).as_ref()))
    }

    /// The id of the key and its signature of a head.
    #[must_use]
    pub fn sign_head(&self, head: &super::Head) -> String {
        self.sign(&head_text(head))
    }
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// The directory of a file, opened component by component, and the file name. Every directory must belong to root or to this user and not be
/// writable by others, except with the sticky bit, where users can rename and remove only their own files. Symbolic links are not followed.
fn trusted_parent(path: &Path) -> io::Result<(OwnedFd, std::ffi::OsString)> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    if !path.is_absolute() {
        return Err(wrong("the path is not absolute"));
    }
    let name = path.file_name().ok_or_else(|| wrong("the path has no file name"))?.to_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = PathBuf::from("/");
    let mut dir = open("/", flags, Mode::empty())?;
    check_not_writable_by_others(&dir, &at)?;
    for component in path.parent().unwrap_or(Path::new("/")).components() {
        match component {
            Component::RootDir => continue,
            Component::Normal(name) => {
                at.push(name);
                dir = openat(&dir, name, flags, Mode::empty()).map_err(|e| match e {
                    rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => {
                        wrong(&format!("{} is a symbolic link or no directory; name the real path", at.display()))
                    }
                    e => io::Error::new(io::Error::from(e).kind(), format!("{}: {}", at.display(), io::Error::from(e))),
                })?;
            }
            _ => return Err(wrong("the path contains `..`")),
        }
        check_not_writable_by_others(&dir, &at)?;
    }
    Ok((dir, name))
}

fn check_not_writable_by_others(dir: impl AsFd, at: &Path) -> io::Result<()> {
    let stat = fstat(dir)?;
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != us {
        return Err(refused(format!("the directory {} belongs to user {}, not to root", at.display(), stat.st_uid)));
    }
    if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(refused(format!("others may write to the directory {} (mode {mode:o}); chmod go-w it", at.display())));
    }
    Ok(())
}

/// The bytes between the boundaries of a PEM file.
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

fn as_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).filter_map(|i| text.get(i..(i + 64).min(text.len()))).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Decodes exactly N bytes of hex digits.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Vec<u8> = (0..N).filter_map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()).collect();
    bytes.try_into().ok()
}
