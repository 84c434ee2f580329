//! Dependencies that many codes share, by role and object.

use opsctl_core::model::{DependsOn, KeyKind, Role};

/// The container or the unit in which it runs.
pub(crate) const fn running(possessive: &'static str) -> [DependsOn; 2] {
    [
        DependsOn::confirmed(Role::Down, KeyKind::Container, possessive),
        DependsOn::confirmed(Role::Down, KeyKind::Unit, possessive),
    ]
}

/// The container in which it runs, for what is always in a container or has an unknown unit.
pub(crate) const fn running_container(possessive: &'static str) -> [DependsOn; 1] {
    [DependsOn::confirmed(Role::Down, KeyKind::Container, possessive)]
}

/// Its data on a filesystem of this host.
pub(crate) const NO_ROOM: &[DependsOn] = &[DependsOn::confirmed(Role::NoRoom, KeyKind::Filesystem, "its")];

/// The path of its packets between the networks of this host.
pub(crate) const FORWARDED: &[DependsOn] = &[DependsOn::likely(Role::PacketsDropped, KeyKind::Host, "")];

/// The path of its packets between the networks of this host, and to a peer.
pub(crate) const PACKETS_DROPPED: &[DependsOn] =
    &[DependsOn::likely(Role::PacketsDropped, KeyKind::Host, ""), DependsOn::likely(Role::PacketsDropped, KeyKind::Address, "")];

/// A file descriptor for each client.
pub(crate) const DESCRIPTORS: &[DependsOn] = &[DependsOn::likely(Role::NoDescriptors, KeyKind::Container, "its")];

/// The port it connects to.
pub(crate) const PORT_CLOSED: &[DependsOn] = &[DependsOn::confirmed(Role::PortClosed, KeyKind::Port, "its")];

/// The server in the container it connects to.
pub(crate) const UNRESPONSIVE: &[DependsOn] = &[DependsOn::confirmed(Role::Unresponsive, KeyKind::Container, "its")];

/// The container engine: its embedded DNS server and its API.
pub(crate) const ENGINE: &[DependsOn] = &[DependsOn::likely(Role::Unresponsive, KeyKind::Engine, "its")];

/// Processor time and memory for a response in time.
pub(crate) const STARVED: &[DependsOn] =
    &[DependsOn::likely(Role::Starved, KeyKind::Host, ""), DependsOn::likely(Role::Starved, KeyKind::Container, "its")];

/// The networks of its container.
pub(crate) const ATTACHED: &[DependsOn] = &[DependsOn::likely(Role::Detached, KeyKind::Container, "its")];

/// The bind mounts of its container that its log names.
pub(crate) const BIND_MOUNTS: &[DependsOn] = &[DependsOn::confirmed(Role::OldFile, KeyKind::BindMount, "its")];

/// The database, cache or broker at the port it connects to.
pub(crate) const SERVES: &[DependsOn] = &[DependsOn::likely(Role::Down, KeyKind::Server, "its")];

/// The databases, caches and brokers without which an application does not start.
pub(crate) const NEEDED_TO_START: &[DependsOn] = &[DependsOn::likely(Role::Down, KeyKind::Server, "its")];

/// The containers and units that the object needs, from its log or its configuration.
pub(crate) const NEEDED: &[DependsOn] = &[DependsOn::likely(Role::Down, KeyKind::Requirement, "a needed object: its")];

/// The databases, caches and brokers that the application names in its environment.
pub(crate) const NEEDED_SERVERS: &[DependsOn] = &[
    DependsOn::likely(Role::Down, KeyKind::Server, "the application's"),
    DependsOn::likely(Role::Exhausted, KeyKind::Server, "the application's"),
    DependsOn::likely(Role::RejectsWrites, KeyKind::Server, "the application's"),
    DependsOn::likely(Role::RejectsWrites, KeyKind::Writes, "the application's"),
];
