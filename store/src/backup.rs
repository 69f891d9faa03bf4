//! Copies of the record beside a running server, and what a restored one needs before anybody uses it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::process::Command;

use crate::{Db, Store, StoreError, Wall};

impl Store {
    /// Writes the whole SQLite record, as of one moment, to the new file `to`. Writers go on meanwhile.
    ///
    /// Errors: also for a record on PostgreSQL, which its own programs copy ([`PostgresPrograms::dump`]).
    pub async fn back_up_sqlite(&self, to: &Path) -> Result<(), StoreError> {
        let Db::Sqlite { read, .. } = &self.db else {
            return Err(StoreError::Database(sqlx::Error::Configuration("the record is not on SQLite".into())));
        };
        let Some(to) = to.to_str() else {
            return Err(StoreError::Database(sqlx::Error::Configuration("a path that is not UTF-8".into())));
        };
        sqlx::query("VACUUM INTO $1").bind(to).execute(read).await?;
        Ok(())
    }

    /// The number up to which the lake has every batch; 0 before the first.
    pub async fn lake_batches_done(&self) -> Result<i64, StoreError> {
        let mut tx = self.begin_read(Wall::None).await?;
        let (last,): (i64,) = fetch_one!(tx, (i64,), "SELECT COALESCE(MAX(batch_no), 0) FROM lake_batch WHERE done")?;
        Ok(last)
    }

    /// Notes that the lake may lack batches after `batch_no`: they are handed out again under their numbers.
    pub async fn reopen_lake_batches(&self, after_batch_no: i64) -> Result<(), StoreError> {
        let mut tx = self.begin_long(Wall::None).await?;
        execute!(tx, "UPDATE lake_batch SET done = FALSE WHERE batch_no > $1", after_batch_no)?;
        tx.commit().await
    }

    /// Gives the live channels another epoch: positions that clients remember prove nothing any more.
    ///
    /// The lake knows the record by its epoch, too: every batch must be finished before.
    pub async fn renew_epoch(&self, epoch: &str) -> Result<(), StoreError> {
        let mut tx = self.begin_write(Wall::None).await?;
        execute!(tx, "UPDATE instance SET epoch = $1 WHERE id = 1", epoch)?;
        tx.commit().await
    }
}

/// Why a PostgreSQL record could not be copied or restored.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// PostgreSQL's program is not there.
    #[error("PostgreSQL's program `{program}` cannot be run: install its client programs, or name their folder")]
    Missing {
        /// The program.
        program: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The program ended with an error.
    #[error("`{program}` failed: {said}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Its last words.
        said: String,
    },
    /// The schema holds something that a restore would overwrite.
    #[error("the schema `{schema}` is not empty: restore into another database, or remove it first")]
    NotEmpty {
        /// The schema.
        schema: String,
    },
    /// The database could not be asked.
    #[error("the database could not be asked")]
    Database(#[from] sqlx::Error),
}

/// PostgreSQL's own programs, for the record in one schema of one database.
#[derive(Clone)]
pub struct PostgresPrograms {
    folder: PathBuf,
    schema: String,
    url: String,
    options: PgConnectOptions,
}

