//! Errors as clients see them: RFC 9457 problem documents with a stable `type` and Japanese `detail`.

use axum::{
    Json,
    extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use todoke_analytics::{ErrorKind, ReportError, SqlError};
use todoke_domain::Yen;
use todoke_ingest::IngestError;
use todoke_store::StoreError;
use todoke_workflow::{FieldError, WorkflowError, error::SignInError};

use crate::{
    bodies::Full,
    error_page::Told,
    quarantine::{KeepError, ReplayError},
};

/// A problem document under construction.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem with its status, the last part of its type URI, and an English title.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str) -> Self {
        Self { status, kind, title, detail: String::new(), members: Map::new(), retry_after_s: None }
    }

    /// What a person should know, in Japanese.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// A further member of the document.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Seconds after which a retry is worth it.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A fault of ours: the chain goes to the log, the client gets only the request id.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            chain.push_str(": ");
            chain.push_str(&next.to_string());
            cause = next.source();
        }
        tracing::error!(error = chain, "request failed");
        Self::fault()
    }

    /// A fault of ours, without its cause.
    pub fn fault() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
            .detail("申し訳ありません。処理中に問題が発生しました。時間をおいてもう一度お試しください。")
    }

    /// No or no valid sign-in.
    pub fn signed_out() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "signed-out", "Not signed in").detail("ログインしてください。")
    }

    /// The role may not do this.
    pub fn denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", "Not allowed").detail("この画面を表示する権限がありません。")
    }

    /// The terms of use and the privacy policy in force are not accepted yet.
    pub fn terms_required() -> Self {
        Self::new(StatusCode::FORBIDDEN, "terms-required", "Terms not accepted")
            .detail("利用規約とプライバシーポリシーへの同意が必要です。内容を確認し、同意してからご利用ください。")
    }

    /// There is no such thing, or not for this caller.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found").detail("対象が見つかりません。").member("what", what)
    }

    /// Fields to correct.
    pub fn invalid(errors: &[FieldError]) -> Self {
        let errors: Vec<Value> = errors.iter().map(|e| json!({ "field": e.field, "detail": e.detail })).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid input")
            .detail("入力内容を確認してください。")
            .member("errors", errors)
    }

    /// One field to correct.
    pub fn invalid_field(field: &str, detail: &str) -> Self {
        Self::invalid(&[FieldError::new(field, detail)])
    }

    /// Too many attempts.
    pub fn rate_limited(retry_after_s: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Rate limited")
            .detail("操作が続いたため、しばらく受け付けられません。時間をおいてもう一度お試しください。")
            .retry_after(retry_after_s)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let told = Told { detail: self.detail, request_id: crate::telemetry::request_id() };
        let mut body = self.members;
        body.insert("type".to_owned(), json!(format!("/problems/{}", self.kind)));
        body.insert("title".to_owned(), json!(self.title));
        body.insert("status".to_owned(), json!(self.status.as_u16()));
        body.insert("detail".to_owned(), json!(told.detail));
        body.insert("request_id".to_owned(), json!(told.request_id));
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(told);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<WorkflowError> for Problem {
    fn from(error: WorkflowError) -> Self {
        match error {
            WorkflowError::NotFound(what) => Self::not_found(what),
            WorkflowError::Denied => Self::denied(),
            WorkflowError::Conflict(detail) => Self::new(StatusCode::CONFLICT, "conflict", "Conflict").detail(detail),
            WorkflowError::Stale => Self::new(StatusCode::CONFLICT, "stale", "Changed meanwhile").detail(
                "ほかの画面または担当者が先に変更しました。最新の内容を読み込んで確認し、もう一度保存してください。",
            ),
            WorkflowError::Invalid(errors) => Self::invalid(&errors),
            WorkflowError::UseRefused { reason, balance } => {
                Self::new(StatusCode::CONFLICT, "use-refused", "Coupon use refused")
                    .detail(format!("利用できませんでした。理由：{}", reason.text()))
                    .member("reason_code", reason.as_str())
                    .member("balance_yen", balance.map(Yen::get))
            }
            WorkflowError::SignIn(error) => error.into(),
            WorkflowError::RateLimited { retry_after_s } => Self::rate_limited(retry_after_s),
            WorkflowError::Message(_) | WorkflowError::Event(_) | WorkflowError::Internal(_) => Self::internal(&error),
            WorkflowError::Store(error) => error.into(),
        }
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let refused = |kind, detail: &str| Self::new(StatusCode::UNAUTHORIZED, kind, "Sign-in failed").detail(detail);
        match error {
            SignInError::Credentials => refused("credentials", "メールアドレスまたはパスワードが正しくありません。"),
            SignInError::Code => refused("code", "ワンタイムパスワードが正しくありません。"),
            SignInError::CodeSpent => refused(
                "code-spent",
                "ワンタイムパスワードの期限が切れたか、入力回数を超えました。もう一度ログインしてください。",
            ),
            SignInError::NotYet(from) => {
                let day = todoke_domain::catalogue::format::day(from);
                refused("not-yet", &format!("アカウントの利用開始日（{day}）より前のため、ログインできません。"))
            }
            SignInError::Session => Self::signed_out(),
            SignInError::Link => Self::new(StatusCode::GONE, "link-spent", "Link used or expired")
                .detail("このリンクは使用済みか、有効期限が切れています。もう一度お手続きください。"),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy")
                .detail("ただいま一時的にご利用いただけません。しばらくお待ちください。")
                .retry_after(1),
            StoreError::Conflict { .. } => Self::new(StatusCode::CONFLICT, "conflict", "Conflict")
                .detail("ほかの操作と重なりました。画面を確認して、もう一度お試しください。"),
            StoreError::Database(_) | StoreError::Migrate(_) | StoreError::Corrupt { .. } => Self::internal(&error),
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Busy { retry_after_s } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy")
                .detail("ただいま一時的にご利用いただけません。しばらくお待ちください。")
                .retry_after(retry_after_s),
            IngestError::NotABatch { reason } => Self::new(StatusCode::BAD_REQUEST, "bad-batch", "Bad batch")
                .detail("送信されたデータを読み取れません。")
                .member("cause", reason),
            IngestError::TooManyBad { n_max } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many-bad", "Too many bad events")
                    .detail("取り込めない記録が多すぎるため、全体を受け付けませんでした。内容を確認するか、分けて送信してください。")
                    .member("bad_max", n_max)
            }
            IngestError::TooLong { bytes_max } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large")
                .detail("送信できる大きさを超えています。")
                .member("bytes_max", bytes_max),
            IngestError::DiskFull => Self::new(StatusCode::SERVICE_UNAVAILABLE, "disk-full", "Disk full")
                .detail("ただいま一時的にご利用いただけません。しばらくお待ちください。")
                .retry_after(60),
            IngestError::LogInUse { .. }
            | IngestError::Damaged { .. }
            | IngestError::Incomplete { .. }
            | IngestError::Newer { .. }
            | IngestError::Unknown(_)
            | IngestError::Log { .. }
            | IngestError::Closed
            | IngestError::Lake(_)
            | IngestError::Feed(_) => Self::internal(&error),
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::All => IngestError::Busy { retry_after_s: 1 }.into(),
            Full::Account => Self::rate_limited(1),
        }
    }
}

