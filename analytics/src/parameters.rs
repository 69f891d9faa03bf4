//! Values for the `$names` of report files, put in as typed nodes of the parsed statement: no text is
//! ever joined into SQL.

use std::{collections::BTreeMap, ops::ControlFlow};

use datafusion::{
    common::{DataFusionError, Result, plan_err},
    sql::{
        parser::Statement,
        sqlparser::ast::{DataType, Expr, TypedString, Value, ValueWithSpan, visit_expressions_mut},
    },
};
use jiff::{
    ToSpan,
    civil::{Date, Weekday},
};
use todoke_domain::time::fiscal_year;

use crate::{
    dimension::Dimension,
    report::{ClaimsOf, ReportRequest},
};

/// A value of a parameter.
#[derive(Clone, Debug, PartialEq)]
enum Bound {
    Day(Date),
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Bound {
    fn node(&self) -> Expr {
        let value = |value: Value| ValueWithSpan::from(value);
        match self {
            Self::Day(day) => Expr::TypedString(TypedString {
                data_type: DataType::Date,
                value: value(Value::SingleQuotedString(day.to_string())),
                uses_odbc_syntax: false,
            }),
            Self::Flag(flag) => Expr::Value(value(Value::Boolean(*flag))),
            Self::Number(number) => Expr::Value(value(Value::Number(number.to_string(), false))),
            Self::Text(text) => Expr::Value(value(Value::SingleQuotedString(text.clone()))),
        }
    }
}

/// The values of one request.
#[derive(Debug)]
pub(crate) struct Parameters(BTreeMap<String, Bound>);

impl Parameters {
    /// `newest` is the last Japanese day the lake knows anything of.
    pub(crate) fn of(request: &ReportRequest, newest: Date) -> Self {
        let (from, to) = (request.from, request.to);
        let mut all = BTreeMap::from([
            ("from".to_owned(), Bound::Day(from)),
            ("to".to_owned(), Bound::Day(to)),
            ("to_fiscal_year".to_owned(), Bound::Number(i64::from(fiscal_year(to)))),
            ("horizon".to_owned(), Bound::Day(newest)),
            ("survey_id".to_owned(), Bound::Text(request.survey_id.clone().unwrap_or_default())),
            ("coupon_set_id".to_owned(), Bound::Text(request.coupon_set_id.clone().unwrap_or_default())),
        ]);
        let (facility_id, with_city) = match request.claims {
            ClaimsOf::Municipality => (String::new(), false),
            ClaimsOf::Facility(id) => (id.to_string(), false),
            ClaimsOf::WithCity => (String::new(), true),
        };
        all.insert("facility_id".to_owned(), Bound::Text(facility_id));
        all.insert("with_city".to_owned(), Bound::Flag(with_city));
        for dimension in Dimension::ALL {
            all.insert(format!("by_{dimension}"), Bound::Flag(request.by.contains(dimension)));
        }
        let by = |dimension| request.by.contains(&dimension);
        let by_use = by(Dimension::ProgrammeCode) || by(Dimension::FacilityId);
        let by_set = by(Dimension::CouponSetId) || by(Dimension::CouponKind) || request.coupon_set_id.is_some();
        all.insert("with_balances".to_owned(), Bound::Flag(!by_use));
        all.insert("with_registrations".to_owned(), Bound::Flag(!by_use && !by_set));
        let reach = Reach::of(from, to);
        let days = [("window_from", reach.window_from), ("active_to", reach.active_to), ("return_to", reach.return_to)];
        for (name, day) in days {
            all.insert(name.to_owned(), Bound::Day(day));
        }
        Self(all)
    }

    /// Values under which the sections of a report tell about each of some days by itself: the day before them is
    /// looked at, for what began there, and the day after, for what ended there.
    pub(crate) fn of_days(from: Date, to: Date, by: &[Dimension]) -> Self {
        let days = [("from", from), ("to", to), ("active_to", to), ("return_to", to), ("horizon", to)];
        let mut all: BTreeMap<String, Bound> =
            days.into_iter().map(|(name, day)| (name.to_owned(), Bound::Day(day))).collect();
        all.insert("window_from".to_owned(), Bound::Day(from.saturating_sub(1.day())));
        for dimension in Dimension::ALL {
            all.insert(format!("by_{dimension}"), Bound::Flag(by.contains(dimension)));
        }
        Self(all)
    }

    /// Puts the values in place of the `$names`.
    pub(crate) fn bind(&self, statement: &mut Statement) -> Result<()> {
        let Statement::Statement(inner) = statement else {
            return plan_err!("a section is not a query");
        };
        let bound = visit_expressions_mut(inner, |node| {
            if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = node {
                match self.0.get(name.trim_start_matches('$')) {
                    Some(value) => *node = value.node(),
                    None => return ControlFlow::Break(name.clone()),
                }
            }
            ControlFlow::Continue(())
        });
        match bound {
            ControlFlow::Break(name) => Err(DataFusionError::Plan(format!("no value for {name}"))),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

/// Days outside the period that weeks, months, rolling windows (30 days) and returns (30 days, 11 months) need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// The first day whose sessions count.
    pub(crate) window_from: Date,
    /// The last day whose sessions count.
    pub(crate) active_to: Date,
    /// The last day on which somebody may come back.
    pub(crate) return_to: Date,
}

impl Reach {
    /// Of a period, both days included.
    pub(crate) fn of(from: Date, to: Date) -> Self {
        let month_end = |day: Date| day.last_of_month();
        let week_start = from.saturating_sub(i64::from(from.weekday().to_monday_zero_offset()).days());
        let week_end = to.saturating_add(i64::from(to.weekday().until(Weekday::Sunday)).days());
        Self {
            window_from: from.first_of_month().min(week_start).min(from.saturating_sub(29.days())),
            active_to: month_end(to).max(week_end),
            return_to: month_end(to.first_of_month().saturating_add(11.months())).max(to.saturating_add(30.days())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn the_reach_covers_weeks_months_and_returns() {
        let reach = Reach::of(date(2026, 6, 3), date(2026, 6, 30));
        assert_eq!(reach.window_from, date(2026, 5, 5));
        assert_eq!(reach.active_to, date(2026, 7, 5));
        assert_eq!(reach.return_to, date(2027, 5, 31));
        assert_eq!(Reach::of(date(2026, 3, 1), date(2026, 3, 1)).window_from, date(2026, 1, 31));
    }
}
