//! Control: finished jobs are no outage.

use crate::lab::{Host, Rootfs};

#[test]
fn finished_jobs_are_ok() {
    let Some(host) = Host::start() else { return };
    host.image("job:1", Rootfs::Scratch, &[]);
    host.docker(&["run", "--rm", "job:1", "fixture", "say", "migrated", "0"]);
    host.docker(&["run", "--name", "migrate", "job:1", "fixture", "say", "migrated", "0"]);
    let once = ["--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=app", "--label"];
    host.docker(
        &[
            &["run", "--name", "shop-app-run-1"],
            &once[..],
            &["com.docker.compose.oneoff=True", "job:1", "fixture", "say", "done", "0"],
        ]
        .concat(),
    );
    // created and never started, as by `docker compose create`
    host.docker(&["create", "--name", "later", "job:1", "fixture", "wait-term"]);
    let run = host.diagnose();
    run.roots(&[]).must_not(&["container.down", "container.start-failed", "container.oom-killed", "container.restart-loop"]);
    host.leaves(&run, "");
}
