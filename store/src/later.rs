//! Statements that go to SQLite together.
//!
//! Each statement is handed to the thread of its connection, and its outcome back: two wake-ups, which cost more than
//! most statements. Writes whose outcome nobody looks at wait here and go with the next statement that somebody waits
//! for, at the latest with the commit, as one text of several statements in their order. An error of one of them is
//! that of the statement it went with; nothing after it runs. PostgreSQL takes one statement at a time.

use std::fmt::Write;

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Either, Executor, FromRow, SqliteConnection,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{Inner, StoreError, Tx};

/// Values that may wait; what they take in memory is the reason for a limit.
const VALUES_MAX: usize = 8_000;

/// Writes on their way to SQLite.
#[derive(Debug, Default)]
pub(crate) struct Later {
    sql: String,
    values: SqliteArguments,
}

/// What came of one statement.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) affected: u64,
    rows: Vec<SqliteRow>,
}

impl Outcome {
    /// Its rows.
    pub(crate) fn all<T: for<'r> FromRow<'r, SqliteRow>>(&self) -> Result<Vec<T>, StoreError> {
        self.rows.iter().map(|row| T::from_row(row).map_err(StoreError::from)).collect()
    }

    /// Its first row, if there is one.
    pub(crate) fn first<T: for<'r> FromRow<'r, SqliteRow>>(&self) -> Result<Option<T>, StoreError> {
        self.rows.first().map(|row| T::from_row(row).map_err(StoreError::from)).transpose()
    }
}

impl Later {
    pub(crate) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    /// Whether it is time to send what waits.
    pub(crate) fn is_full(&self) -> bool {
        self.n_values() >= VALUES_MAX
    }

    fn n_values(&self) -> usize {
        sqlx::Arguments::len(&self.values)
    }

    fn begin(&mut self) {
        if !self.sql.is_empty() {
            self.sql.push_str(";\n");
        }
    }

    fn bind(&mut self, bind: impl FnOnce(&mut SqliteArguments) -> Result<(), BoxDynError>) -> Result<(), StoreError> {
        bind(&mut self.values).map_err(|error| StoreError::from(sqlx::Error::Encode(error)))
    }

    /// Adds a statement with marks `$1`, `$2`…
    pub(crate) fn add(
        &mut self,
        sql: &str,
        bind: impl FnOnce(&mut SqliteArguments) -> Result<(), BoxDynError>,
    ) -> Result<(), StoreError> {
        self.begin();
        let before = self.n_values();
        let mut rest = sql;
        while let Some(at) = rest.find('$') {
            let (text, mark) = rest.split_at(at);
            let n_digits = mark[1..].bytes().take_while(u8::is_ascii_digit).count();
            self.sql.push_str(text);
            // A path into JSON has a `$`, too.
            match mark[1..=n_digits].parse::<usize>() {
                Ok(number) => self.mark(before + number),
                Err(_) => self.sql.push('$'),
            }
            rest = &mark[1 + n_digits..];
        }
        self.sql.push_str(rest);
        self.bind(bind)
    }

    /// Adds an insert of rows with `width` values each.
    pub(crate) fn add_rows(
        &mut self,
        (head, tail): (&str, &str),
        (n_rows, width): (usize, usize),
        bind: impl FnOnce(&mut SqliteArguments) -> Result<(), BoxDynError>,
    ) -> Result<(), StoreError> {
        self.begin();
        let mut number = self.n_values();
        self.sql.push_str(head);
        self.sql.push_str("VALUES ");
        for row in 0..n_rows {
            for column in 0..width {
                self.sql.push_str(match (row, column) {
                    (0, 0) => "(",
                    (_, 0) => "), (",
                    _ => ", ",
                });
                number += 1;
                self.mark(number);
            }
        }
        self.sql.push(')');
        self.sql.push_str(tail);
        self.bind(bind)
    }

    fn mark(&mut self, number: usize) {
        // Named, not `?7`: the driver would look for values for the numbers below, which other statements have.
        // Writing to a `String` cannot fail.
        let _ = write!(self.sql, "${number}");
    }

    /// Sends everything and gives the outcome of each statement.
    pub(crate) async fn run_each(&mut self, on: &mut SqliteConnection) -> Result<Vec<Outcome>, StoreError> {
        let (sql, values) = (std::mem::take(&mut self.sql), std::mem::take(&mut self.values));
        let mut steps = on.fetch_many(sqlx::query_with(AssertSqlSafe(sql), values));
        let (mut outcomes, mut present) = (Vec::new(), Outcome::default());
        while let Some(step) = steps.try_next().await? {
            match step {
                Either::Right(row) => present.rows.push(row),
                Either::Left(done) => {
                    present.affected = done.rows_affected();
                    outcomes.push(std::mem::take(&mut present));
                }
            }
        }
        Ok(outcomes)
    }

    /// Sends everything and gives the outcome of the last statement.
    pub(crate) async fn run(&mut self, on: &mut SqliteConnection) -> Result<Outcome, StoreError> {
        Ok(self.run_each(on).await?.pop().unwrap_or_default())
    }
}

impl Tx {
    /// Sends the writes that wait.
    pub(crate) async fn send_later(&mut self) -> Result<(), StoreError> {
        match &mut self.inner {
            Inner::Sqlite(tx) if !self.later.is_empty() => self.later.run(&mut **tx).await.map(drop),
            Inner::Sqlite(_) | Inner::Postgres(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_numbered_on_from_statement_to_statement() {
        let mut later = Later::default();
        let number = |values: &mut SqliteArguments, n: i64| sqlx::Arguments::add(values, n);
        later
            .add("UPDATE lot SET rest = rest + $2 WHERE id = $1 AND x = json_extract(y, '$.type')", |values| {
                number(values, 1).and_then(|()| number(values, 2))
            })
            .unwrap();
        later
            .add_rows(("INSERT INTO t (a, b) ", " RETURNING a"), (2, 2), |values| {
                (3..=6).try_for_each(|n| number(values, n))
            })
            .unwrap();
        later.add("DELETE FROM t WHERE a = $1 OR b = $1", |values| number(values, 7)).unwrap();
        assert_eq!(
            later.sql,
            "UPDATE lot SET rest = rest + $2 WHERE id = $1 AND x = json_extract(y, '$.type');\n\
             INSERT INTO t (a, b) VALUES ($3, $4), ($5, $6) RETURNING a;\n\
             DELETE FROM t WHERE a = $7 OR b = $7"
        );
        assert_eq!(later.n_values(), 7);
    }
}
