//! Single faults on a live host, each with what must and what must not be said.

mod alerts;
mod bad_days;
mod binds;
mod certificates;
mod dns;
mod edge;
mod endpoints;
mod first_boot;
mod formats;
mod forwarding;
mod health;
mod limits;
mod logs;
mod mtu;
mod network;
mod packaging;
mod pressure;
mod provisioning;
mod queues;
mod renewal;
mod replay;
mod reports;
mod secrets;
mod servers;
mod state;
mod terminal;
