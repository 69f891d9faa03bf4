//! Message texts: parsing, placeholders, and what is left out on the way to a device.
//!
//! A text holds placeholders such as `{child}`. Privacy in transit (messages.md §1): push, e-mail and
//! lock screens never carry a person's name or a reason. There `{child}` becomes お子さま, `{guardian}`
//! becomes 利用者, and `{reason}` is dropped together with its label.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::messages::{LOCALE_COMPLETE, MessageType};

macro_rules! placeholders {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// A gap in a message text. Values are texts, formatted as the functions of
        /// [`format`](super::format) do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Placeholder {
            $($(#[$doc])* $variant),*
        }

        impl Placeholder {
            /// Every placeholder.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name between the braces.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

placeholders! {
    /// Guardian's name with 様.
    Guardian = "guardian",
    /// Child's name.
    Child = "child",
    /// Facility's name.
    Facility = "facility",
    /// Programme's name.
    Programme = "programme",
    /// Day with weekday.
    Date = "date",
    /// Time or range of times.
    Time = "time",
    /// Day and time.
    Deadline = "deadline",
    /// Yen or hours; changes with a sign.
    Amount = "amount",
    /// Yen or hours left.
    Balance = "balance",
    /// Hours of an hours coupon.
    Units = "units",
    /// Hours or quota left.
    Rest = "rest",
    /// Names of the buckets drawn.
    Bucket = "bucket",
    /// Day of expiry.
    Expiry = "expiry",
    /// Text of the reason code, free text included.
    Reason = "reason",
    /// Number of the application, reservation, use or claim.
    No = "no",
    /// Month.
    Month = "month",
    /// Link into the app.
    Link = "link",
    /// Desk and its phone number.
    Contact = "contact",
    /// One-time code.
    Code = "code",
    /// How many.
    Count = "count",
    /// Title of the survey, notice, file or other thing.
    Title = "title",
    /// Body of a notice or broadcast.
    Body = "body",
    /// Place.
    Place = "place",
    /// Minutes.
    Minutes = "minutes",
    /// Label of the new state.
    Status = "status",
    /// Start and end.
    Window = "window",
}

/// Values of the placeholders of one message. Serialises as `{"child": "…"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Placeholders(BTreeMap<Placeholder, String>);

impl Placeholders {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, placeholder: Placeholder, value: impl Into<String>) -> Self {
        self.set(placeholder, value);
        self
    }

    /// Sets a value.
    pub fn set(&mut self, placeholder: Placeholder, value: impl Into<String>) {
        self.0.insert(placeholder, value.into());
    }

    /// The value, if there is one that is not blank.
    pub fn get(&self, placeholder: Placeholder) -> Option<&str> {
        self.0.get(&placeholder).map(String::as_str).filter(|value| !value.trim().is_empty())
    }
}

/// Where the text will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// In the inbox or on a signed-in screen: everything.
    Inbox,
    /// On the way to the household: no names, no reasons.
    TransitHousehold,
    /// On the way to a facility, the operator or the city: the same, but the child has the subject's number.
    TransitStaff,
}

/// A finished text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// 件名
    pub subject: String,
    /// 本文
    pub body: String,
}

/// Why there is no text. The message is then not sent and the operator is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder has no value, or a blank one.
    #[error("`{message}` needs a value for {{{}}}", placeholder.as_str())]
    Missing {
        /// The message type.
        message: String,
        /// The gap.
        placeholder: Placeholder,
    },
    /// The message type has no such text.
    #[error("`{message}` has no variant `{variant}`")]
    NoVariant {
        /// The message type.
        message: String,
        /// The variant asked for.
        variant: String,
    },
}

/// The text in Japanese; see [`render_in`].
///
/// # Errors
/// See [`render_in`].
pub fn render(
    message: &MessageType,
    variant: &str,
    values: &Placeholders,
    privacy: Privacy,
) -> Result<Rendered, TemplateError> {
    render_in(message, LOCALE_COMPLETE, variant, values, privacy)
}

