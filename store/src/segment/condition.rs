//! From a tree of conditions to SQL. Texts are fixed pieces; every value is a parameter.

use jiff::civil::Date;
use todoke_domain::{
    Timestamp,
    ids::EventId,
    segment::Condition,
    time::{add_days, add_months, fiscal_year},
};

use crate::child::child_lives_here;

/// A parameter's value.
#[derive(Debug)]
pub(super) enum Bind {
    Text(String),
    Number(i64),
}

/// Parameters collected so far. `a` is the account and `g` the household of the statement they end up in.
#[derive(Debug)]
pub(super) struct Conditions {
    n_before: usize,
    pub(super) binds: Vec<Bind>,
}

const SETTLED: &str = "SELECT 1 FROM coupon_use u WHERE u.guardian_id = g.guardian_id AND u.state = 'settled'";
const HOLDS: &str = "(1 = 1)";

impl Conditions {
    /// After a statement's `n_before` fixed parameters.
    pub(super) fn after(n_before: usize) -> Self {
        Self { n_before, binds: Vec::new() }
    }

    fn mark(&mut self, bind: Bind) -> String {
        self.binds.push(bind);
        format!("${}", self.n_before + self.binds.len())
    }

    fn text(&mut self, text: impl ToString) -> String {
        self.mark(Bind::Text(text.to_string()))
    }

    fn number(&mut self, number: i64) -> String {
        self.mark(Bind::Number(number))
    }

    fn list<T: ToString>(&mut self, values: &[T]) -> String {
        let marks: Vec<String> = values.iter().map(|value| self.text(value.to_string())).collect();
        format!("({})", marks.join(", "))
    }

