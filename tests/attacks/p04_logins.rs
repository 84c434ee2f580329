//! Promise 4: a login is sent only to its proven peer. `verify-full` verifies or is rejected; a cleartext password is sent only over a unix
//! socket with the right peer or over verified TLS.

use crate::lab::{MACHINE, PEER, Rootfs, Run, eventually, installed};

use super::{Scene, UID, belongs_to_attacker, examined, rogue, rows, summary};

/// A host with a container `victim` that has passwords of three products in its environment.
fn with_victim() -> Option<Scene> {
    let scene = Scene::start()?;
    scene.image("svc:1", Rootfs::Scratch, &[]);
    let passwords = ["REDIS_PASSWORD", "POSTGRES_PASSWORD", "RABBITMQ_DEFAULT_PASS"].map(|p| format!("{p}={}", scene.secret));
    let options: Vec<&str> = passwords.iter().flat_map(|p| ["-e", p.as_str()]).collect();
    scene.run("victim", &[&options[..], &["svc:1", "fixture", "wait-term"]].concat());
    Some(scene)
}

#[test]
fn redis_in_faked_group_gets_no_container_password() {
    let Some(scene) = with_victim() else { return };
    let group = scene.faked_group("victim");
    scene.program("redis-server").group(&group).rogue("redis", &["--port", "6380"]);
    scene.until_listening(6380);
    let run = scene.run_verified(&["redis"]);
    belongs_to_attacker(&run, ":6380");
    scene.no_login_received();
}

#[test]
fn postgres_in_faked_group_gets_no_container_password() {
    let Some(scene) = with_victim() else { return };
    let group = scene.faked_group("victim");
    for (auth, port) in [("cleartext", 5433_u16), ("md5", 5434), ("scram", 5435)] {
        scene.program("postgres").group(&group).rogue("postgres", &["--port", &port.to_string(), "--auth", auth]);
        scene.until_listening(port);
    }
    let run = scene.run_verified(&["postgres"]);
    for port in [":5433", ":5434", ":5435"] {
        belongs_to_attacker(&run, port);
    }
    scene.no_login_received();
}

#[test]
fn rabbitmq_in_faked_group_gets_no_container_password() {
    let Some(scene) = with_victim() else { return };
    let group = scene.faked_group("victim");
    let args = ["--port", "5672,15672", "--auth", "basic", "--", "-s", "rabbit", "boot"];
    scene.program("beam.smp").group(&group).rogue("rabbitmq", &args);
    scene.until_listening(15672);
    let run = scene.run_verified(&["rabbitmq"]);
    belongs_to_attacker(&run, ":5672");
    scene.no_login_received();
}

#[test]
fn faked_group_inside_own_container_gets_no_container_password() {
    let Some(scene) = with_victim() else { return };
    scene.tools(&["redis-server"]);
    scene.hostile("evil", &[], "redis-server", "redis-server *:6379", "redis", &["--port", "6379"]);
    // a container with writable control groups creates one with the name of another container's
    let (evil, victim) = (scene.inspect("evil", "{{.State.Pid}}"), scene.inspect("victim", "{{.Id}}"));
    scene.nested_group(&evil, &format!("docker-{victim}.scope"));
    let run = scene.run_verified(&["redis"]);
    scene.no_login_received();
    assert!(!rows(&run, "redis:victim").any(|row| row.verdict != "skip"), "{}", summary(&run));
}

#[test]
fn faked_group_does_not_receive_the_login_of_a_container_name() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    let server = ["machine:1", "redis-server", "--port", "6379", "--requirepass", &scene.secret];
    scene.run("cache", &[MACHINE, &server].concat());
    let group = scene.faked_group("cache");
    scene.program("redis-server").group(&group).rogue("redis", &["--port", "6380"]);
    scene.until_listening(6380);
    // from now on the attacker's process is the older one
    scene.docker(&["restart", "-t", "1", "cache"]);
    scene.until_redis("cache");
    scene.configure("[[server]]\nname = \"cache\"\npassword = \"${CACHE_PW}\"\n");
    let run = scene.run_verified_with(&["diagnose", "redis"], &[("CACHE_PW", &scene.secret)]);
    examined(&run, "redis:cache", &["redis.up"]);
    belongs_to_attacker(&run, ":6380");
    scene.no_login_received();
}

