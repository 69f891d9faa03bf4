//! Surveys: questions, answers, states (flows.md C17).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// State of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SurveyState {
    /// 作成中
    Draft,
    /// 配信予約
    Scheduled,
    /// 回答受付中
    Open,
    /// 締切
    Closed,
    /// 集計済
    Aggregated,
    /// 提示済
    Presented,
}

impl SurveyState {
    const ALL: [Self; 6] = [Self::Draft, Self::Scheduled, Self::Open, Self::Closed, Self::Aggregated, Self::Presented];

    /// The code in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled => "scheduled",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Aggregated => "aggregated",
            Self::Presented => "presented",
        }
    }

    /// The label people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draft => "作成中",
            Self::Scheduled => "配信予約",
            Self::Open => "回答受付中",
            Self::Closed => "締切",
            Self::Aggregated => "集計済",
            Self::Presented => "提示済",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == raw)
    }

    /// The next state, or `None` where the event is not possible.
    pub fn on(self, event: SurveyEvent) -> Option<Self> {
        use SurveyEvent as E;
        match (self, event) {
            (Self::Draft, E::Schedule) => Some(Self::Scheduled),
            (Self::Scheduled, E::Open) => Some(Self::Open),
            (Self::Open, E::Close) => Some(Self::Closed),
            (Self::Closed, E::Aggregate) => Some(Self::Aggregated),
            (Self::Aggregated, E::Present) => Some(Self::Presented),
            _ => None,
        }
    }
}

/// What happens to a survey as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SurveyEvent {
    /// The audience is extracted and the times are set.
    Schedule,
    /// The open time is reached; requests go out.
    Open,
    /// The close time is reached.
    Close,
    /// The operator aggregates.
    Aggregate,
    /// The operator presents the result to the city.
    Present,
}

/// Kind of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// One of the options.
    Single,
    /// Any of the options.
    Multiple,
    /// A whole number from `min` to `max`, best last.
    Scale,
    /// A number.
    Number,
    /// Free text; its words stay out of the lake.
    Text,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// From 1, in order.
    pub question_no: i64,
    /// Kind.
    pub kind: QuestionKind,
    /// What is asked.
    pub text: String,
    /// Options of `single` and `multiple`, in order; option numbers count from 1.
    #[serde(default)]
    pub options: Vec<String>,
    /// Must be answered.
    #[serde(default)]
    pub required: bool,
    /// Least value of `scale` and `number`.
    #[serde(default)]
    pub min: Option<f64>,
    /// Greatest value of `scale` and `number`.
    #[serde(default)]
    pub max: Option<f64>,
    /// KPI this question measures, such as `K24`.
    #[serde(default)]
    pub kpi: Option<String>,
}

/// One question's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerItem {
    /// Which question.
    pub question_no: i64,
    /// Chosen option numbers, from 1.
    #[serde(default)]
    pub options: Vec<i64>,
    /// Value of `scale` and `number`.
    #[serde(default)]
    pub number: Option<f64>,
    /// Words of `text`.
    #[serde(default)]
    pub text: Option<String>,
}

/// A survey or an answer that cannot be taken, with the question it is about (0: the survey itself).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SurveyError {
    /// Question number, or 0.
    pub question_no: i64,
    /// What to correct, in Japanese.
    pub detail: &'static str,
}

/// Most questions of one survey.
pub const QUESTIONS_MAX: usize = 50;
/// Most options of one question.
pub const OPTIONS_MAX: usize = 30;
/// Longest free answer, characters.
pub const TEXT_CHARS_MAX: usize = 2_000;

/// Checks the questions of a survey.
pub fn check_questions(questions: &[Question]) -> Result<(), SurveyError> {
    let refuse = |question_no, detail| Err(SurveyError { question_no, detail });
    if questions.is_empty() || questions.len() > QUESTIONS_MAX {
        return refuse(0, "設問は1問以上50問以内にしてください。");
    }
    for (i, question) in questions.iter().enumerate() {
        let no = i64::try_from(i + 1).unwrap_or(i64::MAX);
        if question.question_no != no {
            return refuse(question.question_no, "設問番号は1からの連番にしてください。");
        }
        if crate::text::line(&question.text, 400).is_err() {
            return refuse(no, "設問文を400文字以内で入力してください。");
        }
        let detail = match question.kind {
            QuestionKind::Single | QuestionKind::Multiple => check_options(&question.options),
            QuestionKind::Scale => check_scale(question.min, question.max),
            QuestionKind::Number if matches!((question.min, question.max), (Some(a), Some(b)) if a > b) => {
                Some("最小値は最大値以下にしてください。")
            }
            QuestionKind::Number | QuestionKind::Text => None,
        };
        if let Some(detail) = detail {
            return refuse(no, detail);
        }
    }
    Ok(())
}

fn check_options(options: &[String]) -> Option<&'static str> {
    let distinct: HashSet<&str> = options.iter().map(|option| option.trim()).collect();
    if options.len() < 2 || options.len() > OPTIONS_MAX {
        Some("選択肢は2個以上30個以内にしてください。")
    } else if distinct.len() != options.len() || options.iter().any(|o| crate::text::line(o, 200).is_err()) {
        Some("選択肢は重複しないように、200文字以内で入力してください。")
    } else {
        None
    }
}

