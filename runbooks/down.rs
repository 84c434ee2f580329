//! Why a server of this host may be down, whatever it serves.

/// The links from its container and from its unit to these codes.
macro_rules! down {
    ($($code:literal),* $(,)?) => {
        &[
            $(
                Link::confirmed("container.down", $code, KeyKind::Container, "its container is down"),
                Link::confirmed("container.restart-loop", $code, KeyKind::Container, "its container is restarted again and again"),
                Link::confirmed("container.start-failed", $code, KeyKind::Container, "its container could not be started"),
                Link::confirmed("container.oom-killed", $code, KeyKind::Container, "the kernel killed it for memory"),
                Link::confirmed("container.paused", $code, KeyKind::Container, "its container is paused"),
                Link::confirmed("systemd.unit-failed", $code, KeyKind::Unit, "its unit failed"),
                Link::confirmed("systemd.enabled-inactive", $code, KeyKind::Unit, "its unit is not started"),
                Link::confirmed("systemd.restart-loop", $code, KeyKind::Unit, "its unit is restarted again and again"),
            )*
        ]
    };
}

pub(crate) use down;
