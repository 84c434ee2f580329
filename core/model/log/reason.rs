//! Known reasons in error texts: those of errno (errno(3), strerror(3)), of name resolution (`gai_strerror(3)`), and of runtimes, with the object
//! that the line names.

use std::sync::LazyLock;

use regex::Regex;

use super::pattern::pattern;
use crate::model::address::{join, split_port};

/// Kind of a known reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasonKind {
    /// The peer rejected the connection: no listener.
    Refused,
    /// The peer did not respond in time.
    TimedOut,
    /// No route to the peer.
    Unreachable,
    /// A name cannot be resolved.
    NameNotFound,
    /// The server rejected a login.
    LoginRejected,
    /// The database does not exist, or lacks a table.
    SchemaMissing,
    /// The address is in use by another process.
    AddressInUse,
    /// The address is not one of this host or container.
    AddressNotAvailable,
    /// No space, or no inodes, or a quota.
    NoSpace,
    /// The filesystem is read-only.
    ReadOnly,
    /// Access to a path was denied.
    PermissionDenied,
    /// A privileged operation was denied.
    NotPermitted,
    /// No free file descriptors.
    TooManyFiles,
    /// No free inotify watches or instances.
    InotifyLimit,
    /// No new process or thread.
    TooManyProcesses,
    /// Memory could not be allocated.
    OutOfMemory,
    /// A program does not exist.
    ProgramMissing,
    /// A script with Windows line ends, or a missing interpreter.
    InterpreterMissing,
    /// The program is for another architecture.
    WrongArchitecture,
    /// The processor lacks an instruction of the program.
    IllegalInstruction,
    /// A shared library is missing or too old.
    LibraryMissing,
    /// A module of a language runtime is missing.
    ModuleMissing,
    /// A setting or an environment variable is missing.
    SettingMissing,
    /// The configuration cannot be read.
    ConfigurationInvalid,
    /// A certificate was rejected.
    CertificateRejected,
    /// Another instance holds a lock, or a stale lock file exists.
    Locked,
    /// Data of another version.
    VersionMismatch,
    /// Damaged data.
    Damaged,
    /// A kernel setting is too low.
    KernelSetting,
    /// A device reports errors.
    DeviceError,
    /// A file or directory is missing.
    FileMissing,
}

/// A known reason, with the object that the line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its kind.
    pub kind: ReasonKind,
    /// `host:port`, a host, a path, a user, a program or a name, depending on the kind.
    pub object: Option<String>,
}

/// Texts of a kind, in lower case, with at most one `*` for any text between. The first row that matches counts: special ones come
/// first.
struct Row {
    kind: ReasonKind,
    /// Texts of errno, of shells and of runtimes: a line with them is an error even if it names no severity.
    errors: &'static [&'static str],
    /// Texts that also occur in ordinary output: they count in lines of an error only.
    words: &'static [&'static str],
    object: fn(&str) -> Option<String>,
}