/// The text in a locale, in Japanese where the locale lacks it.
///
/// Values are put in as they are: a brace inside a value is not a placeholder.
///
/// # Errors
/// [`TemplateError::Missing`] for a gap without value, [`TemplateError::NoVariant`] for an unknown variant.
pub fn render_in(
    message: &MessageType,
    locale: &str,
    variant: &str,
    values: &Placeholders,
    privacy: Privacy,
) -> Result<Rendered, TemplateError> {
    let template = message
        .template(locale, variant)
        .or_else(|| message.template(LOCALE_COMPLETE, variant))
        .ok_or_else(|| TemplateError::NoVariant { message: message.id.clone(), variant: variant.to_owned() })?;
    let fill = |text: &Text| {
        text.fill(values, privacy)
            .map_err(|placeholder| TemplateError::Missing { message: message.id.clone(), placeholder })
    };
    let body = match (&template.transit_body, privacy) {
        (Some(transit), Privacy::TransitHousehold | Privacy::TransitStaff) => transit,
        _ => &template.body,
    };
    Ok(Rendered { subject: fill(&template.subject)?, body: fill(body)? })
}

/// Subject and body of one variant in one locale.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// 件名
    pub subject: Text,
    /// 本文
    pub body: Text,
    /// 本文 on the way to a device, where the full one tells more than a mail may, such as which of a
    /// child's health data changed.
    #[serde(default)]
    pub transit_body: Option<Text>,
}

impl Template {
    /// Placeholders of subject and body. On the way to staff `{child}` needs [`Placeholder::No`] too.
    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.subject.pieces.iter().chain(&self.body.pieces).filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Gap(placeholder) => Some(*placeholder),
            Piece::Reason { .. } => Some(Placeholder::Reason),
        })
    }
}

/// A parsed text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Text {
    raw: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Gap(Placeholder),
    // A label, the reason, and the space that parts it from the next sentence: kept or dropped as one.
    Reason { label: String, space: String },
}

const REASON_LABELS: [&str; 2] = ["内容：", "理由："];

/// A text that is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A brace without partner.
    #[error("unbalanced brace")]
    Brace,
    /// No such placeholder.
    #[error("unknown placeholder {{{0}}}")]
    UnknownPlaceholder(String),
}

impl TryFrom<String> for Text {
    type Error = TextError;
    fn try_from(raw: String) -> Result<Self, TextError> {
        let mut pieces = Vec::new();
        let mut rest = raw.as_str();
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or(TextError::Brace)? + open;
            let (literal, name) = (&rest[..open], &rest[open + 1..close]);
            rest = &rest[close + 1..];
            let placeholder = Placeholder::ALL
                .iter()
                .copied()
                .find(|placeholder| placeholder.as_str() == name)
                .ok_or_else(|| TextError::UnknownPlaceholder(name.to_owned()))?;
            if placeholder == Placeholder::Reason {
                let label = REASON_LABELS.into_iter().find(|label| literal.ends_with(label)).unwrap_or_default();
                push_literal(&mut pieces, &literal[..literal.len() - label.len()])?;
                let after = rest.trim_start_matches(' ');
                let space = rest[..rest.len() - after.len()].to_owned();
                pieces.push(Piece::Reason { label: label.to_owned(), space });
                rest = after;
            } else {
                push_literal(&mut pieces, literal)?;
                pieces.push(Piece::Gap(placeholder));
            }
        }
        push_literal(&mut pieces, rest)?;
        Ok(Self { raw, pieces })
    }
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &str) -> Result<(), TextError> {
    if literal.contains('}') {
        return Err(TextError::Brace);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.to_owned()));
    }
    Ok(())
}

