//! Proposal of a working health test from the programs in the image.

use super::command::TestRequest;

/// A replacement test in the syntax of a compose file; `None` if the image has no suitable program.
pub(super) fn replacement(tools: &[String], request: Option<&TestRequest>, not: &str) -> Option<String> {
    let has = |tool: &str| tool != not && tools.iter().any(|t| t == tool);
    let request = request?;
    let (port, path) = (request.port, if request.path.is_empty() { "/" } else { &request.path });
    // 127.0.0.1, because localhost can mean ::1
    let url = format!("http://127.0.0.1:{port}{path}");
    let test: Vec<String> = if request.scheme == "tcp" {
        if has("nc") {
            vec!["nc".into(), "-z".into(), "127.0.0.1".into(), port.to_string()]
        } else if has("bash") {
            vec!["bash".into(), "-c".into(), format!("exec 3<>/dev/tcp/127.0.0.1/{port}")]
        } else {
            return None;
        }
    } else if has("curl") {
        vec!["curl".into(), "-fsS".into(), "-o".into(), "/dev/null".into(), url]
    } else if has("wget") {
        vec!["wget".into(), "-q".into(), "-O".into(), "/dev/null".into(), url]
    } else if has("busybox") {
        vec!["busybox".into(), "wget".into(), "-q".into(), "-O".into(), "/dev/null".into(), url]
    } else if has("bash") {
        // bash only, as in the Alloy incident, without further programs
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && IFS= read -r -t 5 line <&3 && [[ $line == *' 200 '* ]]"
        );
        vec!["bash".into(), "-c".into(), script]
    } else if has("python3") || has("python") {
        let python = if has("python3") { "python3" } else { "python" };
        vec![python.into(), "-c".into(), format!("import urllib.request as u; u.urlopen('{url}', timeout=5)")]
    } else if has("node") {
        let script =
            format!("require('http').get('{url}',r=>process.exit(r.statusCode<400?0:1)).on('error',()=>process.exit(1))");
        vec!["node".into(), "-e".into(), script]
    } else if has("nc") {
        vec!["nc".into(), "-z".into(), "127.0.0.1".into(), port.to_string()]
    } else {
        return None;
    };
    let quoted: Vec<String> =
        std::iter::once("CMD".to_owned()).chain(test).map(|w| serde_json::Value::String(w).to_string()).collect();
    Some(format!("test: [{}]", quoted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(scheme: &'static str) -> TestRequest {
        TestRequest { scheme, host: "localhost".into(), port: 8080, path: "/health".into() }
    }

    #[test]
    fn replacement_uses_best_available_program_except_the_missing_one() {
        let made = |tools: &[&str], scheme| {
            replacement(&tools.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), Some(&request(scheme)), "wget")
        };
        assert_eq!(
            made(&["wget", "curl"], "http").as_deref(),
            Some(r#"test: ["CMD", "curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:8080/health"]"#)
        );
        assert!(made(&["wget", "bash"], "http").is_some_and(|t| t.contains("/dev/tcp/127.0.0.1/8080")));
        assert_eq!(made(&["nc"], "tcp").as_deref(), Some(r#"test: ["CMD", "nc", "-z", "127.0.0.1", "8080"]"#));
        assert_eq!(made(&["wget"], "http"), None);
        assert_eq!(made(&[], "http"), None);
    }
}