static ROWS: &[Row] = &[
    Row {
        kind: ReasonKind::InotifyLimit,
        errors: &[
            "inotify watches",
            "inotify instances",
            "inotify_add_watch",
            "inotify_init",
            "system limit for number of file watchers",
            "failed to create inotify",
            "failed to initialize inotify",
            "instance of inotify",
            "inotify instance limit reached",
            "inotify watch limit reached",
            "create fsnotify watcher: too many open files",
            // systemd
            "failed to allocate directory watch: too many open files",
        ],
        words: &[],
        object: none,
    },
    Row {
        kind: ReasonKind::WrongArchitecture,
        errors: &[
            "exec format error",
            "cannot execute binary file",
            "rosetta error",
            "qemu-x86_64: could not",
            "wrong architecture",
        ],
        words: &[],
        object: program,
    },
    Row {
        kind: ReasonKind::InterpreterMissing,
        errors: &[
            "bad interpreter",
            "^m:",
            "$'\\r'",
            "\\r': no such file",
            "sh\\r",
            "bash\\r",
            "dash\\r",
            "python\\r",
            "node\\r",
            "env: ‘",
            // the engine verifies that the file itself exists
            "exec user process caused*no such file or directory",
            "exec container process*no such file or directory",
            "exec /*: no such file or directory",
        ],
        words: &[],
        object: program,
    },
    Row {
        kind: ReasonKind::IllegalInstruction,
        errors: &["illegal instruction", "sigill", "cpu does not support", "requires a cpu with avx", "fatal glibc error: cpu"],
        words: &["x86-64-v2"],
        object: none,
    },
    Row {
        kind: ReasonKind::LibraryMissing,
        errors: &[
            "error while loading shared libraries",
            "version `glibc",
            "version `glibcxx",
            "symbol lookup error",
            "libstdc++.so.6: version",
            "cannot open shared object file",
        ],
        words: &[],
        object: library,
    },
    Row {
        kind: ReasonKind::KernelSetting,
        errors: &[
            "too low, increase to at least",
            "failed to lock memory",
            "could not create shared memory segment: invalid argument",
            "could not set resource limit",
            "error setting rlimit",
        ],
        words: &[
            "vm.max_map_count",
            "vm.overcommit_memory is",
            "memlock",
            "unable to lock jvm memory",
            "setrlimit",
            "rlimit",
            "shmmax",
        ],
        object: sysctl,
    },
    Row { kind: ReasonKind::NoSpace, errors: &["could not resize shared memory segment"], words: &[], object: shared_memory },
    Row {
        kind: ReasonKind::NoSpace,
        errors: &[
            "no space left on device",
            "enospc",
            "disk quota exceeded",
            "edquot",
            "database or disk is full",
            "auf dem gerät ist kein speicherplatz mehr verfügbar",
            "aucun espace disponible sur le périphérique",
            "no queda espacio en el dispositivo",
        ],
        words: &["disk full", "not enough space", "disk_full"],
        object: path,
    },
    Row {
        kind: ReasonKind::ReadOnly,
        errors: &["read-only file system", "erofs", "readonly file system", "readonly database"],
        words: &[],
        object: path,
    },
    Row {
        kind: ReasonKind::TooManyFiles,
        errors: &["too many open files", "no file descriptors available", "emfile", "enfile", "out of file descriptors"],
        words: &[],
        object: none,
    },
    Row {
        kind: ReasonKind::TooManyProcesses,
        errors: &[
            "can't start new thread",
            "unable to create native thread",
            "unable to create new native thread",
            "cannot fork",
            "can't fork",
            "fork failed",
            "fork: retry",
            "fork: resource temporarily unavailable",
            "pthread_create failed",
            "failed to create new os thread",
            "failed to start thread",
            "uv_thread_create",
        ],
        words: &[],
        object: none,
    },
    Row {
        kind: ReasonKind::OutOfMemory,
        errors: &[
            "out of memory",
            "cannot allocate memory",
            "enomem",
            "outofmemoryerror",
            "java heap space",
            "heap out of memory",
            "std::bad_alloc",
            "could not map anonymous shared memory",
            "memory allocation of",
            "memoryerror",
            "allowed memory size of",
        ],
        words: &["insufficient memory"],
        object: none,
    },
    Row {
        kind: ReasonKind::LoginRejected,
        errors: &[],
        words: &[
            "password authentication failed",
            "authentication failed",
            "access denied for user",
            "wrongpass",
            "noauth",
            "invalid username-password",
            "invalid password",
            "authentication required",
            "access_refused",
            "access refused",
            "login was refused",
            "login failed",
            "no pg_hba.conf entry",
            "role \"*\" does not exist",
            "role \"*\" is not permitted to log in",
            "peer authentication failed",
            "401 unauthorized",
            "401 client error",
            "403 forbidden",
            "403 client error",
            "invalid credentials",
            "no password supplied",
            "permission denied (publickey",
            "noperm",
            "auth failed",
        ],
        object: user,
    },
    Row {
        kind: ReasonKind::SchemaMissing,
        errors: &[],
        words: &[
            "unknown database",
            "no such table",
            "no such column",
            "undefinedtable",
            "undefined table",
            "relation \"*\" does not exist",
            "column \"*\" does not exist",
            "table doesn't exist",
            "table '*' doesn't exist",
            "database \"*\" does not exist",
        ],
        object: quoted,
    },
    Row {
        kind: ReasonKind::NameNotFound,
        errors: &[
            "name or service not known",
            "temporary failure in name resolution",
            "no such host",
            "could not translate host name",
            "could not resolve host",
            "couldn't resolve host",
            "could not resolve address",
            "enotfound",
            "eai_again",
            "host not found",
            "unknownhostexception",
            "nodename nor servname",
            "name does not resolve",
            "no address associated with hostname",
            "unknown host",
            "server misbehaving",
            "failed to lookup address information",
            "unknown mysql server host",
            "unable to resolve host",
            "lookup *: try again",
            "bad address '",
            "name resolution failed",
            "dns resolution failed",
        ],
        words: &[
            "getaddrinfo",
            "nxdomain",
            "failed to resolve",
            "dns error",
            "no resolver defined",
            "unable to resolve",
            "invalid address: '",
        ],
        object: unresolved_name,
    },
    Row {
        kind: ReasonKind::AddressInUse,
        errors: &[
            "address already in use",
            "address in use",
            "eaddrinuse",
            "port is already allocated",
            "port already in use",
            "port * is already in use",
            "die adresse wird bereits verwendet",
            "adresse déjà utilisée",
            "la dirección ya se está usando",
        ],
        words: &["already in use by"],
        object: own_address,
    },
    Row {
        kind: ReasonKind::AddressNotAvailable,
        errors: &[
            "cannot assign requested address",
            "can't assign requested address",
            "address not available",
            "eaddrnotavail",
            "requested address is not valid",
        ],
        words: &[],
        object: own_address,
    },
    Row {
        kind: ReasonKind::CertificateRejected,
        errors: &[
            "certificate verify failed",
            "certificate_verify_failed",
            "x509:",
            "self signed certificate in",
            "self-signed certificate in",
            "unable to get local issuer certificate",
            "unable to verify the first certificate",
            "pkix path building failed",
            "cert_has_expired",
            "invalid peer certificate",
            "key values mismatch",
        ],
        words: &[
            "certificate has expired",
            "self signed certificate",
            "self-signed certificate",
            "certificate is not yet valid",
            "hostname mismatch",
            "bad certificate",
        ],
        object: host_port,
    },
    Row {
        kind: ReasonKind::Refused,
        errors: &[
            "connection refused",
            "econnrefused",
            "actively refused",
            "connection to * refused",
            "error 111",
            "(111)",
            "verbindungsaufbau abgelehnt",
            "connexion refusée",
            "conexión rehusada",
        ],
        words: &[],
        object: host_port,
    },
    Row {
        kind: ReasonKind::Unreachable,
        errors: &[
            "no route to host",
            "network is unreachable",
            "network unreachable",
            "ehostunreach",
            "enetunreach",
            "host is unreachable",
        ],
        words: &[],
        object: host_port,
    },
    Row {
        kind: ReasonKind::Locked,
        errors: &[
            "failed to obtain node lock",
            "pid file found",
            "server is already running",
            "another server instance",
            "could not lock",
            "cannot lock file",
            "cannot acquire lock",
            "unable to acquire lock",
            "lock db directory",
        ],
        words: &[
            "pidfile",
            "pid file",
            "lock file",
            "lockfile",
            "already running",
            "is locked by",
            "failed to lock",
            "unable to lock",
            "resource temporarily unavailable",
            "database is locked",
            "another instance",
        ],
        object: path,
    },
    Row {
        kind: ReasonKind::VersionMismatch,
        errors: &["can't handle rdb format", "in 18+, these docker images are configured"],
        words: &[
            "incompatible with server",
            "initialized by postgresql version",
            "unsupported version",
            "cannot downgrade",
            "cannot be downgraded",
            "wrong mongod version",
            "is not compatible with",
            "featurecompatibilityversion",
            "expected format-type",
        ],
        object: none,
    },
    Row { kind: ReasonKind::DeviceError, errors: &["input/output error"], words: &["eio:"], object: path },
    Row {
        kind: ReasonKind::Damaged,
        errors: &["bad file format reading the append only file", "wrong signature trying to load db"],
        words: &[
            "invalid checkpoint record",
            "could not locate a valid checkpoint",
            "checksum mismatch",
            "is corrupt",
            "are corrupt",
            "corrupted",
            "malformed log record",
            "unexpected eof",
            "unexpected end of json input",
            "invalid page",
            "invalid magic",
        ],
        object: path,
    },
    Row {
        kind: ReasonKind::ModuleMissing,
        errors: &[
            "modulenotfounderror",
            "no module named",
            "cannot find module",
            "classnotfoundexception",
            "noclassdeffounderror",
            "could not find or load main class",
            "cannot load such file",
            "importerror:",
            "err_module_not_found",
        ],
        words: &["class not found", "module not found"],
        object: quoted,
    },
    Row {
        kind: ReasonKind::ProgramMissing,
        errors: &[
            "command not found",
            "executable file not found",
            "sh: *: not found",
            "can't execute '",
            "cannot execute: ",
            "cannot run program",
        ],
        words: &[],
        object: program,
    },
    Row {
        kind: ReasonKind::NotPermitted,
        errors: &["operation not permitted", "eperm", "must be run as root"],
        words: &["requires root", "cap_"],
        object: path,
    },
    Row {
        kind: ReasonKind::PermissionDenied,
        errors: &[
            "permission denied",
            "eacces",
            "accessdeniedexception",
            "has wrong ownership",
            "must be owned by",
            "has group or world access",
            "is not writable",
            "must be accessible by owner only",
            "can only be writable by the owner",
            "keine berechtigung",
            "permission non accordée",
            "permiso denegado",
        ],
        words: &["accessdenied", "access is denied", "not writable", "is not readable", "are too open"],
        object: path,
    },
    Row { kind: ReasonKind::DeviceError, errors: &[], words: &["i/o error"], object: path },
    Row {
        kind: ReasonKind::TimedOut,
        errors: &[],
        words: &[
            "timed out",
            "pooltimedout",
            "etimedout",
            "i/o timeout",
            "timeouterror",
            "timeout exceeded",
            "deadline exceeded",
            "connect timeout",
            "connection timeout",
        ],
        object: host_port,
    },
    Row {
        kind: ReasonKind::SettingMissing,
        errors: &["unbound variable", "parameter not set", "parameter null or not set", "keyerror: '"],
        words: &[
            "must be set",
            "must be specified",
            "is not specified",
            "is not set",
            "is not defined",
            "not configured",
            "is required",
            "are required",
            "field required",
            "required in url but missing",
            "missing required",
            "required environment",
            "no * has been specified",
            "environment variable",
            "keyerror:",
            "undefined variable",
            "you need to specify",
            "improperlyconfigured",
        ],
        object: setting,
    },
    Row {
        kind: ReasonKind::ConfigurationInvalid,
        errors: &["fatal config file error", "unable to configure the docker daemon", "missing ';' before", "missing ';' near"],
        words: &[
            "unknown directive",
            "unknown setting",
            "invalid config",
            "bad config file directive",
            "bad configuration option",
            "in configuration file",
            "could not read config",
            "cannot read config",
            "configuration error",
            "error loading config",
            "error parsing",
            "parsing error",
            "failed to parse",
            "could not parse",
            "parse error",
            "syntax error on line",
            "syntax error in ",
            "syntax error near",
            "syntax error: ",
            "yaml:",
            "unmarshal errors",
            "mapping values are not allowed",
            "unknown field",
            "unknown fields",
            "unrecognized configuration parameter",
            "unknown option",
            "unrecognized option",
            "unrecognized argument",
            "unknown flag",
            "flag provided but not defined",
            "invalid value",
            "bad option",
            "unexpected end of file",
            "directive is not allowed here",
            "directive is duplicate",
            "invalid number of arguments",
            "unknown variable",
            "invalid parameter",
            "ambiguous site definition",
            "adapting config",
        ],
        object: path_or_quoted,
    },
    Row {
        kind: ReasonKind::FileMissing,
        errors: &[
            "no such file or directory",
            "enoent",
            "filenotfoundexception",
            "filenotfounderror",
            "nosuchfileexception",
            "could not find file",
            "missing privilege separation directory",
            "datei oder verzeichnis nicht gefunden",
            "aucun fichier ou dossier de ce type",
            "no existe el archivo o el directorio",
            "no existe el fichero o el directorio",
        ],
        words: &[
            "file not found",
            "does not exist",
            "cannot find the file",
            "cannot be opened",
            "failed to open",
            "cannot open",
            "couldn't find",
            "can't open",
        ],
        object: path,
    },
];

