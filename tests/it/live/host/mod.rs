//! The baseline of a host: its first boot and its settings.

mod cloud_init;
mod settings;
