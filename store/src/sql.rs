//! Running one statement on whichever database the transaction is on.

/// Runs a statement and gives the number of rows it touched.
macro_rules! execute {
    ($tx:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(tx) if $tx.later.is_empty() => {
                let done = sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await;
                done.map(|done| done.rows_affected()).map_err($crate::StoreError::from)
            }
            $crate::Inner::Sqlite(tx) => match with_later!($tx, $sql $(, $bind)*) {
                Ok(()) => $tx.later.run(&mut **tx).await.map(|outcome| outcome.affected),
                Err(error) => Err(error),
            },
            $crate::Inner::Postgres(tx) => {
                let done = sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await;
                done.map(|done| done.rows_affected()).map_err($crate::StoreError::from)
            }
        }
    };
}

/// Adds a statement to those that wait.
macro_rules! with_later {
    ($tx:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        $tx.later.add($sql, |values| {
            let values: &mut sqlx::sqlite::SqliteArguments = values;
            $(sqlx::Arguments::add(&mut *values, $bind)?;)*
            let _ = values;
            Ok(())
        })
    };
}

/// Runs a write at the latest with the commit. Only for writes that cannot fail by what others do, and whose outcome
/// nobody looks at.
macro_rules! execute_later {
    ($tx:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(_) => match with_later!($tx, $sql $(, $bind)*) {
                Ok(()) if $tx.later.is_full() => $tx.send_later().await,
                added => added,
            },
            $crate::Inner::Postgres(tx) => {
                let done = sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await;
                done.map(drop).map_err($crate::StoreError::from)
            }
        }
    };
}

/// Fetches what a statement gives: `$take` of the statement on its own, `$pick` of one that others went with.
macro_rules! fetch {
    ($tx:expr, $row:ty, $take:ident, |$outcome:ident| $pick:expr, $sql:expr $(, $bind:expr)*) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(tx) if $tx.later.is_empty() => {
                let found = sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.$take(&mut **tx).await;
                found.map_err($crate::StoreError::from)
            }
            $crate::Inner::Sqlite(tx) => match with_later!($tx, $sql $(, $bind)*) {
                Ok(()) => $tx.later.run(&mut **tx).await.and_then(|$outcome| $pick),
                Err(error) => Err(error),
            },
            $crate::Inner::Postgres(tx) => {
                let found = sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.$take(&mut **tx).await;
                found.map_err($crate::StoreError::from)
            }
        }
    };
}

/// Fetches all rows of a statement as `$row`.
macro_rules! fetch_all {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        fetch!($tx, $row, fetch_all, |outcome| outcome.all::<$row>(), $sql $(, $bind)*)
    };
}

/// Fetches at most one row of a statement as `$row`.
macro_rules! fetch_optional {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        fetch!($tx, $row, fetch_optional, |outcome| outcome.first::<$row>(), $sql $(, $bind)*)
    };
}

/// Fetches exactly one row of a statement as `$row`.
macro_rules! fetch_one {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        fetch!(
            $tx,
            $row,
            fetch_one,
            |outcome| outcome.first::<$row>().and_then(|row| row.ok_or_else(|| $crate::StoreError::from(sqlx::Error::RowNotFound))),
            $sql $(, $bind)*
        )
    };
}

/// Fetches at most one row of a statement as `$row`, without a transaction: one statement is its own snapshot, and the
/// begin and the end of a transaction would each be one more way to the database and back. Only for reads.
macro_rules! fetch_alone {
    ($store:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let found = match &$store.db {
            $crate::Db::Sqlite { read, .. } => {
                sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_optional(read).await
            }
            $crate::Db::Postgres(pool) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_optional(pool).await,
        };
        found.map_err($crate::StoreError::from)
    }};
}

/// Adds an insert of a chunk of rows to the statements that wait.
macro_rules! rows_with_later {
    ($tx:expr, $head:expr, $chunk:expr, $tail:expr, |$row:ident| $($bind:expr),+) => {
        $tx.later.add_rows(($head, $tail), ($chunk.len(), [$(stringify!($bind)),+].len()), |values| {
            for $row in $chunk {
                $(sqlx::Arguments::add(&mut *values, $bind)?;)+
            }
            Ok(())
        })
    };
}

/// The same insert as PostgreSQL takes it.
macro_rules! rows_on_postgres {
    ($head:expr, $chunk:expr, $tail:expr, |$row:ident| $($bind:expr),+) => {{
        let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new($head);
        query.push_values($chunk, |mut values, $row| { $(values.push_bind($bind);)+ });
        query.push($tail);
        query
    }};
}