    /// Writes one condition, in brackets.
    pub(super) fn write(&mut self, sql: &mut String, condition: &Condition, now: Timestamp) {
        let today = now.jst_date();
        let leaf = match condition {
            Condition::All { of } => return self.group(sql, of, " AND ", now),
            Condition::Any { of } => return self.group(sql, of, " OR ", now),
            Condition::Not { of } => {
                sql.push_str("(NOT ");
                self.write(sql, of, now);
                return sql.push(')');
            }
            Condition::Ward { codes } => format!("g.ward_code IN {}", self.list(codes)),
            Condition::ChildAgeMonths { from, to } => {
                let (youngest, oldest) = (months_before(today, *from), months_before(today, *to + 1));
                let (youngest, oldest) = (self.text(youngest), self.text(oldest));
                let here = self.child_here(today);
                format!("EXISTS (SELECT 1 {here} AND c.birth_date <= {youngest} AND c.birth_date > {oldest})")
            }
            Condition::ChildClassAge { ages } => {
                let ranges: Vec<String> = ages.iter().map(|age| self.class(today, *age)).collect();
                format!("EXISTS (SELECT 1 {} AND ({}))", self.child_here(today), ranges.join(" OR "))
            }
            Condition::ChildCount { from, to } => {
                let (from, to) = (self.number(*from), self.number(*to));
                format!("(SELECT COUNT(*) {}) BETWEEN {from} AND {to}", self.child_here(today))
            }
            Condition::ProgrammeUsed { codes, from, to } => self.used(codes, *from, *to),
            Condition::FacilityUsed { facility_ids } => {
                format!("EXISTS ({SETTLED} AND u.facility_id IN {})", self.list(facility_ids))
            }
            Condition::CouponState { state } => self.coupon_state(state),
            Condition::CouponBalance { from_yen, to_yen } => {
                // Without a coupon it is below every balance, and not NULL, of which "not" would be NULL as well.
                let (from, to) = (self.number(*from_yen), self.number(*to_yen));
                format!(
                    "COALESCE((SELECT SUM(c.balance_yen) FROM coupon c WHERE c.guardian_id = g.guardian_id AND c.state = 'active'), -1) BETWEEN {from} AND {to}"
                )
            }
            Condition::ApplicationState { state } => {
                let state = self.text(state.as_str());
                format!(
                    "EXISTS (SELECT 1 FROM application p WHERE p.guardian_id = g.guardian_id AND p.state = {state}
                     AND NOT EXISTS (SELECT 1 FROM application q WHERE q.child_id = p.child_id AND q.application_id > p.application_id))"
                )
            }
            Condition::Topic { topics } => {
                let topics: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
                format!(
                    "EXISTS (SELECT 1 FROM topic_choice t WHERE t.account_id = a.account_id AND t.topic IN {})",
                    self.list(&topics)
                )
            }
            Condition::Inactive { days } => {
                let since = now.minus(std::time::Duration::from_secs(u64::from(*days) * 86_400));
                let since = self.number(since.as_micros());
                format!(
                    "NOT EXISTS (SELECT 1 FROM session s WHERE s.account_id = a.account_id AND s.seen_at_us >= {since})"
                )
            }
            Condition::SurveyAnswered { survey_id, answered } => {
                let survey = self.text(survey_id);
                let not = if *answered { "" } else { "NOT " };
                format!(
                    "EXISTS (SELECT 1 FROM survey_target t WHERE t.survey_id = {survey} AND t.account_id = a.account_id AND t.requested AND {not}t.answered)"
                )
            }
        };
        sql.push('(');
        sql.push_str(&leaf);
        sql.push(')');
    }

    /// Has a message of this cause and has read none of them.
    pub(super) fn write_unread(&mut self, sql: &mut String, cause: EventId) {
        let cause = self.text(cause);
        sql.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM message m WHERE m.cause_event_id = {cause} AND m.account_id = a.account_id)
             AND NOT EXISTS (SELECT 1 FROM message m WHERE m.cause_event_id = {cause} AND m.account_id = a.account_id AND m.read_at_us IS NOT NULL)"
        ));
    }

    fn group(&mut self, sql: &mut String, of: &[Condition], between: &str, now: Timestamp) {
        if of.is_empty() {
            return sql.push_str(HOLDS);
        }
        sql.push('(');
        for (at, condition) in of.iter().enumerate() {
            if at > 0 {
                sql.push_str(between);
            }
            self.write(sql, condition, now);
        }
        sql.push(')');
    }

    /// The children `c` of the household that live here on a day.
    fn child_here(&mut self, today: Date) -> String {
        format!(
            concat!("FROM child c WHERE c.guardian_id = g.guardian_id AND ", child_lives_here!("c", "{day}")),
            day = self.text(today)
        )
    }

    /// Class age 0 has no younger end: children born since April belong to it.
    fn class(&mut self, today: Date, age: i64) -> String {
        let april = Date::new(fiscal_year(today), 4, 1).unwrap_or(today);
        let oldest = self.text(months_before(april, 12 * (age + 1)));
        if age == 0 {
            return format!("c.birth_date > {oldest}");
        }
        let youngest = self.text(months_before(april, 12 * age));
        format!("(c.birth_date > {oldest} AND c.birth_date <= {youngest})")
    }

    fn used(&mut self, codes: &[String], from: Option<Date>, to: Option<Date>) -> String {
        let mut sql = format!("EXISTS ({SETTLED}");
        if let Some(from) = from {
            let from = self.number(Timestamp::jst_midnight(from).as_micros());
            sql.push_str(&format!(" AND u.used_at_us >= {from}"));
        }
        if let Some(to) = to {
            let before = self.number(Timestamp::jst_midnight(add_days(to, 1)).as_micros());
            sql.push_str(&format!(" AND u.used_at_us < {before}"));
        }
        if !codes.is_empty() {
            let codes = self.list(codes);
            sql.push_str(&format!(" AND u.programme_code IN {codes}"));
        }
        sql.push(')');
        sql
    }

    fn coupon_state(&mut self, state: &str) -> String {
        const OWN: &str = "EXISTS (SELECT 1 FROM coupon c WHERE c.guardian_id = g.guardian_id";
        match state {
            "none" => format!("NOT {OWN})"),
            // A suspended household's coupons are active on paper.
            "suspended" => format!("g.suspended OR {OWN} AND c.state = 'suspended')"),
            "active" => format!("NOT g.suspended AND {OWN} AND c.state = 'active')"),
            other => {
                let state = self.text(other);
                format!("{OWN} AND c.state = {state})")
            }
        }
    }
}

fn months_before(day: Date, months: i64) -> Date {
    add_months(day, -i32::try_from(months).unwrap_or(i32::MAX))
}
