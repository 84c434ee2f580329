//! Where the container engines are and how they are reached: several on one host, over TCP and TLS, by a context of the Docker CLI, of
//! another user, and Podman without its socket.

use crate::lab::{Host, Run, eventually, installed};

const SECOND: &str = "unix:///run/second.sock";

/// A host without an engine of its own, with a fake one at `path`.
fn host_with_fake(path: &str) -> Option<Host> {
    let host = Host::without_engine()?;
    fake(&host, path);
    Some(host)
}

fn fake(host: &Host, path: &str) {
    host.sh(&format!("mkdir -p $(dirname {path})"));
    host.spawn("/run/lab/fixture", &["fake-docker", path, "never", "--at", "nothing"]);
    eventually(10, "the engine listens", || host.sh("ss -Hlx").contains(path).then_some(()));
}

/// A socket without a listener: the remains of an engine that was killed.
fn dead_socket(host: &Host, path: &str) {
    host.sh(&format!("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{path}\")'"));
}

/// A second dockerd with one running container `web`.
fn second_engine(host: &Host, more: &[&str]) {
    host.disk("/mnt/second", 512, "-m 0");
    let args = [
        "-H",
        SECOND,
        "--data-root",
        "/mnt/second",
        "--exec-root",
        "/run/second",
        "--pidfile",
        "/run/second.pid",
        "--bridge",
        "none",
        "--iptables=false",
        "--storage-driver",
        "vfs",
    ];
    host.spawn("dockerd", &[&args[..], more].concat());
    eventually(60, "the second engine responds", || {
        host.sh(&format!("docker -H {SECOND} ps > /dev/null 2>&1 && echo ready || true")).contains("ready").then_some(())
    });
    host.sh(&format!(
        "mkdir -p /mnt/root/bin && cp $(command -v busybox) /mnt/root/bin/ && tar -C /mnt/root -c . | docker -H {SECOND} import - tiny
        docker -H {SECOND} run -d --name web --network none tiny /bin/busybox sleep 100000"
    ));
}

/// `opsctl targets` with these variables.
fn targets(host: &Host, variables: &[(&str, &str)]) -> String {
    let run: Run = host.read(host.opsctl_command(&[], &["targets"]).envs(variables.iter().copied()));
    run.stdout
}

// podman-desktop#870: with two engines on one host only the containers of one were shown
#[test]
fn containers_of_two_docker_engines() {
    let Some(host) = Host::start() else { return };
    second_engine(&host, &[]);
    host.sh(&format!(
        "mkdir -p /run/cli && export DOCKER_CONFIG=/run/cli
        docker context create second --docker host={SECOND} && docker context use second"
    ));
    let listed = targets(&host, &[("DOCKER_CONFIG", "/run/cli")]);
    assert!(listed.contains("docker at unix:///run/second.sock") && listed.contains("container web"), "{listed}");
    assert!(listed.contains("docker (unix:///var/run/docker.sock) at"), "{listed}");
    // each has its own data root and objects
    let usage = host.read(host.opsctl_command(&[], &["disk", "--usage"]).env("DOCKER_CONFIG", "/run/cli"));
    let rows: Vec<&str> = usage.stdout.lines().filter(|line| line.contains(": images ")).collect();
    assert!(rows.iter().any(|row| row.contains("docker: images")), "{}", usage.stdout);
}

// localstack/lstk#215, CopilotKit/OpenBot#373: the socket of a stopped engine was tried first, and the running one never
#[test]
fn dead_socket_does_not_hide_a_live_engine() {
    let Some(host) = host_with_fake("/run/podman/podman.sock") else { return };
    dead_socket(&host, "/run/docker.sock");
    let listed = targets(&host, &[]);
    assert!(listed.contains("podman at unix:///run/podman/podman.sock") && listed.contains("container ghost"), "{listed}");
    assert!(listed.contains("unavailable: reading containers from unix:///var/run/docker.sock: connection refused"), "{listed}");
}