/// Statements that a client of a database sent: their errors say nothing about the server.
const STATEMENTS: &[&str] = &["syntax error at or near", "in your sql syntax"];

/// The known reason in a line. Texts that clients of a server choose can contain any of these phrases; use it for the lines of the
/// object's own failure.
#[must_use]
pub fn reason(text: &str) -> Option<Reason> {
    let text = without_requests(text);
    let lower = text.to_lowercase();
    if STATEMENTS.iter().any(|statement| lower.contains(statement)) {
        return None;
    }
    let row = ROWS.iter().find(|row| row.errors.iter().chain(row.words).any(|t| contains(&lower, t).is_some()));
    match row {
        Some(row) => Some(Reason { kind: row.kind, object: (row.object)(&text) }),
        None => errno(&text).or_else(|| configuration_position(&text)),
    }
}

/// Whether a line without a severity is an error: it has a text or a number of errno, or a text of a shell or of a runtime.
pub(super) fn is_error(text: &str) -> bool {
    let text = without_requests(text);
    let lower = text.to_lowercase();
    ROWS.iter().any(|row| row.errors.iter().any(|t| contains(&lower, t).is_some())) || errno(&text).is_some()
}

/// A text of every line that is an error without a severity: of a phrase with a `*` the longer part.
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    let longest = |phrase: &'static str| {
        let (begin, end) = phrase.split_once('*').unwrap_or((phrase, ""));
        if end.len() > begin.len() { end } else { begin }
    };
    ROWS.iter().flat_map(|row| row.errors.iter().copied()).map(longest)
}

