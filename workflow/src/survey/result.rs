//! Results from the record, for the operator's page (R04 from the lake is the report).

use std::collections::BTreeMap;

use serde::Serialize;
use todoke_domain::{
    Role,
    ids::SurveyId,
    role::Permission,
    survey::{AnswerItem, Question, QuestionKind},
};

use super::view::may_read_results;
use crate::{Actor, Workflow, WorkflowError};

/// How often an option, a step of a scale or a number was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptionResult {
    /// Number of the option; the value itself for scales and whole numbers.
    pub option_no: i64,
    /// The option's text, or the value.
    pub text: String,
    /// Answers with it.
    pub count: i64,
    /// Percent of the answers, one decimal; `None` without answers.
    pub share: Option<f64>,
}

/// One question's figures. What does not apply to its kind is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct QuestionResult {
    /// From 1.
    pub question_no: i64,
    /// Kind of the question.
    pub kind: &'static str,
    /// What was asked.
    pub text: String,
    /// Answers that reached the question.
    pub base: i64,
    /// Counts per option, step or value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionResult>,
    /// Values given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    /// Least value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Mean, two decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// Percent of the values among the two best steps, one decimal: the satisfaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top2_share: Option<f64>,
    /// Free answers that are not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts: Option<i64>,
    /// The free answers; for the operator only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<String>>,
}

/// A survey's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SurveyResults {
    /// People asked.
    pub targets: i64,
    /// Of these, reached.
    pub delivered: i64,
    /// Answers, each person's once.
    pub answers: i64,
    /// Percent, one decimal; `None` without targets.
    pub response_rate: Option<f64>,
    /// In order.
    pub questions: Vec<QuestionResult>,
}

impl Workflow {
    /// A survey's figures. Errors: [`WorkflowError::NotFound`] for the city before they are presented.
    pub async fn survey_results(&self, actor: &Actor, id: SurveyId) -> Result<SurveyResults, WorkflowError> {
        actor.require(Permission::ReadSurveys)?;
        let mut tx = self.read(actor).await?;
        let survey = tx
            .survey(id)
            .await?
            .filter(|survey| may_read_results(actor, survey))
            .ok_or(WorkflowError::NotFound("survey"))?;
        let answers = tx.survey_answers(id).await?;
        let answers: Vec<Vec<AnswerItem>> =
            answers.iter().map(todoke_store::survey::SurveyAnswer::items).collect::<Result<_, _>>()?;
        let shows_words = actor.role == Some(Role::Operator);
        let n_answers = i64::try_from(answers.len()).unwrap_or(i64::MAX);
        Ok(SurveyResults {
            targets: survey.n_targets,
            delivered: tx.survey_delivered(id).await?,
            answers: n_answers,
            response_rate: percent(n_answers, survey.n_targets),
            questions: survey
                .questions
                .iter()
                .map(|question| question_result(question, &answers, shows_words))
                .collect(),
        })
    }
}

/// `part` of `whole` in percent with one decimal, half up.
pub(super) fn percent(part: i64, whole: i64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "per mille of a count of people")]
    (whole > 0).then(|| ((part * 2_000 + whole) / (whole * 2)) as f64 / 10.0)
}

fn question_result(question: &Question, answers: &[Vec<AnswerItem>], shows_words: bool) -> QuestionResult {
    let items: Vec<&AnswerItem> =
        answers.iter().flatten().filter(|item| item.question_no == question.question_no).collect();
    let base = i64::try_from(answers.len()).unwrap_or(i64::MAX);
    let result = QuestionResult {
        question_no: question.question_no,
        kind: kind_code(question.kind),
        text: question.text.clone(),
        base,
        ..QuestionResult::default()
    };
    match question.kind {
        QuestionKind::Single | QuestionKind::Multiple => {
            QuestionResult { options: options(question, &items, base), ..result }
        }
        QuestionKind::Scale | QuestionKind::Number => values(question, &items, result),
        QuestionKind::Text => {
            let words: Vec<String> = items.iter().filter_map(|item| item.text.clone()).collect();
            let n = i64::try_from(words.len()).unwrap_or(i64::MAX);
            QuestionResult { texts: Some(n), samples: shows_words.then_some(words), ..result }
        }
    }
}