/// Writes `requirepass` of the Redis of the host to a file readable by root only.
fn host_password(scene: &Scene) {
    scene.sh("mkdir -p /etc/redis; mount -t tmpfs tmpfs /etc/redis");
    scene.plant("/etc/redis/redis.conf", "requirepass SECRET\n");
}

#[test]
fn user_redis_gets_no_requirepass_of_the_host() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    host_password(&scene);
    scene.program("redis-server").rogue("redis", &["--port", "6379"]);
    scene.until_listening(6379);
    let run = scene.run_verified(&["redis"]);
    belongs_to_attacker(&run, ":6379");
    scene.no_login_received();
}

#[test]
fn redis_in_other_network_namespace_gets_no_requirepass_of_the_host() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    host_password(&scene);
    let program = scene.program("redis-server").unshare("--user --map-root-user --net").before("ip link set lo up");
    program.rogue("redis", &["--port", "6379"]);
    scene.until_listening_in("redis-server", 6379);
    let run = scene.run_verified(&["redis"]);
    belongs_to_attacker(&run, ":6379");
    scene.no_login_received();
}

#[test]
fn configured_url_does_not_match_a_server_in_another_network_namespace() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let program = scene.program("redis-server").unshare("--user --map-root-user --net").before("ip link set lo up");
    program.rogue("redis", &["--port", "6379"]);
    scene.until_listening_in("redis-server", 6379);
    scene.redis(6379, &["--requirepass", &scene.secret]);
    scene.configure("[[server]]\nname = \"cache\"\nurl = \"redis://:${CACHE_PW}@127.0.0.1:6379/0\"\n");
    let run = scene.run_verified_with(&["diagnose", "redis"], &[("CACHE_PW", &scene.secret)]);
    scene.no_login_received();
    let up = run.report().checks.iter().filter(|c| c.check == "redis.up" && c.verdict == "ok").count();
    assert_eq!(up, 1, "the real one is examined: {}", summary(&run));
}

/// A server of the attacker on this port that closes its listener after one connection.
fn one_connection(scene: &Scene, port: u16, protocol: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/one_connection.py");
    scene.sh(&format!("install -m 644 {script} /mnt/one_connection.py"));
    scene.spawn_as_user(&format!("exec python3 /mnt/one_connection.py {port} /mnt/loot/{port}.log {protocol}"));
    scene.wait_for(&format!("ss -Hltn sport = :{port} | grep -q ."));
}

/// Repeats the diagnosis until the report names the owner of a server of [`one_connection`]: between two connections it has no listener.
#[track_caller]
fn until_owner_is_named(address: &str, diagnose: impl Fn() -> Run) {
    let named = format!("the server at {address} belongs to user mallory");
    eventually(60, "the owner is named", || summary(&diagnose()).contains(&named).then_some(()));
}

#[test]
fn configured_server_without_a_listener_gets_no_login() {
    let Some(scene) = Scene::without_engine() else { return };
    one_connection(&scene, 6379, "redis");
    one_connection(&scene, 9090, "http");
    scene.configure(
        "[[server]]\nname = \"cache\"\nurl = \"redis://:${PW}@127.0.0.1:6379/0\"
[[server]]\nname = \"metrics\"\nurl = \"prometheus://ops:${PW}@127.0.0.1:9090\"\n",
    );
    let diagnose = || scene.run_verified_with(&["diagnose", "redis", "monitoring"], &[("PW", &scene.secret)]);
    until_owner_is_named("127.0.0.1:6379", diagnose);
    until_owner_is_named("127.0.0.1:9090", diagnose);
}