/// The character at which the reason in a text begins; of several places the last.
pub(super) fn position(text: &str) -> Option<usize> {
    let lower = text.to_lowercase();
    let places = |row: &Row| row.errors.iter().chain(row.words).filter_map(|t| contains(&lower, t)).max();
    let at = ROWS.iter().find_map(places)?;
    Some(lower.get(..at)?.chars().count())
}

/// The last place of a phrase that no letter precedes: `ENOTFOUND` is not part of `FileNotFoundError`.
fn contains(text: &str, phrase: &str) -> Option<usize> {
    let (begin, end) = phrase.split_once('*').unwrap_or((phrase, ""));
    let is_word = begin.starts_with(|c: char| c.is_ascii_alphabetic());
    let places = text.match_indices(begin).map(|(at, _)| at);
    let is_whole = |at: &usize| !(is_word && text[..*at].ends_with(|c: char| c.is_ascii_alphabetic()));
    places.filter(is_whole).filter(|at| text[at + begin.len()..].contains(end)).last()
}

/// A line without the clients that it names and the requests that it quotes: clients choose their text.
fn without_requests(text: &str) -> std::borrow::Cow<'_, str> {
    static REQUEST: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#""(?:GET|POST|HEAD|PUT|DELETE|PATCH|OPTIONS|CONNECT|PROPFIND) [^"]*"|(?:referrer|user-agent): "[^"]*"|\[client [^\]]*\]|\bclient: [\w.:]+"#,
        )
    });
    REQUEST.replace_all(text, "\"\"")
}

/// The number of an errno, for texts in other languages and of other libraries.
fn errno(text: &str) -> Option<Reason> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r"(?i)\((?:errno|errcode|os error|error code)[:= ]*(\d{1,3})\b|\[errno (\d{1,3})\]|error=(\d{1,3}), ")
    });
    let number: u16 = group(&NUMBER, text)?.parse().ok()?;
    let kind = match number {
        1 => ReasonKind::NotPermitted,
        2 => ReasonKind::FileMissing,
        5 => ReasonKind::DeviceError,
        12 => ReasonKind::OutOfMemory,
        13 => ReasonKind::PermissionDenied,
        24 => ReasonKind::TooManyFiles,
        28 => ReasonKind::NoSpace,
        30 => ReasonKind::ReadOnly,
        98 => ReasonKind::AddressInUse,
        99 => ReasonKind::AddressNotAvailable,
        101 | 113 => ReasonKind::Unreachable,
        110 => ReasonKind::TimedOut,
        111 => ReasonKind::Refused,
        _ => return None,
    };
    let object = match number {
        12 | 24 => None,
        98 | 99 => own_address(text),
        101.. => host_port(text),
        _ => path(text),
    };
    Some(Reason { kind, object })
}

/// A place in a configuration file: programs name it for errors of any kind in it.
fn configuration_position(text: &str) -> Option<Reason> {
    static POSITION: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?:^|[\s\['\x22(])(/[\w./@-]+(?:\.(?:conf|cfg|cnf|ya?ml|toml|ini|hcl|alloy|xml|json|htaccess)|/\.htaccess|/Caddyfile)(?::\d+)?)(?:[\]:]| line \d| )",
        )
    });
    static ERROR: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i)line \d+|\bexpected\b|\bunexpected\b|\bunknown\b|\bmissing\b|\binvalid\b"));
    let object = group(&POSITION, text).filter(|place| place.contains(':') || ERROR.is_match(text))?;
    Some(Reason { kind: ReasonKind::ConfigurationInvalid, object: Some(object) })
}

impl Reason {
    /// The object as host and port, if it is a peer.
    #[must_use]
    pub fn peer(&self) -> Option<(&str, Option<u16>)> {
        use ReasonKind::{CertificateRejected, LoginRejected, NameNotFound, Refused, TimedOut, Unreachable};
        if !matches!(self.kind, Refused | TimedOut | Unreachable | NameNotFound | CertificateRejected)
            || self.kind == LoginRejected
        {
            return None;
        }
        self.object.as_deref().map(split_port)
    }