#[test]
fn dead_socket_of_an_enabled_docker_is_reported_beside_a_live_engine() {
    let Some(host) = host_with_fake("/run/podman/podman.sock") else { return };
    dead_socket(&host, "/run/docker.sock");
    host.sh("mkdir -p /etc/systemd/system/multi-user.target.wants
        touch /etc/systemd/system/multi-user.target.wants/docker.service");
    let run = host.opsctl(&["diagnose", "container", "--format", "json"]);
    run.roots(&["container.engine-reachable engine:docker"]);
}

/// With podman-docker the socket of Docker is a link to that of Podman, also while podman.socket is not enabled.
#[test]
fn link_to_a_socket_that_does_not_exist_is_no_engine() {
    let Some(host) = Host::without_engine() else { return };
    host.sh("ln -s /run/podman/podman.sock /run/docker.sock");
    let listed = targets(&host, &[]);
    assert!(listed.contains("no container engine"), "{listed}");
}

// GoogleContainerTools/container-diff#400, docker/cli#1809: contexts were ignored, and DOCKER_HOST has precedence over them
#[test]
fn context_of_the_docker_cli() {
    let Some(host) = host_with_fake("/run/fake.sock") else { return };
    host.sh("mkdir -p /run/cli && DOCKER_CONFIG=/run/cli docker context create lab --docker host=unix:///run/fake.sock");
    let listed = targets(&host, &[("DOCKER_CONFIG", "/run/cli"), ("DOCKER_CONTEXT", "lab")]);
    assert!(listed.contains("at unix:///run/fake.sock (DOCKER_CONTEXT)"), "{listed}");
}

#[test]
fn current_context_of_the_docker_cli() {
    let Some(host) = host_with_fake("/run/fake.sock") else { return };
    host.sh("mkdir -p /run/cli && export DOCKER_CONFIG=/run/cli
        docker context create lab --docker host=unix:///run/fake.sock && docker context use lab");
    let listed = targets(&host, &[("DOCKER_CONFIG", "/run/cli")]);
    assert!(listed.contains("at unix:///run/fake.sock (current context of the Docker CLI)"), "{listed}");
}

#[test]
fn context_that_another_user_can_change_is_refused() {
    let Some(host) = host_with_fake("/run/fake.sock") else { return };
    host.sh("mkdir -p /run/cli && DOCKER_CONFIG=/run/cli docker context create lab --docker host=unix:///run/fake.sock
        chown -R 4711 /run/cli");
    let listed = targets(&host, &[("DOCKER_CONFIG", "/run/cli"), ("DOCKER_CONTEXT", "lab")]);
    assert!(listed.contains("belongs to user 4711") && !listed.contains("container ghost"), "{listed}");
}

#[test]
fn engine_over_tcp_on_this_host_is_local() {
    let Some(host) = Host::without_engine() else { return };
    second_engine(&host, &["-H", "tcp://127.0.0.1:2375"]);
    let listed = targets(&host, &[("DOCKER_HOST", "tcp://127.0.0.1:2375")]);
    assert!(listed.contains("container web") && !listed.contains("not proven to run on this host"), "{listed}");
}

/// An engine behind TLS, with the files of the client in `/mnt/tls`.
fn engine_behind_tls() -> Option<Host> {
    let host = Host::without_engine()?;
    host.sh("mkdir -p /mnt/tls && cd /mnt/tls
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -subj /CN=lab -days 2
        printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth' > server.ext
        printf 'extendedKeyUsage=clientAuth' > client.ext
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -keyout $name-key.pem -out $name.csr -subj /CN=$name
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out $name.pem -days 2 -extfile $name.ext
        done
        mv client.pem cert.pem; mv client-key.pem key.pem");
    let files = ["--tlscacert", "/mnt/tls/ca.pem", "--tlscert", "/mnt/tls/server.pem", "--tlskey", "/mnt/tls/server-key.pem"];
    second_engine(&host, &[&["-H", "tcp://127.0.0.1:2376", "--tlsverify"], &files[..]].concat());
    Some(host)
}

const TLS: &[(&str, &str)] =
    &[("DOCKER_HOST", "tcp://127.0.0.1:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/mnt/tls")];

#[test]
fn engine_behind_tls_with_a_client_certificate() {
    let Some(host) = engine_behind_tls() else { return };
    let listed = targets(&host, TLS);
    assert!(listed.contains("docker at https://127.0.0.1:2376") && listed.contains("container web"), "{listed}");
}

#[test]
fn certificate_of_an_unknown_authority_is_no_fault_of_the_engine() {
    let Some(host) = engine_behind_tls() else { return };
    host.sh("cd /mnt/tls && openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out ca.pem -subj /CN=other -days 2");
    let listed = targets(&host, TLS);
    assert!(listed.contains("invalid peer certificate") && !listed.contains("container web"), "{listed}");
    let args = ["diagnose", "container", "--format", "json"];
    let run = host.read(host.opsctl_command(&[], &args).envs(TLS.iter().copied()));
    run.exits(3);
}

/// A fake engine of user 4711 in its runtime directory.
fn engine_of_a_user() -> Option<Host> {
    let host = Host::without_engine()?;
    host.sh("mkdir -p /run/user/4711 && chown 4711 /run/user/4711 && chmod 700 /run/user/4711");
    let user = ["--reuid", "4711", "--regid", "4711", "--clear-groups"];
    let engine = ["/run/lab/fixture", "fake-docker", "/run/user/4711/docker.sock", "never", "--at", "nothing"];
    host.spawn("setpriv", &[&user[..], &engine[..]].concat());
    eventually(10, "the engine listens", || host.sh("ss -Hlx").contains("/run/user/4711/docker.sock").then_some(()));
    Some(host)
}

#[test]
fn engine_of_another_user_is_listed_with_its_user() {
    let Some(host) = engine_of_a_user() else { return };
    let listed = targets(&host, &[]);
    assert!(listed.contains("docker (user 4711) at") && listed.contains("container ghost (docker, user 4711)"), "{listed}");
}

#[test]
fn link_in_the_runtime_directory_of_a_user_is_not_followed() {
    let Some(host) = host_with_fake("/run/fake.sock") else { return };
    host.sh("mkdir -p /run/user/4711 && ln -s /run/fake.sock /run/user/4711/docker.sock && chown -R -h 4711 /run/user/4711");
    let listed = targets(&host, &[]);
    assert!(!listed.contains("ghost"), "{listed}");
}

#[test]
fn listener_of_root_in_the_runtime_directory_of_a_user_gets_no_request() {
    let Some(host) = host_with_fake("/run/user/4711/docker.sock") else { return };
    host.sh("chown -R 4711 /run/user/4711");
    let listed = targets(&host, &[]);
    assert!(listed.contains("another user listens on it") && !listed.contains("ghost"), "{listed}");
}

// fussybeaver/bollard#790, henrygd/beszel#211: podman.socket is not enabled by default, and its containers are in no API
#[test]
fn podman_without_its_socket_is_one_line() {
    let Some(host) = Host::without_engine() else { return };
    let id = "0123456789abcdef".repeat(4);
    host.sh("printf '#!/bin/sh\\nsleep 100000\\n' > /mnt/conmon && chmod +x /mnt/conmon");
    host.spawn("/mnt/conmon", &["--exit-dir", "/run/libpod/exits", "-c", &id]);
    eventually(10, "conmon runs", || host.sh("pgrep -x conmon || true").trim().parse::<i32>().is_ok().then_some(()));
    let listed = targets(&host, &[]);
    assert!(listed.contains("Podman has 1 container (conmon processes)") && listed.contains("podman.socket"), "{listed}");
}

/// Files of root and of sshd on the host, with keys of this test: the real ones belong to the machine.
const SSHD: &str = "mount -t tmpfs tmpfs /root; mkdir -p -m 700 /root/.ssh /run/sshd /run/keys
    ssh-keygen -q -t ed25519 -N '' -f /run/keys/host; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
    cp /root/.ssh/id_ed25519.pub /run/keys/authorized; echo \"[127.0.0.1]:2222 $(cut -d' ' -f1,2 /run/keys/host.pub)\" > /root/.ssh/known_hosts
    printf '%s\n' 'Port 2222' 'ListenAddress 127.0.0.1' 'HostKey /run/keys/host' 'AuthorizedKeysFile /run/keys/authorized' 'UsePAM no' \
      'PidFile none' 'StrictModes no' 'PermitRootLogin prohibit-password' 'PasswordAuthentication no' > /run/keys/sshd_config";

// docker/cli#1014, docker/compose#6470: DOCKER_HOST=ssh:// needs a docker CLI with dial-stdio and a known host key on the other side
#[test]
fn engine_behind_a_real_sshd() {
    if !installed(&["sshd", "ssh"]) {
        return;
    }
    let Some(host) = host_with_fake("/run/docker.sock") else { return };
    host.sh(SSHD);
    host.spawn("/usr/sbin/sshd", &["-D", "-f", "/run/keys/sshd_config"]);
    eventually(10, "sshd listens", || host.sh("ss -Hltn sport = :2222").contains(":2222").then_some(()));
    let listed = targets(&host, &[("DOCKER_HOST", "ssh://root@127.0.0.1:2222")]);
    assert!(listed.contains("at ssh://root@127.0.0.1:2222") && listed.contains("container ghost"), "{listed}");
    assert!(listed.contains("are not proven to run on this host"), "{listed}");
    // another host key is no engine: the message of ssh is the reason
    host.sh("ssh-keygen -q -t ed25519 -N '' -f /run/keys/other; echo \"[127.0.0.1]:2222 $(cut -d' ' -f1,2 /run/keys/other.pub)\" > /root/.ssh/known_hosts");
    let listed = targets(&host, &[("DOCKER_HOST", "ssh://root@127.0.0.1:2222")]);
    assert!(listed.contains("Host key verification failed") && !listed.contains("ghost"), "{listed}");
}