impl Text {
    /// As written in the catalogue.
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    fn fill(&self, values: &Placeholders, privacy: Privacy) -> Result<String, Placeholder> {
        let value = |placeholder| values.get(placeholder).ok_or(placeholder);
        let in_transit = privacy != Privacy::Inbox;
        let mut text = String::with_capacity(self.raw.len() * 2);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Reason { .. } if in_transit => {}
                Piece::Reason { label, space } => {
                    text.push_str(label);
                    text.push_str(value(Placeholder::Reason)?);
                    text.push_str(space);
                }
                Piece::Gap(Placeholder::Child) if privacy == Privacy::TransitStaff => {
                    text.push_str("お子さま（番号 ");
                    text.push_str(value(Placeholder::No)?);
                    text.push('）');
                }
                Piece::Gap(Placeholder::Child) if in_transit => text.push_str("お子さま"),
                Piece::Gap(Placeholder::Guardian) if in_transit => text.push_str("利用者"),
                Piece::Gap(placeholder) => text.push_str(value(*placeholder)?),
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::messages;

    fn values() -> Placeholders {
        Placeholders::new()
            .with(Placeholder::Child, "佐藤 はな")
            .with(Placeholder::No, "A26-0000012")
            .with(Placeholder::Reason, "書類が読めません")
            .with(Placeholder::Deadline, "2026年12月1日（火） 17:00")
            .with(Placeholder::Bucket, "{child}")
            .with(Placeholder::Units, "3時間（3回）")
    }

    #[test]
    fn the_inbox_gets_everything() {
        let message = messages::get("application.coupon.deficient").unwrap();
        let text = render(message, "default", &values(), Privacy::Inbox).unwrap();
        assert_eq!(text.subject, "クーポン受給申請に不備があります");
        assert_eq!(
            text.body,
            "受付番号 A26-0000012 の申請に修正が必要です。内容：書類が読めません 申請状況の画面から修正して再提出してください。"
        );
    }

    #[test]
    fn in_transit_the_reason_goes_with_its_label() {
        let message = messages::get("application.coupon.deficient").unwrap();
        let text = render(message, "default", &values(), Privacy::TransitHousehold).unwrap();
        assert_eq!(
            text.body,
            "受付番号 A26-0000012 の申請に修正が必要です。申請状況の画面から修正して再提出してください。"
        );
    }

    #[test]
    fn in_transit_the_child_has_no_name() {
        let message = messages::get("coupon.use_requested").unwrap();
        let body = |privacy| render(message, "default", &values(), privacy).unwrap().body;
        assert!(body(Privacy::Inbox).starts_with("佐藤 はなから{child} 3時間"), "values are not templates");
        assert!(body(Privacy::TransitHousehold).starts_with("お子さまから"));
        assert!(body(Privacy::TransitStaff).starts_with("お子さま（番号 A26-0000012）から"));
    }

    #[test]
    fn in_transit_nobody_learns_which_health_data_changed() {
        let message = messages::get("child.info_changed").unwrap();
        let values = values().with(Placeholder::Title, "アレルギー");
        let body = |privacy| render(message, "default", &values, privacy).unwrap().body;
        assert!(body(Privacy::Inbox).contains("（アレルギー）"));
        let mailed = body(Privacy::TransitStaff);
        assert_eq!(mailed, "お子さま（番号 A26-0000012）の登録情報が更新されました。利用日までに必ずご確認ください。");
    }

    #[test]
    fn nothing_is_silently_blank() {
        let message = messages::get("coupon.use_requested").unwrap();
        for blank in ["", " "] {
            let values = values().with(Placeholder::Units, blank);
            assert_eq!(
                render(message, "default", &values, Privacy::Inbox),
                Err(TemplateError::Missing { message: message.id.clone(), placeholder: Placeholder::Units })
            );
        }
        let variant = render(message, "household", &values(), Privacy::Inbox);
        assert!(matches!(variant, Err(TemplateError::NoVariant { .. })));
    }

    #[test]
    fn an_unknown_locale_falls_back_to_japanese() {
        let message = messages::get("coupon.use_requested").unwrap();
        assert_eq!(
            render_in(message, "en", "default", &values(), Privacy::Inbox),
            render(message, "default", &values(), Privacy::Inbox)
        );
    }

    #[test]
    fn bad_templates_are_refused() {
        for raw in ["{kid}", "{child", "child}", "{child}}", "{}"] {
            assert!(Text::try_from(raw.to_owned()).is_err(), "{raw}");
        }
    }
}