#[test]
fn libpq_password_is_not_sent_to_a_closed_listener() {
    let Some(scene) = Scene::without_engine() else { return };
    one_connection(&scene, 5432, "postgres");
    let environment = [("PGHOST", "127.0.0.1"), ("PGUSER", "app"), ("PGPASSWORD", &*scene.secret)];
    until_owner_is_named("127.0.0.1:5432", || scene.run_verified_with(&["diagnose", "postgres"], &environment));
}

#[test]
fn token_of_a_site_check_is_not_sent_to_a_user() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.program("shop").rogue("http", &["--port", "8088", "--auth", "basic"]);
    one_connection(&scene, 8089, "http");
    for port in [8088, 8089] {
        scene.wait_for(&format!("ss -Hltn sport = :{port} | grep -q ."));
    }
    scene.configure("");
    std::fs::create_dir(scene.path("runbooks.d")).unwrap();
    let check = |port: u16| {
        format!(
            "[[check]]\nname = \"up-{port}\"\ntitle = \"the shop on {port} is up\"\n\
             http = {{ url = \"http://127.0.0.1:{port}/health\", status = [200], header = {{ X-Key = \"${{TOKEN}}\" }} }}\n"
        )
    };
    let runbook = format!("[runbook]\nname = \"shop\"\ntitle = \"the shop\"\n\n{}{}", check(8088), check(8089));
    std::fs::write(scene.path("runbooks.d/shop.toml"), runbook).unwrap();
    let diagnose = || scene.run_verified_with(&["diagnose", "shop"], &[("TOKEN", &scene.secret)]);
    until_owner_is_named("127.0.0.1:8088", diagnose);
    until_owner_is_named("127.0.0.1:8089", diagnose);
    let run = diagnose();
    assert!(!rows(&run, "service:shop").any(|row| row.verdict == "ok"), "{}", summary(&run));
}

#[test]
fn password_file_of_a_user_namespace_proves_no_account() {
    let Some(scene) = Scene::without_engine() else { return };
    let file = scene.program_file("redis-server");
    let (variable, words) = rogue("redis-server", "redis", &["--port", "6379"]);
    // a service account that creates a user namespace
    let script = format!(
        "echo 'redis:x:0:0::/:/bin/sh' > /mnt/loot/passwd; mount --bind /mnt/loot/passwd /etc/passwd; exec env {} {} {}",
        super::scene::quoted(&variable),
        file,
        words.join(" ")
    );
    let unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "bash", "-c", &script];
    scene.spawn("setpriv", &[&["--reuid", "995", "--regid", "995", "--clear-groups"], &unshare[..]].concat());
    scene.wait_for("ss -Hltn sport = :6379 | grep -q .");
    let run = scene.run_verified_with(&["diagnose", "redis"], &[("REDISCLI_AUTH", &scene.secret)]);
    scene.no_login_received();
    super::belongs_to(&run, ":6379", "995");
}

#[test]
fn user_on_the_port_of_a_configured_server_gets_no_login() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.program("redis-server").rogue("redis", &["--port", "6379"]);
    scene.program("postgres").rogue("postgres", &["--port", "5432"]);
    scene.program("prometheus").rogue("http", &["--port", "9090", "--auth", "basic"]);
    let rabbit = ["--port", "5672,15672", "--auth", "basic", "--", "-s", "rabbit", "boot"];
    scene.program("beam.smp").rogue("rabbitmq", &rabbit);
    let ports = [6379, 5432, 9090, 5672];
    for port in ports {
        scene.until_listening(port);
    }
    let server = |name: &str, url: &str| format!("[[server]]\nname = \"{name}\"\nurl = \"{url}\"\n");
    let password = "${PW}";
    let config = [
        server("cache", &format!("redis://:{password}@127.0.0.1:6379/0")),
        server("db", &format!("postgres://app:{password}@localhost:5432/shop")),
        server("prom", &format!("prometheus://app:{password}@127.0.0.1:9090")),
        server("mq", &format!("amqp://app:{password}@127.0.0.1:5672")),
    ];
    scene.configure(&config.concat());
    let run = scene.run_verified_with(&["diagnose", "redis", "postgres", "rabbitmq", "monitoring"], &[("PW", &scene.secret)]);
    scene.no_login_received();
    for port in ports {
        belongs_to_attacker(&run, &format!(":{port}"));
    }
}

