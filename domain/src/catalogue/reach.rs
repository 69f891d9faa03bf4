//! Who gets a message and over what: audiences, channels, categories.

use serde::Deserialize;

use crate::Role;

/// A way to a person (messages.md §1, "Channels").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// L: websocket, every open session.
    Live,
    /// I: in-app inbox, the record.
    Inbox,
    /// P: push to devices with permission.
    Push,
    /// E: e-mail.
    Email,
    /// X: paper, for people whose contact channel includes it.
    Paper,
}

impl Channel {
    /// Every channel, in the order of messages.md.
    pub const ALL: [Self; 5] = [Self::Live, Self::Inbox, Self::Push, Self::Email, Self::Paper];

    /// The code in the record and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Inbox => "inbox",
            Self::Push => "push",
            Self::Email => "email",
            Self::Paper => "paper",
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Live => 'L',
            Self::Inbox => 'I',
            Self::Push => 'P',
            Self::Email => 'E',
            Self::Paper => 'X',
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl std::str::FromStr for Channel {
    type Err = ChannelError;
    fn from_str(raw: &str) -> Result<Self, ChannelError> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == raw).ok_or(ChannelError)
    }
}

/// A text that names no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such channel")]
pub struct ChannelError;

/// A set of channels. Catalogue files write it as letters, such as `LIPE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ChannelSet(u8);

impl ChannelSet {
    /// No channel.
    pub const EMPTY: Self = Self(0);
    /// All five.
    pub const ALL: Self = Self(0b1_1111);

    /// These channels.
    pub const fn of(channels: &[Channel]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < channels.len() {
            bits |= channels[i].bit();
            i += 1;
        }
        Self(bits)
    }

    /// Whether `channel` is in it.
    pub const fn contains(self, channel: Channel) -> bool {
        self.0 & channel.bit() != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Channels of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Channels of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// This set without `channel`.
    #[must_use]
    pub const fn without(self, channel: Channel) -> Self {
        Self(self.0 & !channel.bit())
    }

    /// Its channels, in the order of messages.md.
    pub fn iter(self) -> impl Iterator<Item = Channel> {
        Channel::ALL.into_iter().filter(move |channel| self.contains(*channel))
    }
}

impl FromIterator<Channel> for ChannelSet {
    fn from_iter<T: IntoIterator<Item = Channel>>(channels: T) -> Self {
        channels.into_iter().fold(Self::EMPTY, |set, channel| set.union(Self::of(&[channel])))
    }
}

impl TryFrom<String> for ChannelSet {
    type Error = ChannelError;
    fn try_from(letters: String) -> Result<Self, ChannelError> {
        letters
            .chars()
            .map(|letter| Channel::ALL.into_iter().find(|c| c.letter() == letter).ok_or(ChannelError))
            .collect()
    }
}

/// The letters of messages.md.
impl std::fmt::Display for ChannelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|channel| write!(f, "{}", channel.letter()))
    }
}

/// A kind of recipient (messages.md §1, "Recipients"). Sections and staff are those of the event's
/// municipality, facility staff those of the event's facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// G
    Guardian,
    /// PG
    ProxyGuardian,
    /// FS: everybody of the facility, managers included.
    FacilityStaff,
    /// FM: managers only.
    FacilityManager,
    /// OP
    Operator,
    /// MA
    MunicipalAdmin,
    /// MS
    MunicipalStaff,
    /// PS
    ProgrammeSection,
    /// AS
    AppSection,
    /// "any": the person whose account the event is about.
    AccountHolder,
    /// Those the survey, notice or broadcast was made for.
    Addressees,
    /// Who made the broadcast.
    Author,
    /// Who asked the question.
    Asker,
}

impl Audience {
    /// Guardian or proxy guardian.
    pub const fn is_household(self) -> bool {
        matches!(self, Self::Guardian | Self::ProxyGuardian)
    }

    /// People of one facility.
    pub const fn is_facility(self) -> bool {
        matches!(self, Self::FacilityStaff | Self::FacilityManager)
    }

    /// Operator or a section of the city.
    pub const fn is_office(self) -> bool {
        matches!(
            self,
            Self::Operator | Self::MunicipalAdmin | Self::MunicipalStaff | Self::ProgrammeSection | Self::AppSection
        )
    }

    /// The section whose people have this role; `None` where the role is none of an office.
    pub const fn of_office(role: Role) -> Option<Self> {
        match role {
            Role::Operator => Some(Self::Operator),
            Role::MunicipalAdmin => Some(Self::MunicipalAdmin),
            Role::MunicipalStaff => Some(Self::MunicipalStaff),
            Role::ProgrammeSection => Some(Self::ProgrammeSection),
            Role::AppSection => Some(Self::AppSection),
            Role::Guardian
            | Role::ProxyGuardian
            | Role::FacilityManager
            | Role::FacilityStaff
            | Role::WardSection
            | Role::Analyst
            | Role::StatsViewer
            | Role::SupportDesk => None,
        }
    }

