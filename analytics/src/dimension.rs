//! The closed list of what a report can be split by.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::error::ReportError;

macro_rules! dimensions {
    ($($variant:ident = $name:literal, $label:literal;)*) => {
        /// What figures can be split by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Dimension {
            $(#[doc = $label] $variant,)*
        }

        impl Dimension {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in requests and in columns.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The name for people.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

dimensions! {
    Day = "day", "日";
    Week = "week", "週（月曜始まり）";
    Month = "month", "月";
    ProgrammeCode = "programme_code", "対象事業";
    FacilityId = "facility_id", "事業所";
    WardCode = "ward_code", "行政区";
    ClassAge = "class_age", "クラス年齢";
    CouponSetId = "coupon_set_id", "クーポンセット";
    CouponKind = "coupon_kind", "クーポンの種類";
    Platform = "platform", "利用環境";
    AppVersion = "app_version", "アプリの版";
    Role = "role", "ロール";
    ScreenId = "screen_id", "画面";
    ErrorKind = "error_kind", "エラーの種類";
    MessageType = "message_type", "通知種別";
    Category = "category", "通知の分類";
    Channel = "channel", "通知手段";
    BroadcastId = "broadcast_id", "一斉配信";
    Hour = "hour", "時間帯（時）";
}

impl Dimension {
    /// A comma-separated list, such as `month,ward_code`; empty text is an empty list. A name twice counts once.
    pub fn parse_list(raw: &str) -> Result<Vec<Self>, ReportError> {
        let mut list = Vec::new();
        for name in raw.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let dimension = name.parse()?;
            if !list.contains(&dimension) {
                list.push(dimension);
            }
        }
        Ok(list)
    }

    /// Day, week and month split time; a report takes one of them.
    pub(crate) fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month)
    }
}

impl FromStr for Dimension {
    type Err = ReportError;
    fn from_str(raw: &str) -> Result<Self, ReportError> {
        let found = Self::ALL.iter().find(|dimension| dimension.as_str() == raw);
        found.copied().ok_or_else(|| ReportError::UnknownDimension(raw.to_owned()))
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