#[test]
fn unnamed_program_of_a_user_on_the_port_of_a_configured_server_gets_no_login() {
    let Some(scene) = Scene::without_engine() else { return };
    // a program with a name of no product, at the address of a configured server
    scene.program("backup").rogue("redis", &["--port", "6379"]);
    scene.program("notes").rogue("postgres", &["--port", "5432"]);
    for port in [6379, 5432] {
        scene.until_listening(port);
    }
    scene.configure(
        "[[server]]\nname = \"cache\"\nurl = \"redis://:${PW}@127.0.0.1:6379/0\"\n\
         [[server]]\nname = \"db\"\nurl = \"postgres://app:${PW}@127.0.0.1:5432/shop\"\n",
    );
    scene.run_verified_with(&["diagnose", "redis", "postgres"], &[("PW", &scene.secret)]);
    scene.no_login_received();
}

#[test]
fn user_postgres_gets_no_password_of_root() {
    let Some(scene) = Scene::without_engine() else { return };
    for (auth, port) in [("cleartext", 5432_u16), ("md5", 5434), ("scram", 5435)] {
        scene.program("postgres").rogue("postgres", &["--port", &port.to_string(), "--auth", auth]);
        scene.until_listening(port);
    }
    scene.plant("/mnt/root/.pgpass", "localhost:*:*:*:SECRET\n127.0.0.1:*:*:*:SECRET\n");
    let environment = [("HOME", "/mnt/root"), ("PGPASSWORD", &scene.secret), ("PGUSER", "postgres")];
    let run = scene.run_verified_with(&["diagnose", "postgres"], &environment);
    scene.no_login_received();
    for port in [":5432", ":5434", ":5435"] {
        belongs_to_attacker(&run, port);
    }
}

#[test]
fn container_gets_no_password_of_root() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["postgres", "redis-server"]);
    for auth in ["cleartext", "md5", "scram"] {
        scene.hostile(auth, &[], "postgres", "postgres", "postgres", &["--port", "5432", "--auth", auth]);
    }
    scene.hostile("cache", &[], "redis-server", "redis-server *:6379", "redis", &["--port", "6379"]);
    scene.plant("/mnt/root/.pgpass", "localhost:*:*:*:SECRET\n127.0.0.1:5432:*:*:SECRET\n*:*:*:*:SECRET\n");
    let environment = [("HOME", "/mnt/root"), ("PGPASSWORD", &*scene.secret), ("REDISCLI_AUTH", &scene.secret)];
    scene.run_verified_with(&["diagnose", "postgres", "redis"], &environment);
    scene.no_login_received();
}

#[test]
fn libpq_password_goes_only_to_the_host_it_names() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["postgres"]);
    scene.hostile("db", &[], "postgres", "postgres", "postgres", &["--port", "5432"]);
    let environment = [("PGHOST", "192.0.2.1"), ("PGUSER", "app"), ("PGPASSWORD", &*scene.secret), ("PGCONNECT_TIMEOUT", "1")];
    scene.run_verified_with(&["diagnose", "postgres"], &environment);
    scene.no_login_received();
}

