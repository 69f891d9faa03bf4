//! Report files: statements under headings, with the dimensions each is for.
//!
//! `-- section: name` begins a statement; `-- when: a, b` runs it only if one of these dimensions was
//! chosen, `-- unless: a, b` only if none was; `-- final` makes it an end of the file; `-- rolled` lets the
//! figures that are kept by day stand in for it. All but the final ones become tables of their name. The
//! directives are SQL comments, so every statement is plain SQL.

use crate::dimension::Dimension;

/// One statement of a report file.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name, and that of the table it becomes.
    pub(crate) name: &'static str,
    /// Its SQL.
    pub(crate) sql: &'static str,
    /// Names under `when`.
    when: Vec<&'static str>,
    /// Names under `unless`.
    unless: Vec<&'static str>,
    /// It is a result, not a step.
    pub(crate) is_final: bool,
    /// The figures kept by day have its rows, or make them unnecessary.
    pub(crate) is_rolled: bool,
}

impl Section {
    /// Whether it runs for the chosen dimensions.
    pub(crate) fn runs(&self, by: &[Dimension]) -> bool {
        let chosen = |names: &[&str]| by.iter().any(|dimension| names.contains(&dimension.as_str()));
        (self.when.is_empty() || chosen(&self.when)) && !chosen(&self.unless)
    }
}

const HEADING: &str = "-- section: ";

/// The statements of a file in order. The last one is final without saying so.
pub(crate) fn parse(file: &'static str) -> Vec<Section> {
    let mut sections: Vec<Section> = file.split(HEADING).skip(1).map(section).collect();
    if let Some(last) = sections.last_mut() {
        last.is_final = true;
    }
    sections
}

fn section(text: &'static str) -> Section {
    let (name, sql) = text.split_once('\n').unwrap_or((text, ""));
    let names = |directive: &str| -> Vec<&'static str> {
        let line = sql.lines().find_map(|line| line.strip_prefix(directive));
        line.map(|names| names.split(',').map(str::trim).collect()).unwrap_or_default()
    };
    Section {
        name: name.trim(),
        sql,
        when: names("-- when: "),
        unless: names("-- unless: "),
        is_final: sql.lines().any(|line| line == "-- final"),
        is_rolled: sql.lines().any(|line| line == "-- rolled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_choose_statements() {
        let sections = parse(
            "-- note\n-- section: a\n-- when: platform\nSELECT 1\n-- section: a\n-- unless: platform\nSELECT 2\n-- section: b\nSELECT 3\n",
        );
        assert_eq!(sections.len(), 3);
        let run = |by: &[Dimension]| sections.iter().map(|s| s.runs(by)).collect::<Vec<_>>();
        assert_eq!(run(&[]), [false, true, true]);
        assert_eq!(run(&[Dimension::Platform, Dimension::Day]), [true, false, true]);
        assert!(!sections[0].is_final && sections[2].is_final);
    }
}
