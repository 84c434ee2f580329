//! Causes of a server that is down, common to all products.

/// The links from its container and from its unit to these codes.
macro_rules! down {
    ($($code:literal),* $(,)?) => {
        &[
            $(
                Link::confirmed("container.down", $code, KeyKind::Container, "its container is down"),
                Link::confirmed("container.restart-loop", $code, KeyKind::Container, "its container restarts repeatedly"),
                Link::confirmed("container.start-failed", $code, KeyKind::Container, "its container could not be started"),
                Link::confirmed("container.oom-killed", $code, KeyKind::Container, "its container was OOM-killed"),
                Link::confirmed("container.paused", $code, KeyKind::Container, "its container is paused"),
                Link::confirmed("systemd.unit-failed", $code, KeyKind::Unit, "its unit failed"),
                Link::confirmed("systemd.enabled-inactive", $code, KeyKind::Unit, "its unit is not started"),
                Link::confirmed("systemd.restart-loop", $code, KeyKind::Unit, "its unit restarts repeatedly"),
            )*
        ]
    };
}

pub(crate) use down;