    /// The code in the catalogue files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guardian => "guardian",
            Self::ProxyGuardian => "proxy_guardian",
            Self::FacilityStaff => "facility_staff",
            Self::FacilityManager => "facility_manager",
            Self::Operator => "operator",
            Self::MunicipalAdmin => "municipal_admin",
            Self::MunicipalStaff => "municipal_staff",
            Self::ProgrammeSection => "programme_section",
            Self::AppSection => "app_section",
            Self::AccountHolder => "account_holder",
            Self::Addressees => "addressees",
            Self::Author => "author",
            Self::Asker => "asker",
        }
    }

    /// Channels such people can have at all. Letters go to the guardian only, one per household.
    pub const fn possible_channels(self) -> ChannelSet {
        use Channel::{Email, Inbox, Live, Push};
        if matches!(self, Self::Guardian) {
            ChannelSet::ALL
        } else if self.is_facility() || self.is_office() {
            ChannelSet::of(&[Live, Inbox, Email])
        } else {
            ChannelSet::of(&[Live, Inbox, Push, Email])
        }
    }
}

/// Category of the person's settings (messages.md §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// アカウント
    Account,
    /// システム
    System,
    /// クーポン・支払い
    Money,
    /// 申請
    Application,
    /// 予約・連絡
    Reservation,
    /// 登降園
    Attendance,
    /// アンケート
    Survey,
    /// お知らせ
    Notice,
    /// 一斉配信
    Broadcast,
    /// 請求・実績報告
    Claim,
}

impl Category {
    /// Every category, in the order of messages.md.
    pub const ALL: [Self; 10] = [
        Self::Account,
        Self::System,
        Self::Money,
        Self::Application,
        Self::Reservation,
        Self::Attendance,
        Self::Survey,
        Self::Notice,
        Self::Broadcast,
        Self::Claim,
    ];

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::System => "system",
            Self::Money => "money",
            Self::Application => "application",
            Self::Reservation => "reservation",
            Self::Attendance => "attendance",
            Self::Survey => "survey",
            Self::Notice => "notice",
            Self::Broadcast => "broadcast",
            Self::Claim => "claim",
        }
    }

    /// Whether a person who never chose gets this category on `channel`.
    pub const fn default_on(self, channel: Channel) -> bool {
        match channel {
            Channel::Live | Channel::Inbox | Channel::Paper => true,
            Channel::Push => !matches!(self, Self::Claim),
            Channel::Email => !matches!(self, Self::Attendance | Self::Survey | Self::Notice | Self::Broadcast),
        }
    }

    /// Whether somebody of `role` who never chose gets this category on `channel`. Households follow the
    /// category; offices have one switch for mail, which is on until they turn it off (messages.md §12).
    pub const fn on_by_default(self, role: Role, channel: Channel) -> bool {
        !role.is_household() || self.default_on(channel)
    }

    /// Whether people may switch the optional messages of this category off on `channel`. Mandatory
    /// ones arrive whatever they chose. The inbox is the record and stays on.
    pub const fn can_switch_off(self, channel: Channel) -> bool {
        match self {
            Self::Account | Self::System | Self::Application => false,
            Self::Claim => matches!(channel, Channel::Email),
            _ => matches!(channel, Channel::Push | Channel::Email),
        }
    }
}

impl std::str::FromStr for Category {
    type Err = CategoryError;
    fn from_str(raw: &str) -> Result<Self, CategoryError> {
        Self::ALL.into_iter().find(|category| category.as_str() == raw).ok_or(CategoryError)
    }
}

/// A text that names no category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such category")]
pub struct CategoryError;

/// How a person wants to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// By the app.
    App,
    /// By letter; push and e-mail are not used, the inbox of an account is.
    Paper,
    /// By both.
    Both,
}

impl Contact {
    /// From the code in the record, `app`, `paper` or `both`.
    pub fn of(contact_channel: &str) -> Self {
        match contact_channel {
            "paper" => Self::Paper,
            "both" => Self::Both,
            _ => Self::App,
        }
    }
}

/// What decides the channels of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Wish of the person.
    pub contact: Contact,
    /// Without an account only paper is left.
    pub has_account: bool,
    /// Whether a device with permission for push is known.
    pub has_push_device: bool,
    /// Whether this person did what the message tells of.
    pub is_actor: bool,
}

impl Reach {
    /// Staff of a facility, the operator or the city.
    pub const STAFF: Self = Self { contact: Contact::App, has_account: true, has_push_device: false, is_actor: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_channels() {
        let set = ChannelSet::try_from("LIX".to_owned()).unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Channel::Live, Channel::Inbox, Channel::Paper]);
        assert_eq!(set.to_string(), "LIX");
        assert_eq!(set.union(ChannelSet::of(&[Channel::Push, Channel::Email])), ChannelSet::ALL);
        assert!(set.without(Channel::Live).intersection(ChannelSet::of(&[Channel::Live])).is_empty());
        assert!(ChannelSet::try_from("Q".to_owned()).is_err());
    }

    #[test]
    fn defaults_are_those_of_section_12() {
        assert!(Category::Money.default_on(Channel::Email));
        assert!(!Category::Survey.default_on(Channel::Email));
        assert!(!Category::Claim.default_on(Channel::Push));
        assert!(!Category::Application.can_switch_off(Channel::Push));
        assert!(Category::Attendance.can_switch_off(Channel::Push));
        assert!(!Category::Attendance.can_switch_off(Channel::Inbox));
        assert!(Category::Survey.on_by_default(Role::MunicipalStaff, Channel::Email));
        assert!(!Category::Survey.on_by_default(Role::ProxyGuardian, Channel::Email));
    }
}
