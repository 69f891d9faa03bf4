//! The official JavaScript client, unmodified, against a server in this process.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::super::RealtimeConfig;
use super::stub::Rig;

/// Set where node and its packages must be there, so that the test cannot be passed by their absence.
const REQUIRED: &str = "TODOKE_TEST_NODE_REQUIRED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_works_in_every_respect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/realtime-client");
    if !folder.join("node_modules/centrifuge").exists() {
        assert!(std::env::var_os(REQUIRED).is_none(), "run `npm ci` in tests/realtime-client first");
        eprintln!("skipped: run `npm ci` in tests/realtime-client first");
        return;
    }
    // The script stops reading on purpose, for as long as it takes; half-open sockets are tested in `limits`.
    let config = RealtimeConfig {
        ping_interval_s: 1,
        pong_timeout_s: 60,
        expired_close_delay_s: 3,
        close_timeout_s: 30,
        ..RealtimeConfig::default()
    };
    let rig = Rig::start_with_ring(config, 5).await;
    let run = Command::new("node")
        .args(["--test", "--test-reporter=tap", "--test-concurrency=1", "client.test.mjs"])
        .current_dir(folder)
        .env("TODOKE_ADDRESS", rig.address.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(std::time::Duration::from_secs(240), run).await.expect("node ends").expect("node runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("# pass "), "{text}");
}