    /// The reason as a clause.
    #[must_use]
    pub fn clause(&self) -> String {
        let of = |without: &str, with: &dyn Fn(&str) -> String| self.object.as_deref().map_or_else(|| without.to_owned(), with);
        match self.kind {
            ReasonKind::Refused => of("a peer refuses the connection", &|o| format!("{o} refuses the connection")),
            ReasonKind::TimedOut => of("a peer does not respond in time", &|o| format!("{o} does not respond in time")),
            ReasonKind::Unreachable => of("a peer is unreachable: no route", &|o| format!("{o} is unreachable: no route")),
            ReasonKind::NameNotFound => {
                of("a host name cannot be resolved", &|o| format!("the host name {o} cannot be resolved"))
            }
            ReasonKind::LoginRejected => of("its login is rejected", &|o| format!("the login of {o} is rejected")),
            ReasonKind::SchemaMissing => {
                of("a database or table does not exist", &|o| format!("{o} does not exist in the database"))
            }
            ReasonKind::AddressInUse => of("its address is in use", &|o| format!("address {o} is in use by another process")),
            ReasonKind::AddressNotAvailable => {
                of("its address does not exist here", &|o| format!("address {o} is not an address of this host or container"))
            }
            ReasonKind::NoSpace => of("no space left on its filesystem", &|o| format!("no space left for {o}")),
            ReasonKind::ReadOnly => of("its filesystem is read-only", &|o| format!("the filesystem of {o} is read-only")),
            ReasonKind::PermissionDenied => of("access to a file is denied", &|o| format!("access to {o} is denied")),
            ReasonKind::NotPermitted => of("an operation is not permitted", &|o| format!("an operation on {o} is not permitted")),
            ReasonKind::TooManyFiles => "too many open files".to_owned(),
            ReasonKind::InotifyLimit => "no free inotify watches or instances for its user".to_owned(),
            ReasonKind::TooManyProcesses => "no new process or thread can be created".to_owned(),
            ReasonKind::OutOfMemory => "memory cannot be allocated".to_owned(),
            ReasonKind::ProgramMissing => of("a program does not exist", &|o| format!("the program {o} does not exist")),
            ReasonKind::InterpreterMissing => {
                of("the interpreter of a script does not exist", &|o| format!("the interpreter of {o} does not exist"))
            }
            ReasonKind::WrongArchitecture => "the program is for another processor architecture, or is no program".to_owned(),
            ReasonKind::IllegalInstruction => "the processor lacks an instruction that the program uses".to_owned(),
            ReasonKind::LibraryMissing => {
                of("a shared library is missing or too old", &|o| format!("the library {o} is missing or too old"))
            }
            ReasonKind::ModuleMissing => of("a module is missing", &|o| format!("the module {o} is missing")),
            ReasonKind::SettingMissing => {
                of("a required setting is missing", &|o| format!("the required setting {o} is missing"))
            }
            ReasonKind::ConfigurationInvalid => {
                of("its configuration is invalid", &|o| format!("its configuration is invalid: {o}"))
            }
            ReasonKind::CertificateRejected => {
                of("a certificate is rejected", &|o| format!("the certificate of {o} is rejected"))
            }
            ReasonKind::Locked => {
                of("another instance or a stale lock file holds its lock", &|o| format!("the lock {o} is held or stale"))
            }
            ReasonKind::VersionMismatch => "its data is of another version".to_owned(),
            ReasonKind::Damaged => of("its data is damaged", &|o| format!("{o} is damaged")),
            ReasonKind::KernelSetting => of("a kernel setting or limit is too low", &|o| format!("{o} is too low")),
            ReasonKind::DeviceError => of("a device reports input/output errors", &|o| format!("input/output errors at {o}")),
            ReasonKind::FileMissing => of("a file does not exist", &|o| format!("{o} does not exist")),
        }
    }

    /// The action that removes the reason.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.kind {
            ReasonKind::Refused | ReasonKind::TimedOut | ReasonKind::Unreachable => {
                "start that server, or correct the address in the configuration; a restart of this object alone does not help"
            }
            ReasonKind::NameNotFound => "correct the name, or attach both to one network; a restart does not help",
            ReasonKind::LoginRejected => "compare its user and password with those of the server; a restart does not help",
            ReasonKind::SchemaMissing => "create the database or run its migrations; a restart does not help",
            ReasonKind::AddressInUse => "find the process with `ss -ltnp`; stop it or choose another port",
            ReasonKind::AddressNotAvailable => "correct the address, or add it to an interface before the start",
            ReasonKind::NoSpace => "free space on that filesystem first; a restart makes it worse for databases",
            ReasonKind::ReadOnly => "find out why the filesystem is read-only (`dmesg`, mount options) before the next start",
            ReasonKind::PermissionDenied => "compare the owner and mode of the file with the user of the program",
            ReasonKind::NotPermitted => {
                "grant the capability or the limit that the operation needs, or remove the option that requires it"
            }
            ReasonKind::TooManyFiles => "raise its limit of open files (LimitNOFILE=, --ulimit nofile), and find the leak",
            ReasonKind::InotifyLimit => {
                "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances: all processes of one user share them"
            }
            ReasonKind::TooManyProcesses => {
                "raise its limit of processes (TasksMax=, --pids-limit, ulimit -u), and find the leak"
            }
            ReasonKind::OutOfMemory => "raise its memory limit or reduce its memory use",
            ReasonKind::ProgramMissing => "install the program, or correct its path",
            ReasonKind::InterpreterMissing => {
                "correct the first line of the script (Windows line ends: `dos2unix`); a program for glibc does not run in an image with musl"
            }
            ReasonKind::WrongArchitecture => "use the build for this architecture (`uname -m`)",
            ReasonKind::IllegalInstruction => {
                "use a build for this processor, or expose the instruction set to the virtual machine"
            }
            ReasonKind::LibraryMissing => "install the library, or use a build for this distribution",
            ReasonKind::ModuleMissing => "install the module, or rebuild the image",
            ReasonKind::SettingMissing => "set the variable or option, then recreate or restart it",
            ReasonKind::ConfigurationInvalid => "correct the configuration; a restart before that keeps it down",
            ReasonKind::CertificateRejected => "renew or trust the certificate, and compare its names with the address",
            ReasonKind::Locked => "verify that no other instance runs, then remove the stale lock file",
            ReasonKind::VersionMismatch => "start the version that wrote the data, or migrate the data",
            ReasonKind::Damaged => "restore the data from a backup; do not delete it before that",
            ReasonKind::KernelSetting => "raise the setting, then start it again",
            ReasonKind::DeviceError => "examine the kernel log and the disk; do not restart the database on a failing disk",
            ReasonKind::FileMissing => "restore the file or correct the path; a restart before that keeps it down",
        }
    }

    /// Whether another start fails with the same reason as long as the cause remains.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        use ReasonKind::{
            ConfigurationInvalid, Damaged, DeviceError, FileMissing, IllegalInstruction, InterpreterMissing, KernelSetting,
            LibraryMissing, LoginRejected, ModuleMissing, NotPermitted, PermissionDenied, ProgramMissing, SchemaMissing,
            SettingMissing, VersionMismatch, WrongArchitecture,
        };
        matches!(
            self.kind,
            ConfigurationInvalid
                | Damaged
                | DeviceError
                | FileMissing
                | IllegalInstruction
                | InterpreterMissing
                | KernelSetting
                | LibraryMissing
                | LoginRejected
                | ModuleMissing
                | NotPermitted
                | PermissionDenied
                | ProgramMissing
                | SchemaMissing
                | SettingMissing
                | VersionMismatch
                | WrongArchitecture
        )
    }
}