const fn kind_code(kind: QuestionKind) -> &'static str {
    match kind {
        QuestionKind::Single => "single",
        QuestionKind::Multiple => "multiple",
        QuestionKind::Scale => "scale",
        QuestionKind::Number => "number",
        QuestionKind::Text => "text",
    }
}

fn options(question: &Question, items: &[&AnswerItem], base: i64) -> Vec<OptionResult> {
    (1_i64..)
        .zip(&question.options)
        .map(|(option_no, text)| {
            let count = items.iter().filter(|item| item.options.contains(&option_no)).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            OptionResult { option_no, text: text.clone(), count, share: percent(count, base) }
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "values are checked, counts are counts of people, figures are rounded anyway"
)]
fn values(question: &Question, items: &[&AnswerItem], result: QuestionResult) -> QuestionResult {
    let mut given: Vec<f64> = items.iter().filter_map(|item| item.number).collect();
    given.sort_by(f64::total_cmp);
    let n = i64::try_from(given.len()).unwrap_or(i64::MAX);
    // Steps nobody chose are shown with 0; thousandths tell any two numbers apart that people type.
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    if let (QuestionKind::Scale, Some(min), Some(max)) = (question.kind, question.min, question.max) {
        counts.extend((min as i64..=max as i64).map(|step| (step * 1_000, 0)));
    }
    for value in &given {
        *counts.entry((value * 1_000.0).round() as i64).or_default() += 1;
    }
    let option = |(thousandths, count): (&i64, &i64)| OptionResult {
        option_no: thousandths / 1_000,
        text: (*thousandths as f64 / 1_000.0).to_string(),
        count: *count,
        share: percent(*count, result.base),
    };
    let best_two = |max: f64| given.iter().filter(|value| **value >= max - 1.0).count();
    let top2 = (question.kind == QuestionKind::Scale)
        .then(|| question.max.and_then(|max| percent(best_two(max) as i64, n)))
        .flatten();
    let middle = given.len() / 2;
    let median = match given.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(given[middle - 1], given[middle])),
        _ => Some(given[middle]),
    };
    QuestionResult {
        options: counts.iter().map(option).collect(),
        n: Some(n),
        min: given.first().copied(),
        max: given.last().copied(),
        mean: (n > 0).then(|| (given.iter().sum::<f64>() / n as f64 * 100.0).round() / 100.0),
        median,
        top2_share: top2,
        ..result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_figures_of_reports_md_come_out() {
        let question = Question {
            question_no: 1,
            kind: QuestionKind::Scale,
            text: "満足度".into(),
            options: Vec::new(),
            required: true,
            min: Some(1.0),
            max: Some(5.0),
            kpi: Some("K24".into()),
        };
        let answers: Vec<Vec<AnswerItem>> = [(5, 20), (4, 15), (3, 10), (2, 5)]
            .into_iter()
            .flat_map(|(step, n)| {
                let item = AnswerItem { question_no: 1, number: Some(f64::from(step)), ..AnswerItem::default() };
                std::iter::repeat_n(vec![item], n)
            })
            .collect();
        let result = question_result(&question, &answers, false);
        assert_eq!(
            (result.base, result.n, result.mean, result.median, result.top2_share),
            (50, Some(50), Some(4.0), Some(4.0), Some(70.0))
        );
        assert_eq!(
            result.options.iter().map(|o| (o.option_no, o.count)).collect::<Vec<_>>(),
            [(1, 0), (2, 5), (3, 10), (4, 15), (5, 20)]
        );
        assert_eq!(percent(50, 200), Some(25.0));
        assert_eq!(percent(1, 8), Some(12.5));
        assert_eq!(percent(1, 16), Some(6.3));
        assert_eq!(percent(1, 0), None);
    }
}