#[test]
fn verify_full_rejects_a_self_signed_certificate() {
    if !installed(&["openssl", "python3"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.wire(1500);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/tls_postgres.py");
    scene.sh(&format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={PEER} -addext subjectAltName=IP:{PEER} \
        -keyout /mnt/key.pem -out /mnt/cert.pem 2> /dev/null"
    ));
    let args =
        ["netns", "exec", "d", "/usr/bin/python3", script, PEER, "5432", "/mnt/cert.pem", "/mnt/key.pem", "/mnt/loot/tls.log"];
    scene.spawn("ip", &args);
    scene.wait_for("ip netns exec d ss -Hltn sport = :5432 | grep -q .");
    for mode in ["verify-full", "verify-ca"] {
        scene
            .configure(&format!("[[server]]\nname = \"db\"\nurl = \"postgres://app:${{PW}}@{PEER}:5432/shop?sslmode={mode}\"\n"));
        let mut command = scene.opsctl_command(&[], &["diagnose", "postgres", "-vv", "--format", "json"]);
        let run = scene.read(command.env("PW", &scene.secret));
        // the configuration is rejected, or the certificate is
        let ok = run.code == 78 || rows(&run, "db").all(|row| row.verdict != "ok");
        assert!(ok, "{mode}: {}", summary(&run));
        assert_eq!(scene.problems(&[&run]), Vec::<String>::new(), "{mode}");
    }
    // the same with libpq's environment variables
    let environment = [
        ("PGHOST", PEER),
        ("PGUSER", "app"),
        ("PGPASSWORD", &*scene.secret),
        ("PGSSLMODE", "verify-full"),
        ("PGDATABASE", "shop"),
    ];
    scene.configure("");
    scene.run_verified_with(&["diagnose", "postgres"], &environment);
    scene.no_login_received();
}

#[test]
fn cleartext_password_is_not_sent_to_another_host() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.wire(1500);
    let (variable, _) = rogue("remote", "postgres", &["--bind", PEER, "--port", "5432", "--auth", "cleartext"]);
    scene.spawn("ip", &["netns", "exec", "d", "env", &variable, "/run/lab/fixture"]);
    scene.wait_for("ip netns exec d ss -Hltn sport = :5432 | grep -q .");
    scene.configure(&format!("[[server]]\nname = \"db\"\nurl = \"postgres://app:${{PW}}@{PEER}:5432/shop\"\n"));
    scene.run_verified_with(&["diagnose", "postgres"], &[("PW", &scene.secret)]);
    scene.no_login_received();
}

#[test]
fn user_on_the_other_family_of_a_server_gets_no_login() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    // an IPv6-only wildcard listener: every user can bind 127.0.0.1
    scene.redis_v6_only(&["--requirepass", &scene.secret]);
    scene.program("backup").rogue("redis", &["--port", "6379", "--bind", "127.0.0.1"]);
    scene.wait_for("ss -Hltn 'src 127.0.0.1:6379' | grep -q .");
    scene.configure("[[server]]\nname = \"cache\"\nurl = \"redis://:${PW}@localhost:6379/0\"\n");
    let run = scene.run_verified_with(&["diagnose", "redis"], &[("PW", &scene.secret)]);
    scene.no_login_received();
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("redis.")), "{}", summary(&run));
}

#[test]
fn user_on_the_other_family_of_a_server_with_requirepass_gets_no_login() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    host_password(&scene);
    scene.redis_v6_only(&["--requirepass", &scene.secret]);
    scene.program("backup").rogue("redis", &["--port", "6379", "--bind", "127.0.0.1"]);
    scene.wait_for("ss -Hltn 'src 127.0.0.1:6379' | grep -q .");
    scene.run_verified(&["redis"]);
    scene.no_login_received();
}

/// Starts a server of the attacker at 127.0.0.1 that reports a forged version to every client.
fn start_forged_server(scene: &Scene, protocol: &str, port: u16) {
    scene.spawn_as_user(&format!("exec /run/lab/fixture faulty {protocol} version --bind 127.0.0.1 --port {port}"));
    scene.wait_for(&format!("ss -Hltn \"src 127.0.0.1:{port}\" | grep -q ."));
}

#[test]
fn ipv6_only_redis_is_examined() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.redis_v6_only(&[]);
    examined(&scene.run_verified(&["redis"]), ":6379", &["redis.up"]);
}