fn none(_text: &str) -> Option<String> {
    None
}

/// The filesystem of shared memory: POSIX names (`/PostgreSQL.1`) are no paths.
fn shared_memory(text: &str) -> Option<String> {
    text.contains("shared memory").then(|| "/dev/shm".to_owned())
}

fn group(pattern: &Regex, text: &str) -> Option<String> {
    first_group(&pattern.captures(text)?)
}

fn first_group(found: &regex::Captures<'_>) -> Option<String> {
    (1..found.len())
        .find_map(|n| found.get(n))
        .map(|m| m.as_str().trim_end_matches(['.', ':', ',', ';']).trim_matches(['\'', '"']).to_owned())
}

/// The path of an errno: the nearest one before its text, or the one that follows it directly; else the first path. Absolute paths,
/// and relative ones in quotes; quoted ones may contain spaces.
fn path(text: &str) -> Option<String> {
    static PATH: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"['"‘`](/[^'"’`]+)['"’`]|(?:^|[\s(=:\[])(/[^\s:/'",;()\[\]][^\s:'",;()\[\]]*)|['"‘`]((?:[\w-]*[./])+[\w.-]*)['"’`]|permissions \d+ for ([\w./-]+)"#,
        )
    });
    static ERRNO: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)permission denied|no such file or directory|operation not permitted|read-only file ?system|no space left on device|input/output error|disk quota exceeded",
        )
    });
    static BEHIND: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r#"^[)\]]?[:,]?\s*(?:@ \w+ - |\w+ )?(?:['"‘`(]?(/[^\s:'"’`,;()\[\]]+)|['"‘`]((?:[\w-]*[./])+[\w.-]*)['"’`])"#)
    });
    static SOURCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\.(?:php|py|rb|js|ts|go|java|rs)$"));
    let Some(errno) = ERRNO.find_iter(text).last() else { return group(&PATH, text) };
    let (before, behind) = (&text[..errno.start()], &text[errno.end()..]);
    // the location in a program's source, which PHP adds, is not the file
    let behind = group(&BEHIND, behind).or_else(|| group(&PATH, behind)).filter(|path| !SOURCE.is_match(path));
    let direct = group(&BEHIND, &text[errno.end()..]).is_some();
    let nearest = PATH.captures_iter(before).last().and_then(|found| first_group(&found));
    if direct { behind.or(nearest) } else { nearest.or(behind) }
}

fn path_or_quoted(text: &str) -> Option<String> {
    static QUOTED: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"(?:directive|parameter|option|flag|field|variable)[: ]+['"‘`]?([\w.:-]+)|(?:^|[\s\[])(/[^\s'",;()\[\]:]+(?::\d+)?)"#,
        )
    });
    group(&QUOTED, text).map(|o| o.trim().to_owned()).or_else(|| path(text))
}

fn quoted(text: &str) -> Option<String> {
    static QUOTED: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r#"['"‘`]([^'"’`]{1,80})['"’`]|named (\S+)|(?:table|column): (\S+)|Exception: (\S+)|Error: (\S+)$"#)
    });
    group(&QUOTED, text)
}

/// `/bin/sh: 1: dig: not found`, `exec: "foo": executable file not found`, `exec /app/x: exec format error`.
fn program(text: &str) -> Option<String> {
    static PROGRAM: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"exec: line \d+: ([^\s:]+)|exec container process [`'"]([^`'"]+)|exec:? ["']?([^\s"':]+)|([^\s:'"‘]+): (?:command )?not found|([^\s:]+): (?:cannot execute|bad interpreter)|["'‘]([^"'’]+)["'’]"#,
        )
    });
    // the engine names no program
    if text.contains("exec user process") {
        return None;
    }
    group(&PROGRAM, text).or_else(|| path(text))
}

fn library(text: &str) -> Option<String> {
    static LIBRARY: LazyLock<Regex> = LazyLock::new(|| pattern(r"lib[\w.+-]+\.so[\d.]*"));
    static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"GLIBC\w*_[\d.]+"));
    VERSION.find(text).or_else(|| LIBRARY.find(text)).map(|m| m.as_str().to_owned())
}

fn sysctl(text: &str) -> Option<String> {
    static SYSCTL: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"\b((?:vm|net|fs|kernel)\.[a-z_.]+)|(rlimit type \d+)|(memlock|RLIMIT_\w+)"));
    group(&SYSCTL, text)
}

fn setting(text: &str) -> Option<String> {
    static SETTING: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"\b([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)\b|KeyError: '([^']+)'|['"`]([\w.-]+)['"`]"#));
    group(&SETTING, text)
}

fn user(text: &str) -> Option<String> {
    static USER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?i)(?:user|role|for) ["'‘]([^"'’@]+)["'’@]|user ([\w.-]+)"#));
    group(&USER, text).map(|u| format!("user {u}"))
}

