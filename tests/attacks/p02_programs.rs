//! Promise 2: no program that a probed process specifies is executed with more privileges than that process has.

use crate::lab::{MACHINE, eventually, installed};

use super::{SHARED, Scene, belongs_to_attacker, quoted, rogue};

/// Runbooks that run `nginx -t` and read certificates.
const EDGE: &[&str] = &["nginx", "tls"];

/// The title of a fake nginx: `nginx -t` with its arguments would run `id` in a shell.
const SHELL_AS_NGINX: &str = "nginx: master process nginx -c id>/mnt/marks/shell";

#[test]
fn bash_renamed_to_nginx_is_not_run() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.write(
        "/mnt/home/mallory/script",
        "printf nginx > /proc/self/comm\nmkfifo /mnt/home/mallory/wait; read < /mnt/home/mallory/wait\n",
    );
    scene.spawn_as_user(&format!("exec -a {} bash < /mnt/home/mallory/script", quoted(SHELL_AS_NGINX)));
    scene.wait_for("[ -p /mnt/home/mallory/wait ]");
    let run = scene.run_verified(EDGE);
    belongs_to_attacker(&run, "localhost:80");
}

#[test]
fn own_program_named_nginx_is_not_run() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.program("nginx").title("nginx: master process /usr/sbin/nginx").rogue("http", &["--port", "8080"]);
    scene.until_listening(8080);
    let run = scene.run_verified(EDGE);
    belongs_to_attacker(&run, ":8080");
}

