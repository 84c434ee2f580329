//! The baseline of a host: its first boot, its settings and its limits.

mod cloud_init;
mod settings;
mod user_limits;
