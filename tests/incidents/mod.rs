//! Reproductions of incidents: expected findings, root causes, findings that must be absent, and the effect of the fix. The numbers are
//! those of the scenario list; `n…` are controls on a healthy host.

mod i01_healthcheck_tool_missing;
mod i02_autoheal_loop;
mod i06_oom_crash_loop;
mod i08_crash_loop_bad_config;
mod i09_port_already_allocated;
mod i12_log_fills_disk;
mod i13_inode_exhaustion;
mod i14_deleted_but_open;
mod i16_redis_cannot_save;
mod i18_connection_leak;
mod i19_ddl_queue;
mod i21_redis_down;
mod i24_worker_stalled;
mod i25_no_worker;
mod i29_stale_upstream;
mod i31_stale_certificate;
mod i34_loopback_only;
mod i35_mtu_blackhole;
mod i38_firewall_unit_failed;
mod i40_monitoring_blind;
mod i51_application_without_its_database;
mod i52_unit_of_an_endpoint;
mod n01_finished_jobs;
mod n02_stopped_by_hand;
mod n04_mtu_mismatch_works;
mod n05_reserved_blocks;
mod n06_full_by_design;
mod n08_name_that_does_not_exist;
mod n09_redis_at_ease;
mod n12_postgres_at_ease;
mod n14_entropy;
mod n15_monitoring_at_ease;
mod n16_whole_host;