fn check_scale(min: Option<f64>, max: Option<f64>) -> Option<&'static str> {
    match (min, max) {
        (Some(min), Some(max)) if min.fract() == 0.0 && max.fract() == 0.0 && min < max && max - min <= 10.0 => None,
        _ => Some("段階評価は整数の最小値と最大値（差は10以内）を指定してください。"),
    }
}

/// Checks an answer against the questions: every required question answered, every value possible.
pub fn check_answer(questions: &[Question], answer: &[AnswerItem]) -> Result<(), SurveyError> {
    let refuse = |question_no, detail| Err(SurveyError { question_no, detail });
    let mut seen = HashSet::new();
    for item in answer {
        let Some(question) = questions.iter().find(|q| q.question_no == item.question_no) else {
            return refuse(item.question_no, "この設問はありません。");
        };
        if !seen.insert(item.question_no) {
            return refuse(item.question_no, "同じ設問に2回答えています。");
        }
        if let Some(detail) = check_item(question, item) {
            return refuse(item.question_no, detail);
        }
    }
    let answered = |no: i64| answer.iter().any(|item| item.question_no == no && !is_blank(item));
    match questions.iter().find(|q| q.required && !answered(q.question_no)) {
        Some(missing) => refuse(missing.question_no, "必須の設問です。回答を入力してください。"),
        None => Ok(()),
    }
}

/// Nothing was chosen or written.
pub fn is_blank(item: &AnswerItem) -> bool {
    item.options.is_empty() && item.number.is_none() && item.text.as_deref().is_none_or(|t| t.trim().is_empty())
}

fn check_item(question: &Question, item: &AnswerItem) -> Option<&'static str> {
    let n_options = i64::try_from(question.options.len()).unwrap_or(0);
    let options_fit = item.options.iter().all(|no| (1..=n_options).contains(no))
        && item.options.iter().collect::<HashSet<_>>().len() == item.options.len();
    let in_range =
        |n: f64| n.is_finite() && question.min.is_none_or(|min| n >= min) && question.max.is_none_or(|max| n <= max);
    match question.kind {
        QuestionKind::Single if item.options.len() > 1 || !options_fit => Some("選択肢から1つ選んでください。"),
        QuestionKind::Multiple if !options_fit => Some("選択肢から選んでください。"),
        QuestionKind::Scale if item.number.is_some_and(|n| n.fract() != 0.0 || !in_range(n)) => {
            Some("段階評価の範囲の整数を選んでください。")
        }
        QuestionKind::Number if item.number.is_some_and(|n| !in_range(n)) => Some("範囲内の数値を入力してください。"),
        QuestionKind::Text if item.text.as_deref().is_some_and(|t| crate::text::lines(t, TEXT_CHARS_MAX).is_err()) => {
            Some("2000文字以内で、使用できる文字で入力してください。")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(question_no: i64, kind: QuestionKind, required: bool) -> Question {
        let options = match kind {
            QuestionKind::Single | QuestionKind::Multiple => vec!["はい".into(), "いいえ".into()],
            _ => Vec::new(),
        };
        let (min, max) = if kind == QuestionKind::Scale { (Some(1.0), Some(5.0)) } else { (None, None) };
        Question { question_no, kind, text: "満足ですか".into(), options, required, min, max, kpi: None }
    }

    #[test]
    fn answers_are_checked_against_their_questions() {
        use QuestionKind as K;
        let questions = vec![
            question(1, K::Single, true),
            question(2, K::Multiple, false),
            question(3, K::Scale, true),
            question(4, K::Number, false),
            question(5, K::Text, false),
        ];
        check_questions(&questions).unwrap();
        let good = vec![
            AnswerItem { question_no: 1, options: vec![2], ..AnswerItem::default() },
            AnswerItem { question_no: 3, number: Some(5.0), ..AnswerItem::default() },
            AnswerItem { question_no: 5, text: Some("ありがとう".into()), ..AnswerItem::default() },
        ];
        assert_eq!(check_answer(&questions, &good), Ok(()));
        let about = |item: AnswerItem| check_answer(&questions, &[item]).unwrap_err().question_no;
        assert_eq!(about(AnswerItem { question_no: 1, options: vec![1, 2], ..AnswerItem::default() }), 1);
        assert_eq!(about(AnswerItem { question_no: 2, options: vec![3], ..AnswerItem::default() }), 2);
        assert_eq!(about(AnswerItem { question_no: 3, number: Some(5.5), ..AnswerItem::default() }), 3);
        assert_eq!(about(AnswerItem { question_no: 4, number: Some(f64::NAN), ..AnswerItem::default() }), 4);
        assert_eq!(about(AnswerItem { question_no: 9, ..AnswerItem::default() }), 9);
        assert_eq!(check_answer(&questions, &good[1..]).unwrap_err().question_no, 1);
    }

    #[test]
    fn a_survey_goes_through_its_states_in_order() {
        use SurveyEvent as E;
        let all = [E::Schedule, E::Open, E::Close, E::Aggregate, E::Present];
        let end = all.iter().try_fold(SurveyState::Draft, |state, event| state.on(*event));
        assert_eq!(end, Some(SurveyState::Presented));
        assert_eq!(SurveyState::Draft.on(E::Open), None);
        assert_eq!(SurveyState::Presented.on(E::Close), None);
    }
}