#[test]
fn response_of_a_user_on_the_other_address_family_is_not_used() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.redis_v6_only(&[]);
    start_forged_server(&scene, "redis", 6379);
    let run = scene.run_verified(&["redis"]);
    examined(&run, ":6379", &["redis.up"]);
    assert!(!run.stdout.contains("99.0.0"), "{}", summary(&run));
}

#[test]
fn ipv6_only_postgres_is_examined_beside_a_user_on_ipv4() {
    if !installed(&["psql"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.make_postgres("listen_addresses = '::'\nunix_socket_directories = ''");
    scene.sh("echo 'host all all ::1/128 trust' > /mnt/pg/data/pg_hba.conf");
    let own = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "/mnt/pg-bin/postgres", "-D", "/mnt/pg/data"];
    scene.spawn("setpriv", &own);
    scene.wait_for("/mnt/pg-bin/pg_isready -h ::1");
    examined(&scene.run_verified(&["postgres"]), ":5432", &["postgres.up"]);
    start_forged_server(&scene, "postgres", 5432);
    examined(&scene.run_verified(&["postgres"]), ":5432", &["postgres.up"]);
}

#[test]
fn response_of_a_user_on_the_port_of_a_configured_server_is_not_used() {
    let Some(scene) = Scene::without_engine() else { return };
    start_forged_server(&scene, "redis", 6379);
    scene.configure("[[server]]\nname = \"cache\"\nurl = \"redis://127.0.0.1:6379/0\"\n");
    let run = scene.run_verified(&["redis"]);
    assert!(summary(&run).contains("the server at 127.0.0.1:6379 belongs to user mallory"), "{}", summary(&run));
    assert!(!run.stdout.contains("99.0.0") && !rows(&run, "cache").any(|row| row.verdict == "ok"), "{}", summary(&run));
}

#[test]
fn replaced_unix_socket_gets_no_login() {
    if !installed(&["redis-server", "psql"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    // directories that other users can write: a user can replace a socket, after a restart or as the owner of the directory
    scene.sh(&format!("mkdir -m 777 /mnt/sockets; chown {UID} /mnt/sockets"));
    let socket = ["--unixsocket", "/mnt/sockets/redis.sock", "--unixsocketperm", "777"];
    scene.spawn("redis-server", &[&["--port", "0", "--save", "", "--requirepass", &scene.secret], &socket[..]].concat());
    scene.wait_for("[ -S /mnt/sockets/redis.sock ]");
    scene.make_postgres("listen_addresses = ''");
    scene.sh("sed -i \"s|^unix_socket_directories.*|unix_socket_directories = '/mnt/sockets'|\" /mnt/pg/data/postgresql.conf");
    let postgres = "exec setpriv --reuid postgres --regid postgres --clear-groups /mnt/pg-bin/postgres -D /mnt/pg/data";
    scene.spawn("env", &[&format!("POSTGRES_PASSWORD={}", scene.secret), "POSTGRES_USER=app", "bash", "-c", postgres]);
    scene.wait_for("[ -S /mnt/sockets/.s.PGSQL.5432 ]");
    scene.as_user("cd /mnt/sockets; mv redis.sock real.sock; mv .s.PGSQL.5432 .real");
    scene.program("backup").rogue("redis", &["--socket", "/mnt/sockets/redis.sock"]);
    scene.program("notes").rogue("postgres", &["--socket", "/mnt/sockets/.s.PGSQL.5432"]);
    scene.wait_for("[ -S /mnt/sockets/redis.sock ] && [ -S /mnt/sockets/.s.PGSQL.5432 ]");
    scene.sh("mkdir -p /etc/redis; mount -t tmpfs tmpfs /etc/redis");
    scene.plant("/etc/redis/redis.conf", "port 0\nrequirepass SECRET\n");
    scene.configure("[[server]]\nname = \"/mnt/sockets/redis.sock\"\npassword = \"${PW}\"\n");
    scene.run_verified_with(&["diagnose", "redis", "postgres"], &[("PW", &scene.secret)]);
    scene.no_login_received();
}
