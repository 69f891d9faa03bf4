//! What the city asks the operator to do (flows F06 and F07): asked once, then carried out, declined or taken back.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// 決定の取消: the approval or rejection of a coupon application is taken back.
    RevokeDecision,
    /// 利用停止
    Suspend,
    /// 利用停止の解除
    Resume,
}

impl RequestKind {
    const ALL: [Self; 3] = [Self::RevokeDecision, Self::Suspend, Self::Resume];

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RevokeDecision => "revoke_decision",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }

    /// The label people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RevokeDecision => "決定の取消",
            Self::Suspend => "利用停止",
            Self::Resume => "利用停止の解除",
        }
    }

    /// From the code.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == raw)
    }
}

/// State of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestState {
    /// 依頼中
    Open,
    /// 対応済
    Executed,
    /// 差戻し
    Declined,
    /// 取下げ
    Withdrawn,
}

/// What settles a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestEvent {
    /// The operator did it.
    Execute,
    /// The operator gives it back with a reason.
    Decline,
    /// The city takes it back.
    Withdraw,
}

impl RequestState {
    const ALL: [Self; 4] = [Self::Open, Self::Executed, Self::Declined, Self::Withdrawn];

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Executed => "executed",
            Self::Declined => "declined",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The label people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "依頼中",
            Self::Executed => "対応済",
            Self::Declined => "差戻し",
            Self::Withdrawn => "取下げ",
        }
    }

    /// From the code.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == raw)
    }

    /// The next state; `None` when the request was settled before.
    pub const fn on(self, event: RequestEvent) -> Option<Self> {
        match (self, event) {
            (Self::Open, RequestEvent::Execute) => Some(Self::Executed),
            (Self::Open, RequestEvent::Decline) => Some(Self::Declined),
            (Self::Open, RequestEvent::Withdraw) => Some(Self::Withdrawn),
            (Self::Executed | Self::Declined | Self::Withdrawn, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_settled_once() {
        let events = [RequestEvent::Execute, RequestEvent::Decline, RequestEvent::Withdraw];
        for event in events {
            let settled = RequestState::Open.on(event).unwrap();
            assert_ne!(settled, RequestState::Open);
            assert!(events.iter().all(|again| settled.on(*again).is_none()), "{settled:?}");
        }
    }

    #[test]
    fn codes_go_both_ways() {
        assert!(RequestKind::ALL.iter().all(|kind| RequestKind::parse(kind.as_str()) == Some(*kind)));
        assert!(RequestState::ALL.iter().all(|state| RequestState::parse(state.as_str()) == Some(*state)));
        assert_eq!(RequestState::parse("done"), None);
    }
}
