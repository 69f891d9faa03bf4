//! Servers for a test run: `todoke-test-servers run COMMAND…` starts them, runs the command with their
//! addresses in its environment, and stops them. `keep` is what a test started by hand uses.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use todoke_tests::postgres::{PostgresServer, URL_VARIABLE, keep};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|mode| mode.to_str()) {
        Some("keep") => keep().map(|()| ExitCode::SUCCESS),
        Some("run") => {
            let program = arguments.next().context("run what?")?;
            let given = std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty());
            let started = if given.is_none() { Some(PostgresServer::start()?) } else { None };
            let mut command = Command::new(program);
            command.args(arguments);
            if let Some(server) = &started {
                command.env(URL_VARIABLE, server.url());
            }
            let status = command.status()?;
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        _ => bail!("usage: todoke-test-servers run COMMAND… | keep"),
    }
}