/// The name that was not found; not the address of the name server, as in `lookup db on 127.0.0.11:53`.
fn unresolved_name(text: &str) -> Option<String> {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"(?i)lookup ([\w.-]+)|(?:ENOTFOUND|EAI_AGAIN) ([\w.-]+)|host name ["'“]([\w.-]+)["'”]|resolve host(?:name)?:? ["'“]?([\w.-]+)|UnknownHostException: ([\w.-]+)|not found in upstream ["'“]([\w.-]+)|server host ["'“]([\w.-]+)|address:? ["'“]([\w.-]+)|resolve:? ["'“]?([\w.-]+\.?[\w.-]*)["'”]|getaddrinfo for ([\w-]+\.?[\w.-]*)(?: port|:| failed)|([\w.-]+): Name or service not known|host(?:name)?[=:]? ["'“]([\w.-]+)["'”]"#,
        )
    });
    // PHP before 8.1 names no host: `getaddrinfo failed: Name or service not known`
    let name = group(&NAME, text).filter(|name| name != "failed");
    name.or_else(|| host_port(text).map(|address| split_port(&address).0.to_owned()))
}

/// The address a server could not bind: also a port alone.
fn own_address(text: &str) -> Option<String> {
    static PORT: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)(?:port|bind to|listen(?:ing)? on)[: ]+(\d{2,5})\b|(:::\d{2,5})\b|(?:\s|^)(:\d{2,5})\b|socket for ((?:\d{1,3}\.){3}\d{1,3})",
        )
    });
    host_port(text).or_else(|| group(&PORT, text))
}

/// `host:port`, the host and port of a URL, `server at "db" (10.0.0.3), port 5432`, `server on 'db' (111)`; else a host.
fn host_port(text: &str) -> Option<String> {
    static PROSE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"(?i)(?:server at|on host|host|server on|to) ["'“]([\w.:-]+)["'”](?: \(([\da-fA-F.:]+)\))?,?(?: failed)?(?: and accepting TCP/IP connections on)?,? ?port (\d+)"#,
        )
    });
    static URL: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"[a-z][a-z0-9+.-]*://(?:[^\s/@]*@)?(\[[0-9a-f:]+\]|[\w.-]+)(?::(\d{1,5}))?"));
    static PAIR: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r#"(?:^|[\s"'(=@,\[>/-])(\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?):(\d{2,5})(?:$|[\s"'),;\]:./])"#)
    });
    static QUOTED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"(?i)(?:server on|server at|connect to|connecting to|host) ["'“]([\w-]+[\w.-]*)["'”]"#));
    static HOST: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i)(?:connect to|connecting to|host) ([\w-]+\.[\w.-]*\w|localhost)"));
    if let Some(found) = PROSE.captures(text) {
        return Some(found[3].parse::<u16>().map_or_else(|_| found[1].to_owned(), |port| join(&found[1], port)));
    }
    if let Some(found) = URL.captures(text) {
        return Some(match found.get(2) {
            Some(port) => format!("{}:{}", &found[1], port.as_str()),
            None => found[1].to_owned(),
        });
    }
    // of several pairs the last is the peer: `read tcp 172.18.0.2:40000->172.18.0.3:5432: connection refused`
    let peer = PAIR.captures_iter(text).filter(|c| !is_time_or_source(&c[1], &c[2])).last();
    peer.map(|c| format!("{}:{}", &c[1], &c[2])).or_else(|| group(&QUOTED, text)).or_else(|| group(&HOST, text))
}

