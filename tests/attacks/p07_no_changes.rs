//! Promise 7: diagnosis, reports and recordings change nothing.

use crate::lab::{Host, MACHINE, installed};

use super::Scene;

/// State of the host that a run must not change.
fn state(scene: &Scene) -> String {
    scene.sh(
        "find /mnt /etc/nginx /var/log/nginx -xdev -not -path '/mnt/pg/data/*' -not -path '/mnt/loot*' -printf '%p %s %T@ %m %u %y\\n' | sort
        echo == rules; iptables-save | grep -v '^#' | sed 's/\\[.*//'; ip -o -4 addr; ip route; ip netns
        echo == settings; sysctl -n vm.overcommit_memory net.core.somaxconn net.ipv4.ip_forward
        echo == containers; docker ps -aq --no-trunc | sort | xargs -r docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}'
        docker images -q | sort; docker network ls -q | sort; docker volume ls -q | sort
        echo == redis; redis-cli config get '*'; redis-cli dbsize; redis-cli lastsave; redis-cli config get save
        echo == postgres; setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -Atqc \\
            \"SELECT name, setting FROM pg_settings ORDER BY 1; SELECT rolname FROM pg_roles ORDER BY 1; SELECT relname FROM pg_class ORDER BY 1\"
        echo == processes; cd /proc; for p in [0-9]*; do read -r comm < $p/comm 2> /dev/null && case $comm in
            bash | find | sort | nsenter | postgres | psql | kworker* | xargs | docker) ;; *) echo $p $comm ;; esac; done",
    )
}

#[test]
fn diagnose_report_and_record_leave_the_host_unchanged() {
    if !installed(&["redis-server", "psql", "nginx", "rabbitmqctl"]) {
        return;
    }
    let Some(host) = Host::with_edge() else { return };
    let scene = Scene::on(host);
    scene.redis(6379, &["--save", "3600 1"]);
    scene.postgres("autovacuum = off");
    scene.nginx("server { listen 8080; location / { return 200 ok; } }");
    scene.run("cache", &[MACHINE, &["machine:1", "redis-server", "--port", "6379"]].concat());
    scene.until_redis("cache");
    // tools of this node would leave Erlang's port mapper (epmd) running
    scene.program("beam.smp").rogue("rabbitmq", &["--port", "5672", "--", "-s", "rabbit", "boot"]);
    scene.until_listening(5672);
    let before = state(&scene);
    for words in
        [&["diagnose", "-vv"][..], &["report", "--always"], &["record", "/run/lab/recording.json"], &["targets"], &["fix"]]
    {
        let run = scene.opsctl(words);
        assert!((0..=3).contains(&run.code) || run.code == 10, "{words:?}: exit {}: {}", run.code, run.stderr);
        let after = state(&scene);
        let changed: Vec<&str> =
            after.lines().filter(|l| !before.contains(l)).chain(before.lines().filter(|l| !after.contains(l))).collect();
        assert!(changed.is_empty(), "{words:?} changed {}", changed.join("\n"));
    }
}