/// Inserts many rows with few statements: `$head` is the text before VALUES, `$tail` what follows the rows.
macro_rules! insert_many {
    ($tx:expr, $head:expr, $rows:expr, $tail:expr, |$row:ident| $($bind:expr),+ $(,)?) => {{
        let mut outcome: Result<u64, $crate::StoreError> = Ok(0);
        for chunk in $rows.chunks($crate::sql::ROWS_PER_INSERT) {
            let done = match &mut $tx.inner {
                $crate::Inner::Sqlite(tx) => match rows_with_later!($tx, $head, chunk, $tail, |$row| $($bind),+) {
                    Ok(()) => $tx.later.run(&mut **tx).await.map(|outcome| outcome.affected),
                    Err(error) => Err(error),
                },
                $crate::Inner::Postgres(tx) => {
                    let mut query = rows_on_postgres!($head, chunk, $tail, |$row| $($bind),+);
                    let done = query.build().execute(&mut **tx).await;
                    done.map(|done| done.rows_affected()).map_err($crate::StoreError::from)
                }
            };
            outcome = match (outcome, done) {
                (Ok(before), Ok(n)) => Ok(before + n),
                (_, Err(error)) => Err(error),
                (failed, Ok(_)) => failed,
            };
            if outcome.is_err() {
                break;
            }
        }
        outcome
    }};
}

/// As `insert_many`, at the latest with the commit; see `execute_later`.
macro_rules! insert_many_later {
    ($tx:expr, $head:expr, $rows:expr, $tail:expr, |$row:ident| $($bind:expr),+ $(,)?) => {{
        let mut outcome: Result<(), $crate::StoreError> = Ok(());
        for chunk in $rows.chunks($crate::sql::ROWS_PER_INSERT) {
            outcome = match &mut $tx.inner {
                $crate::Inner::Sqlite(_) => match rows_with_later!($tx, $head, chunk, $tail, |$row| $($bind),+) {
                    Ok(()) if $tx.later.is_full() => $tx.send_later().await,
                    added => added,
                },
                $crate::Inner::Postgres(tx) => {
                    let mut query = rows_on_postgres!($head, chunk, $tail, |$row| $($bind),+);
                    query.build().execute(&mut **tx).await.map(drop).map_err($crate::StoreError::from)
                }
            };
            if outcome.is_err() {
                break;
            }
        }
        outcome
    }};
}

/// Inserts many rows with few statements and gives what each statement's RETURNING clause in `$tail` gives.
macro_rules! insert_many_returning {
    ($tx:expr, $out:ty, $head:expr, $rows:expr, $tail:expr, |$row:ident| $($bind:expr),+ $(,)?) => {{
        let mut outcome: Result<Vec<$out>, $crate::StoreError> = Ok(Vec::new());
        for chunk in $rows.chunks($crate::sql::ROWS_PER_INSERT) {
            let done = match &mut $tx.inner {
                $crate::Inner::Sqlite(tx) => match rows_with_later!($tx, $head, chunk, $tail, |$row| $($bind),+) {
                    Ok(()) => $tx.later.run(&mut **tx).await.and_then(|outcome| outcome.all::<$out>()),
                    Err(error) => Err(error),
                },
                $crate::Inner::Postgres(tx) => {
                    let mut query = rows_on_postgres!($head, chunk, $tail, |$row| $($bind),+);
                    query.build_query_as::<$out>().fetch_all(&mut **tx).await.map_err($crate::StoreError::from)
                }
            };
            match (&mut outcome, done) {
                (Ok(all), Ok(returned)) => all.extend(returned),
                (_, Err(error)) => {
                    outcome = Err(error);
                    break;
                }
                (Err(_), Ok(_)) => {}
            }
        }
        outcome
    }};
}

/// Rows of one multi-row insert: with a few dozen columns below the 32,766 marks SQLite takes.
pub(crate) const ROWS_PER_INSERT: usize = 200;

impl crate::Tx {
    /// Ids as one bound text, in the form the database's list functions take: a JSON array on SQLite, joined by
    /// commas on PostgreSQL. Only for ids: nothing is escaped.
    pub(crate) fn among<T: std::fmt::Display>(&self, ids: &[T]) -> String {
        let (open, between, close) = if self.is_postgres() { ("", ",", "") } else { ("[\"", "\",\"", "\"]") };
        if ids.is_empty() {
            return if self.is_postgres() { String::new() } else { "[]".to_owned() };
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        format!("{open}{}{close}", ids.join(between))
    }
}