/// `12:30`, `main.go:32`, `app.py:10`.
fn is_time_or_source(host: &str, port: &str) -> bool {
    const SOURCES: &[&str] = &[
        "go", "py", "js", "ts", "rs", "c", "cc", "cpp", "h", "java", "rb", "php", "erl", "ex", "cs", "pl", "sh", "conf", "yml",
        "yaml",
    ];
    let source = host.rsplit_once('.').is_some_and(|(_, ending)| SOURCES.contains(&ending));
    let number = host.bytes().all(|b| b.is_ascii_digit());
    let port_like = port.parse::<u16>().is_ok_and(|p| p > 0);
    source || number || !port_like || host.ends_with('T') || host.contains("T0") || host.contains("T1") || host.contains("T2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_public_messages() {
        use ReasonKind::*;
        let mut wrong = Vec::new();
        for (text, kind, object) in [
            ("dial tcp 172.18.0.3:5432: connect: connection refused", Refused, "172.18.0.3:5432"),
            ("Error: connect ECONNREFUSED 127.0.0.1:6379", Refused, "127.0.0.1:6379"),
            ("redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.", Refused, "cache:6379"),
            ("connection to server at \"db\" (172.18.0.3), port 5432 failed: Connection refused", Refused, "db:5432"),
            (
                "could not connect to server: Connection refused\tIs the server running on host \"db\" (172.18.0.3) and accepting TCP/IP connections on port 5432?",
                Refused,
                "db:5432",
            ),
            (
                "[ERROR] consumer: Cannot connect to amqp://guest:**@rabbit:5672//: [Errno 111] Connection refused.",
                Refused,
                "rabbit:5672",
            ),
            ("Can't connect to MySQL server on 'db' (111)", Refused, "db"),
            ("read tcp 172.18.0.2:40000->172.18.0.3:5432: connection refused", Refused, "172.18.0.3:5432"),
            ("dial tcp: lookup db on 127.0.0.11:53: no such host", NameNotFound, "db"),
            ("Error: getaddrinfo ENOTFOUND mysql", NameNotFound, "mysql"),
            ("could not translate host name \"db\" to address: Name or service not known", NameNotFound, "db"),
            ("nginx: [emerg] host not found in upstream \"app\" in /etc/nginx/conf.d/default.conf:3", NameNotFound, "app"),
            ("java.net.UnknownHostException: kafka", NameNotFound, "kafka"),
            ("curl: (6) Could not resolve host: api.internal", NameNotFound, "api.internal"),
            ("FATAL:  password authentication failed for user \"app\"", LoginRejected, "user app"),
            ("Access denied for user 'app'@'172.18.0.5' (using password: YES)", LoginRejected, "user app"),
            ("FATAL:  database \"shop\" does not exist", SchemaMissing, "shop"),
            ("FATAL:  role \"app\" does not exist", LoginRejected, "user app"),
            ("listen tcp 0.0.0.0:8080: bind: address already in use", AddressInUse, "0.0.0.0:8080"),
            ("Error: listen EADDRINUSE: address already in use :::3000", AddressInUse, ":::3000"),
            ("bind: cannot assign requested address 10.1.2.3:80", AddressNotAvailable, "10.1.2.3:80"),
            ("open /data/db.lock: permission denied", PermissionDenied, "/data/db.lock"),
            ("PermissionError: [Errno 13] Permission denied: '/var/log/app/app.log'", PermissionDenied, "/var/log/app/app.log"),
            ("mkdir: cannot create directory '/bitnami/postgresql': Permission denied", PermissionDenied, "/bitnami/postgresql"),
            ("could not write to file \"pg_wal/xlogtemp.28\": No space left on device", NoSpace, "pg_wal/xlogtemp.28"),
            ("OSError: [Errno 30] Read-only file system: '/data/x'", ReadOnly, "/data/x"),
            ("/x.sh: line 3: dig: command not found", ProgramMissing, "dig"),
            ("/bin/sh: 1: node: not found", ProgramMissing, "node"),
            ("exec /usr/local/bin/app: exec format error", WrongArchitecture, "/usr/local/bin/app"),
            ("/entrypoint.sh: /bin/bash^M: bad interpreter: No such file or directory", InterpreterMissing, "/bin/bash^M"),
            ("exec /entrypoint.sh: no such file or directory", InterpreterMissing, "/entrypoint.sh"),
            ("standard_init_linux.go:228: exec user process caused: no such file or directory", InterpreterMissing, ""),
            ("exec container process `/app/run`: No such file or directory", InterpreterMissing, "/app/run"),
            ("/entrypoint.sh: exec: line 3: /app/run: not found", ProgramMissing, "/app/run"),
            ("Fatal glibc error: CPU does not support x86-64-v2", IllegalInstruction, ""),
            ("./app: /lib/libc.so.6: version `GLIBC_2.34' not found (required by ./app)", LibraryMissing, "GLIBC_2.34"),
            ("ModuleNotFoundError: No module named 'redis'", ModuleMissing, "redis"),
            ("Error: Cannot find module '/app/server.js'", ModuleMissing, "/app/server.js"),
            ("KeyError: 'DATABASE_URL'", SettingMissing, "DATABASE_URL"),
            ("panicked: DATABASE_URL must be set", SettingMissing, "DATABASE_URL"),
            ("[emerg] unknown directive \"servr\" in /etc/nginx/nginx.conf:3", ConfigurationInvalid, "servr"),
            ("Error: ENOSPC: System limit for number of file watchers reached", InotifyLimit, ""),
            ("failed to create fsnotify watcher: too many open files", InotifyLimit, ""),
            ("OSError: [Errno 24] inotify instance limit reached", InotifyLimit, ""),
            (
                "max virtual memory areas vm.max_map_count [65530] is too low, increase to at least [262144]",
                KernelSetting,
                "vm.max_map_count",
            ),
            ("java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory", TooManyProcesses, ""),
            ("socket: too many open files", TooManyFiles, ""),
            ("FATAL:  could not map anonymous shared memory: Cannot allocate memory", OutOfMemory, ""),
            ("x509: certificate has expired or is not yet valid", CertificateRejected, ""),
            ("ERROR: Pidfile (celerybeat.pid) already exists.", Locked, ""),
            ("FATAL:  lock file \"postmaster.pid\" already exists", Locked, "postmaster.pid"),
            ("Can't handle RDB format version 11", VersionMismatch, ""),
            ("FileNotFoundError: [Errno 2] No such file or directory: '/etc/app/app.yml'", FileMissing, "/etc/app/app.yml"),
        ] {
            let found = reason(text).map(|r| (r.kind, r.object.unwrap_or_default()));
            if found != Some((kind, object.to_owned())) {
                wrong.push(format!("{text}: {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn ordinary_lines_have_no_reason() {
        for text in ["listening on port 8080", "GET /health 200", "connected to db:5432", "12:30:01 started", "loaded 3 modules"]
        {
            assert_eq!(reason(text), None, "{text}");
        }
    }

    #[test]
    fn peer_of_a_reason() {
        let peer = |text: &str| reason(text).and_then(|r| r.peer().map(|(h, p)| (h.to_owned(), p)));
        assert_eq!(peer("dial tcp [::1]:80: connect: connection refused"), Some(("::1".into(), Some(80))));
        assert_eq!(peer("lookup db on 127.0.0.11:53: no such host"), Some(("db".into(), None)));
        // libpq names the address that it tried
        let libpq = |server: &str| peer(&format!("connection to server at {server}, port 5432 failed: Connection refused"));
        assert_eq!(libpq("\"::1\""), Some(("::1".into(), Some(5432))));
        assert_eq!(libpq("\"localhost\" (::1)"), Some(("localhost".into(), Some(5432))));
        assert_eq!(peer("open /x: permission denied"), None);
    }
}
