//! The container actions on a real engine with containers of the test.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::engine::Managers;
use opsctl_core::model::{Action, Plan};
use opsctl_core::probe::Redactor;
use opsctl_core::probe::docker::{Container, Docker, Endpoint, connect};

use super::scripted::*;
use super::*;
use crate::audit::{Body, Journal};

/// A busybox image and the containers created from it, all removed at the end.
struct Lab {
    name: String,
}

fn docker(arguments: &[&str]) -> String {
    let out = Command::new("docker").args(arguments).output().unwrap();
    assert!(out.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Lab {
    fn open(test: &str) -> Option<Self> {
        let ready = Path::new("/bin/busybox").exists()
            && Command::new("docker").arg("version").output().is_ok_and(|o| o.status.success());
        if !ready {
            assert!(std::env::var_os("OPSCTL_LAB").is_none_or(|v| v != "require"), "docker and busybox-static are required");
            eprintln!("skipped: requires docker and busybox-static");
            return None;
        }
        let name = format!("opsctl-apply-{}-{test}", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::copy("/bin/busybox", dir.path().join("bin/sleep")).unwrap();
        let tar = dir.path().join("image.tar");
        let made = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(dir.path()).arg("bin").status().unwrap();
        assert!(made.success());
        docker(&["import", tar.to_str().unwrap(), &name]);
        Some(Self { name })
    }

    fn create(&self, suffix: &str) -> String {
        let name = format!("{}-{suffix}", self.name);
        docker(&["create", "--name", &name, "--label", &self.name, "--network", "none", &self.name, "/bin/sleep", "1000"])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = Command::new("docker").args(["ps", "-aq", "--filter", &format!("label={}", self.name)]).output();
        let containers = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let _ = Command::new("docker").args(["rm", "-f"]).args(containers.split_whitespace()).output();
        let _ = Command::new("docker").args(["rmi", &self.name]).output();
    }
}

struct Live {
    fixture: Fixture,
    docker: Arc<Docker>,
    runtime: tokio::runtime::Runtime,
}

impl Live {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::Unix("/var/run/docker.sock".into());
        let (state, docker) = runtime.block_on(connect(&endpoint, Arc::default(), std::time::Duration::from_secs(3)));
        Self { fixture: Fixture::new(), docker: docker.unwrap_or_else(|| panic!("{state:?}")), runtime }
    }

    fn does(&self, actions: &[Action]) -> Result<Vec<String>, String> {
        let f = &self.fixture;
        // its own journal: these intents have no outcomes
        let receipt = Journal::at(&f.dir.path().join("does"))
            .append(Body::intent(&f.plan(), "it is broken"), &Redactor::default())
            .unwrap();
        let managers = Managers { docker: Some(Arc::clone(&self.docker)), ..Managers::default() };
        let permit = Permit::grant(&receipt, actions, &managers, &f.state);
        self.runtime.block_on(apply::apply(&permit)).map_err(|e| e.to_string())
    }

    fn inspect(&self, id: &str) -> Arc<Container> {
        self.runtime.block_on(self.docker.inspect_now(id)).unwrap()
    }
}

#[test]
fn every_container_action_has_its_effect() {
    let Some(lab) = Lab::open("all") else { return };
    let live = Live::new();
    let id = lab.create("a");
    let own = || id.clone();

    live.does(&[Action::StartContainer { id: own() }]).unwrap();
    assert!(live.inspect(&id).is_up());
    // repeating is no error: the engine returns 304
    live.does(&[Action::StartContainer { id: own() }]).unwrap();

    live.does(&[Action::PauseContainer { id: own() }]).unwrap();
    assert!(live.inspect(&id).state.paused);
    let error = live.does(&[Action::PauseContainer { id: own() }]).unwrap_err();
    assert!(error.contains("is already paused (HTTP 409)"), "{error}");
    live.does(&[Action::UnpauseContainer { id: own() }]).unwrap();
    assert!(live.inspect(&id).is_up());

    live.does(&[Action::SetRestartPolicy { id: own(), policy: "on-failure".into(), maximum_retry_count: 4 }]).unwrap();
    let policy = &live.inspect(&id).restart_policy;
    assert_eq!((policy.name.as_str(), policy.maximum_retry_count), ("on-failure", 4));
    assert!(live.does(&[Action::SetRestartPolicy { id: own(), policy: "sometimes".into(), maximum_retry_count: 0 }]).is_err());

    live.does(&[Action::SetMemory { id: own(), memory: 64 << 20, memory_swap: -1 }]).unwrap();
    assert_eq!(live.inspect(&id).memory, 64 << 20);
    assert_eq!(live.inspect(&id).restart_policy.name, "on-failure", "other settings are unchanged");

    let before = live.inspect(&id).subject().id;
    live.does(&[Action::RestartContainer { id: own(), timeout_s: 0 }]).unwrap();
    assert!(live.inspect(&id).is_up() && live.inspect(&id).subject().id != before);

    // running: kept; stopped: removed; missing: no error
    let stopped = lab.create("b");
    let notes = live.does(&[Action::RemoveContainers { ids: vec![own(), stopped.clone()] }]).unwrap();
    assert_eq!(notes, [format!("removed 1 container; running again and left: {}-a", lab.name)]);
    live.does(&[Action::RemoveContainers { ids: vec![stopped.clone()] }]).unwrap();
    assert!(live.runtime.block_on(live.docker.inspect_now(&stopped)).is_err());

    live.does(&[Action::StopContainer { id: own(), timeout_s: 0 }]).unwrap();
    assert_eq!(live.inspect(&id).state.status, "exited");
    live.does(&[Action::RemoveContainers { ids: vec![own()] }]).unwrap();
    let error = live.does(&[Action::StartContainer { id: own() }]).unwrap_err();
    assert!(error.contains("No such container") && error.contains("(HTTP 404)"), "{error}");
}

#[test]
fn undo_inspects_the_container_first() {
    let Some(lab) = Lab::open("undo") else { return };
    let mut live = Live::new();
    let id = lab.create("c");
    let memory = |mib: i64| Action::SetMemory { id: id.clone(), memory: mib << 20, memory_swap: -1 };
    live.does(&[memory(32)]).unwrap();
    let f = &mut live.fixture;
    let plan = Plan { actions: vec![memory(64)], undo: vec![memory(32)], ..f.plan() };
    let with_docker = |recheck: Recheck| Recheck {
        managers: Managers { docker: Some(Arc::clone(&live.docker)), ..Managers::default() },
        ..recheck
    };
    f.engine.returns(with_docker(failing(&plan))).returns(with_docker(healthy()));
    assert_eq!(f.fix(&offer(&plan)), Exit::Done, "{}", f.output());
    let applied = f.journal().last().unwrap().seq;

    docker(&["update", "--memory", "128m", "--memory-swap", "-1", &id]);
    f.engine.returns(with_docker(failing(&plan)));
    assert_eq!(f.undo(applied), Exit::Changed);
    assert!(f.output().contains("is 134217728 bytes, the fix had set 67108864"), "{}", f.output());
    docker(&["update", "--memory", "64m", "--memory-swap", "-1", &id]);
    assert_eq!(f.undo(applied), Exit::Done);
    assert_eq!(live.inspect(&id).memory, 32 << 20);

    let f = &mut live.fixture;
    f.engine.returns(with_docker(failing(&plan))).returns(with_docker(healthy()));
    assert_eq!(f.fix(&offer(&plan)), Exit::Done, "{}", f.output());
    docker(&["rm", "-f", &id]);
    f.engine.returns(with_docker(failing(&plan)));
    let applied = f.journal().last().unwrap().seq;
    assert_eq!(f.undo(applied), Exit::Changed);
    assert!(f.output().contains("no longer exists"), "{}", f.output());
}
