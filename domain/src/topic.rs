//! Topics of interest: what a guardian wants to hear about (messages.md §11).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A topic that guardians choose in their settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// イベント・講座
    Events,
    /// 健診・予防接種
    Health,
    /// 一時預かり・保育
    Childcare,
    /// 手当・給付
    Benefits,
    /// 子育て相談
    Counselling,
    /// ひとり親家庭への支援
    SingleParent,
    /// 防災・安全
    Safety,
}

impl Topic {
    /// Every topic, in the order in which people see them.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Health,
        Self::Childcare,
        Self::Benefits,
        Self::Counselling,
        Self::SingleParent,
        Self::Safety,
    ];

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Health => "health",
            Self::Childcare => "childcare",
            Self::Benefits => "benefits",
            Self::Counselling => "counselling",
            Self::SingleParent => "single_parent",
            Self::Safety => "safety",
        }
    }

    /// The label people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Events => "イベント・講座",
            Self::Health => "健診・予防接種",
            Self::Childcare => "一時預かり・保育",
            Self::Benefits => "手当・給付",
            Self::Counselling => "子育て相談",
            Self::SingleParent => "ひとり親家庭への支援",
            Self::Safety => "防災・安全",
        }
    }
}

/// A text that names no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such topic")]
pub struct TopicError;

impl FromStr for Topic {
    type Err = TopicError;
    fn from_str(raw: &str) -> Result<Self, TopicError> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == raw).ok_or(TopicError)
    }
}
