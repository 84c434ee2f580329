//! Parts that several runbooks share.

pub(crate) mod broker_keys;
pub(crate) mod dependencies;
pub(crate) mod log_lines;
pub(crate) mod log_reason;
pub(crate) mod needed_servers;
pub(crate) mod nginx_context;
pub(crate) mod obstacle;
mod obstacle_files;
pub(crate) mod packet_filter;
pub(crate) mod processes;
pub(crate) mod refusals;
pub(crate) mod reload_nginx;
pub(crate) mod restart_container;
pub(crate) mod servers;
pub(crate) mod settings;
pub(crate) mod stop;
pub(crate) mod sysctl;
pub(crate) mod unwritable;