impl From<KeepError> for Problem {
    fn from(error: KeepError) -> Self {
        let full = |status, retry_after_s| {
            Self::new(status, "quarantine-full", "Quarantine full")
                .detail("取り込めなかった記録が保留の上限に達しています。運営担当者が確認した後に、もう一度送信してください。")
                .retry_after(retry_after_s)
        };
        match error {
            KeepError::Store(error) => error.into(),
            KeepError::SenderFull { retry_after_s } => full(StatusCode::TOO_MANY_REQUESTS, retry_after_s),
            KeepError::MunicipalityFull { retry_after_s } => full(StatusCode::SERVICE_UNAVAILABLE, retry_after_s),
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Store(error) => error.into(),
            ReplayError::Log(error) => error.into(),
        }
    }
}

fn analytics(kind: ErrorKind, detail: String, error: &(dyn std::error::Error + 'static)) -> Problem {
    match kind {
        ErrorKind::BadRequest => Problem::new(StatusCode::BAD_REQUEST, "bad-query", "Bad query").detail(detail),
        ErrorKind::Conflict => Problem::new(StatusCode::CONFLICT, "check-failed", "Check failed").detail(detail),
        ErrorKind::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large").detail(detail),
        ErrorKind::Timeout => Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "Timeout").detail(detail),
        ErrorKind::Internal => Problem::internal(error),
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        analytics(error.kind(), error.detail_ja(), &error)
    }
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        analytics(error.kind(), error.detail_ja(), &error)
    }
}

fn bad_request(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request")
        .detail("送信された内容の形式が正しくありません。")
        .member("cause", detail)
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::BytesRejection(inner) => inner.into(),
            other => bad_request(other.body_text()),
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large")
                .detail("送信できる大きさを超えています。")
        } else {
            bad_request(rejection.body_text())
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        bad_request(rejection.body_text())
    }
}