impl std::fmt::Debug for PostgresPrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the url: it may hold the password.
        f.debug_struct("PostgresPrograms").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PostgresPrograms {
    /// For the record at `url`; programs are looked for in `folder`, or in `PATH` if that is empty.
    pub fn new(folder: &Path, url: &str, schema: &str) -> Result<Self, ProgramError> {
        let options = PgConnectOptions::from_str(url)?;
        Ok(Self { folder: folder.to_owned(), schema: schema.to_owned(), url: url.to_owned(), options })
    }

    /// Writes the schema with everything in it, as of one moment, to the file `to`. Writers go on meanwhile.
    pub async fn dump(&self, to: &Path) -> Result<(), ProgramError> {
        let mut command = self.command("pg_dump");
        command.args(["--format=custom", "--no-owner", "--no-privileges", "--no-password"]);
        // In quotes it is a name; without, a pattern.
        command.arg(format!("--schema={}", quoted(&self.schema)));
        command.arg("--file").arg(to);
        run("pg_dump", command).await
    }

    /// Restores what [`Self::dump`] wrote, all or nothing.
    ///
    /// Errors: [`ProgramError::NotEmpty`] if the schema has a table: nothing is ever overwritten.
    pub async fn restore(&self, from: &Path) -> Result<(), ProgramError> {
        self.clear_way().await?;
        let mut command = self.command("pg_restore");
        command.args(["--single-transaction", "--no-owner", "--no-privileges", "--no-password"]);
        command.arg("--dbname").arg(self.options.get_database().unwrap_or(self.options.get_username()));
        command.arg(from);
        run("pg_restore", command).await
    }

    /// Removes the schema if it is there and empty, because the dump creates it.
    async fn clear_way(&self) -> Result<(), ProgramError> {
        let pool = PgPoolOptions::new().max_connections(1).connect_with(self.options.clone()).await?;
        let (occupied,): (bool,) = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1)",
        )
        .bind(&self.schema)
        .fetch_one(&pool)
        .await?;
        if occupied {
            return Err(ProgramError::NotEmpty { schema: self.schema.clone() });
        }
        // Without CASCADE the database refuses should anything be left in it after all.
        let drop = format!("DROP SCHEMA IF EXISTS {}", quoted(&self.schema));
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Everything about the connection goes by the environment: arguments can be read by all users of the machine.
    fn command(&self, program: &str) -> Command {
        let path = if self.folder.as_os_str().is_empty() { PathBuf::from(program) } else { self.folder.join(program) };
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).kill_on_drop(true);
        match self.options.get_socket() {
            Some(socket) => command.env("PGHOST", socket),
            None => command.env("PGHOST", self.options.get_host()),
        };
        command.env("PGPORT", self.options.get_port().to_string()).env("PGUSER", self.options.get_username());
        if let Some(database) = self.options.get_database() {
            command.env("PGDATABASE", database);
        }
        command.env("PGSSLMODE", ssl_mode(self.options.get_ssl_mode()));
        for (variable, value) in secrets(&self.url) {
            command.env(variable, value);
        }
        command
    }
}

async fn run(program: &'static str, mut command: Command) -> Result<(), ProgramError> {
    let output = command.output().await.map_err(|source| ProgramError::Missing { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(ProgramError::Failed { program, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn ssl_mode(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

/// What sqlx reads from a URL and does not tell again: the password and the places of certificates.
fn secrets(url: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    if let Some((_, password)) = user.and_then(|user| user.split_once(':')) {
        found.push(("PGPASSWORD", decoded(password)));
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let variable = match name {
            "password" => "PGPASSWORD",
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => "PGSSLROOTCERT",
            "sslcert" | "ssl-cert" => "PGSSLCERT",
            "sslkey" | "ssl-key" => "PGSSLKEY",
            _ => continue,
        };
        found.push((variable, decoded(&value.replace('+', " "))));
    }
    found
}

/// Text of a URL with its `%` escapes resolved.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = after.get(..2).filter(|_| *first == b'%');
        let byte = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_found_and_not_shown() {
        let url = "postgres://todoke:ge%40h%2Feim%E5%B1%8A@db:5433/town?sslmode=require&sslrootcert=/etc/ca.pem";
        assert_eq!(
            secrets(url),
            [("PGPASSWORD", "ge@h/eim届".to_owned()), ("PGSSLROOTCERT", "/etc/ca.pem".to_owned())]
        );
        assert!(secrets("postgres://todoke@db/town").is_empty());
        assert_eq!(decoded("100%"), "100%");
        let programs = PostgresPrograms::new(Path::new(""), url, "todoke").unwrap();
        let command = programs.command("pg_dump");
        let command = command.as_std();
        assert!(command.get_args().next().is_none());
        let told = |name: &str| {
            let value = command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
            value.and_then(|value| value.to_str()).map(str::to_owned)
        };
        assert_eq!(told("PGHOST").as_deref(), Some("db"));
        assert_eq!(told("PGPORT").as_deref(), Some("5433"));
        assert_eq!(told("PGDATABASE").as_deref(), Some("town"));
        assert_eq!(told("PGSSLMODE").as_deref(), Some("require"));
        assert!(!format!("{programs:?}").contains("eim"));
    }
}
