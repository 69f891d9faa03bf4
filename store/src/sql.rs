//! Running one statement on whichever database the transaction is on.

/// Runs a statement and gives the number of rows it touched.
macro_rules! execute {
    ($tx:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(tx) => sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await.map(|done| done.rows_affected()),
            $crate::Inner::Postgres(tx) => sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await.map(|done| done.rows_affected()),
        }
        .map_err($crate::StoreError::from)
    };
}

/// Fetches all rows of a statement as `$row`.
macro_rules! fetch_all {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(tx) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_all(&mut **tx).await,
            $crate::Inner::Postgres(tx) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_all(&mut **tx).await,
        }
        .map_err($crate::StoreError::from)
    };
}

/// Fetches at most one row of a statement as `$row`.
macro_rules! fetch_optional {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(tx) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_optional(&mut **tx).await,
            $crate::Inner::Postgres(tx) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_optional(&mut **tx).await,
        }
        .map_err($crate::StoreError::from)
    };
}

/// Fetches exactly one row of a statement as `$row`.
macro_rules! fetch_one {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx.inner {
            $crate::Inner::Sqlite(tx) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_one(&mut **tx).await,
            $crate::Inner::Postgres(tx) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_one(&mut **tx).await,
        }
        .map_err($crate::StoreError::from)
    };
}

/// Inserts many rows with few statements: `$head` is the text before VALUES, `$tail` what follows the rows.
macro_rules! insert_many {
    ($tx:expr, $head:expr, $rows:expr, $tail:expr, |$row:ident| $($bind:expr),+ $(,)?) => {{
        let mut outcome: Result<u64, $crate::StoreError> = Ok(0);
        for chunk in $rows.chunks($crate::sql::ROWS_PER_INSERT) {
            let done = match &mut $tx.inner {
                $crate::Inner::Sqlite(tx) => {
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new($head);
                    query.push_values(chunk, |mut values, $row| { $(values.push_bind($bind);)+ });
                    query.push($tail);
                    query.build().execute(&mut **tx).await.map(|done| done.rows_affected())
                }
                $crate::Inner::Postgres(tx) => {
                    let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new($head);
                    query.push_values(chunk, |mut values, $row| { $(values.push_bind($bind);)+ });
                    query.push($tail);
                    query.build().execute(&mut **tx).await.map(|done| done.rows_affected())
                }
            };
            outcome = match (outcome, done) {
                (Ok(before), Ok(n)) => Ok(before + n),
                (_, Err(error)) => Err($crate::StoreError::from(error)),
                (failed, Ok(_)) => failed,
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
                $crate::Inner::Sqlite(tx) => {
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new($head);
                    query.push_values(chunk, |mut values, $row| { $(values.push_bind($bind);)+ });
                    query.push($tail);
                    query.build_query_as::<$out>().fetch_all(&mut **tx).await
                }
                $crate::Inner::Postgres(tx) => {
                    let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new($head);
                    query.push_values(chunk, |mut values, $row| { $(values.push_bind($bind);)+ });
                    query.push($tail);
                    query.build_query_as::<$out>().fetch_all(&mut **tx).await
                }
            };
            match (&mut outcome, done) {
                (Ok(all), Ok(returned)) => all.extend(returned),
                (_, Err(error)) => {
                    outcome = Err($crate::StoreError::from(error));
                    break;
                }
                (Err(_), Ok(_)) => {}
            }
        }
        outcome
    }};
}

/// Rows of one multi-row insert: with a dozen columns far below the 32,766 marks SQLite takes.
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