#[test]
fn module_of_user_nginx_is_not_loaded_as_root() {
    if !installed(&["nginx", "cc"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.user_nginx();
    scene.write(
        "/mnt/home/mallory/evil.c",
        r#"#include <stdio.h>
__attribute__((constructor)) static void loaded(void) {
    FILE *from = fopen("/proc/self/status", "r"), *to = fopen("/mnt/marks/module", "w");
    char line[4096];
    if (from && to) while (fgets(line, sizeof line, from)) fputs(line, to);
    if (to) fclose(to);
}
"#,
    );
    scene.as_user("cd ~mallory; cc -shared -fPIC -o evil.so evil.c");
    scene.as_user("cd ~mallory; sed -i '1i load_module /mnt/home/mallory/evil.so;' nginx.conf");
    let run = scene.run_verified(EDGE);
    belongs_to_attacker(&run, ":8080");
}

#[test]
fn program_path_of_other_mount_namespace_is_not_run_on_host() {
    let Some(scene) = Scene::without_engine() else { return };
    // /usr/bin/bash is a program of the attacker in its mount namespace, and a shell that accepts `-c` on the host
    let file = scene.program_file("bash");
    let script = format!(
        "mount --bind {file} /usr/bin/bash; export ROGUE={}; exec -a {} /usr/bin/bash",
        quoted("http\n--comm\nnginx\n--port\n8080\n--log\n/mnt/loot/bash.log"),
        quoted(SHELL_AS_NGINX)
    );
    scene.spawn_as_user(&format!("exec unshare --user --map-root-user --mount bash -c {}", quoted(&script)));
    scene.until_listening(8080);
    let run = scene.run_verified(EDGE);
    belongs_to_attacker(&run, ":8080");
}

#[test]
fn fakes_of_every_product_are_not_run() {
    let Some(scene) = Scene::without_engine() else { return };
    let products: &[(&str, &str, &str, u16)] = &[
        ("prometheus", "http", "--config.file=/mnt/home/mallory/prometheus.yml", 9090),
        ("alertmanager", "http", "--config.file=/mnt/home/mallory/alertmanager.yml", 9093),
        ("loki", "http", "-config.file=/mnt/home/mallory/loki.yml", 3100),
        ("alloy", "http", "run", 12345),
        ("grafana", "http", "server", 3000),
        ("redis-server", "redis", "", 6379),
        ("postgres", "postgres", "-D", 5432),
        ("pgbouncer", "postgres", "", 6432),
    ];
    for (name, protocol, argument, port) in products {
        scene.program(name).rogue(protocol, &["--port", &port.to_string(), "--", argument]);
    }
    scene.program("beam.smp").rogue("rabbitmq", &["--port", "5672,15672", "--", "-s", "rabbit", "boot"]);
    for port in products.iter().map(|(.., port)| *port).chain([5672, 15672]) {
        scene.until_listening(port);
    }
    let run = scene.run_verified(&["monitoring", "redis", "postgres", "rabbitmq"]);
    for (.., port) in products {
        belongs_to_attacker(&run, &format!(":{port}"));
    }
    belongs_to_attacker(&run, ":5672");
    scene.no_login_received();
}

#[test]
fn node_name_is_not_run_by_a_shell() {
    if !installed(&["rabbitmqctl"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let name = "$(id>/mnt/marks/node-name)@localhost";
    scene.program("beam.smp").rogue("rabbitmq", &["--port", "5672", "--", "-sname", name, "-s", "rabbit", "boot"]);
    scene.until_listening(5672);
    let run = scene.run_verified(&["rabbitmq"]);
    belongs_to_attacker(&run, ":5672");
}

#[test]
fn node_name_from_environment_is_not_run_by_a_shell() {
    if !installed(&["rabbitmqctl"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let program = scene.program("beam.smp").env("RABBITMQ_NODENAME=`id>/mnt/marks/node-name`@localhost");
    program.rogue("rabbitmq", &["--port", "5672", "--", "-s", "rabbit", "boot"]);
    scene.until_listening(5672);
    let run = scene.run_verified(&["rabbitmq"]);
    belongs_to_attacker(&run, ":5672");
}

/// A container with an idle root process as PID 1 and a directory of programs of user 1000 first in its `PATH`.
fn container_with_user(scene: &mut Scene) {
    scene.own_rights = vec![1000];
    scene.tools(&["nginx", "promtool", "rabbitmqctl", "rabbitmq-diagnostics", "prometheus", "beam.smp", "env"]);
    let own = ["-v", "/mnt/tools:/tools", "-v", "/run/lab/fixture:/fixture:ro", "-e", "PATH=/tools:/usr/sbin:/usr/bin"];
    scene.run("app", &[&own, SHARED, MACHINE, &["machine:1", "/fixture", "wait-term"]].concat());
}

/// Starts a server as user 1000 in the container, with a program name and a title, and waits until its port is open.
fn in_container(scene: &Scene, title: &str, name: &str, port: &str, protocol: &str, args: &[&str]) {
    let script = format!("exec -a {} /tools/{name} \"$@\"", quoted(title));
    let (variable, shown) = rogue(name, protocol, &[&["--port", port], args].concat());
    let own = ["exec", "-d", "-u", "1000", "-e", &variable, "app", "bash", "-c", &script, name];
    scene.docker(&[&own[..], &shown].concat());
    eventually(30, "the server listens", || {
        let listening = scene.try_docker(&["exec", "app", "/usr/bin/ss", "-Hltn"]);
        String::from_utf8_lossy(&listening.stdout).contains(&format!(":{port} ")).then_some(())
    });
}

#[test]
fn nginx_of_container_user_is_not_run_as_container_root() {
    let Some(mut scene) = Scene::start() else { return };
    container_with_user(&mut scene);
    in_container(&scene, "nginx: master process /tools/nginx", "nginx", "8080", "http", &[]);
    scene.run_verified(EDGE);
}

#[test]
fn promtool_of_container_user_is_not_run_as_container_root() {
    let Some(mut scene) = Scene::start() else { return };
    container_with_user(&mut scene);
    let failed =
        "/api/v1/status/runtimeinfo=200:{\"data\":{\"reloadConfigSuccess\":false,\"lastConfigTime\":\"2026-01-01T00:00:00Z\"}}";
    let args = ["--page", "/-/ready=200:ready", "--page", failed, "--", "--config.file=/tools/prometheus.yml"];
    in_container(&scene, "/tools/prometheus", "prometheus", "9090", "http", &args);
    scene.run_verified(&["monitoring"]);
}

#[test]
fn rabbitmqctl_of_container_user_is_not_run_as_container_root() {
    let Some(mut scene) = Scene::start() else { return };
    container_with_user(&mut scene);
    in_container(
        &scene,
        "/tools/beam.smp",
        "beam.smp",
        "5672",
        "rabbitmq",
        &["--", "-sname", "rabbit@app", "-s", "rabbit", "boot"],
    );
    scene.run_verified(&["rabbitmq"]);
}

#[test]
fn renewal_hook_of_other_mount_namespace_is_not_run() {
    if !installed(&["certbot"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let conf = "[renewalparams]\\nauthenticator = standalone\\nrenew_hook = id>/mnt/marks/hook\\n";
    let paths = "cert = /etc/letsencrypt/live/shop/cert.pem\\nfullchain = /etc/letsencrypt/live/shop/fullchain.pem\\n";
    scene.write(
        "/mnt/home/mallory/nginx.conf",
        "events {} http { server { listen 8443 ssl; server_name shop.test; ssl_certificate /etc/letsencrypt/live/shop/fullchain.pem;
        ssl_certificate_key /etc/letsencrypt/live/shop/privkey.pem; } }",
    );
    let own_etc = format!(
        "mount -t tmpfs tmpfs /etc; mkdir -p /etc/letsencrypt/renewal /etc/letsencrypt/live/shop; printf '{paths}{conf}' > /etc/letsencrypt/renewal/shop.conf
        openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=shop.test -keyout /etc/letsencrypt/live/shop/privkey.pem -out /etc/letsencrypt/live/shop/fullchain.pem 2> /dev/null
        cp /etc/letsencrypt/live/shop/fullchain.pem /etc/letsencrypt/live/shop/cert.pem"
    );
    let program = scene.program("nginx").unshare("--user --map-root-user --mount").before(&own_etc);
    program.title("nginx: master process nginx -c /mnt/home/mallory/nginx.conf").rogue("http", &["--port", "8443"]);
    scene.until_listening(8443);
    let run = scene.run_verified(EDGE);
    belongs_to_attacker(&run, ":8443");
    let fix = scene.opsctl(&["fix", "certbot.renew", "shop", "--yes"]);
    assert!(scene.problems(&[&fix]).is_empty(), "{:?}", scene.problems(&[&fix]));
}
