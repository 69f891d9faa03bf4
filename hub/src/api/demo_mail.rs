//! The demo's mailbox: what would have been mailed, with its codes and links.

use axum::{Json, extract::State, response::Html};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_store::delivery::Delivery;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::Asked;
use crate::{problem::Problem, state::AppState};

/// Mails shown.
const SHOWN: i64 = 200;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(page)).routes(routes!(list))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Address
    to: Option<String>,
}

async fn mails(app: &AppState, to: Option<&str>) -> Result<Vec<Delivery>, Problem> {
    let mut tx = app.workflow.store().begin_read(todoke_store::Wall::None).await?;
    Ok(tx.mails(to.filter(|to| !to.is_empty()), SHOWN).await?)
}

/// The text as it would go out, with the link to its screen.
fn text(app: &AppState, mail: &Delivery) -> String {
    if mail.link.is_empty() {
        return mail.body.clone();
    }
    format!("{}\n\n詳しくは次の画面でご確認ください。\n{}{}", mail.body, app.config().public_url(), mail.link)
}

fn links(body: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '（' | '）' | '。' | '、');
    body.match_indices("http")
        .filter_map(|(at, _)| body[at..].split(ends).next())
        .filter(|link| link.contains("://"))
        .collect()
}

fn code(body: &str) -> Option<&str> {
    let digits = |word: &&str| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit());
    body.split(|c: char| !c.is_ascii_digit()).find(digits)
}

#[utoipa::path(get, path = "/demo/mail.json", tag = "demo", params(Query), responses((status = 200, description = "newest first")))]
async fn list(State(app): State<AppState>, Asked(query): Asked<Query>) -> Result<Json<Value>, Problem> {
    let mails = mails(&app, query.to.as_deref()).await?;
    let items: Vec<Value> = mails
        .iter()
        .map(|mail| {
            let body = text(&app, mail);
            let code = code(&body).filter(|_| mail.subject.contains("ワンタイムパスワード"));
            json!({
                "to": mail.target, "subject": mail.subject, "text": body, "at": mail.created_at,
                "links": links(&body), "code": code,
            })
        })
        .collect();
    Ok(Json(Value::Array(items)))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[utoipa::path(get, path = "/demo/mail", tag = "demo", params(Query), responses((status = 200, description = "the mailbox as a page")))]
async fn page(State(app): State<AppState>, Asked(query): Asked<Query>) -> Result<Html<String>, Problem> {
    let mut html = String::from(
        "<!doctype html><html lang=\"ja\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>デモのメール</title><h1>デモのメール</h1>",
    );
    for mail in mails(&app, query.to.as_deref()).await? {
        let text = text(&app, &mail);
        let mut body = escape(&text);
        for link in links(&text) {
            let link = escape(link);
            body = body.replace(&link, &format!("<a href=\"{link}\">{link}</a>"));
        }
        html.push_str(&format!(
            "<article><h2>{}</h2><p>{} ・ {}</p><pre>{body}</pre></article><hr>",
            escape(&mail.subject),
            escape(&mail.target),
            mail.created_at.jst(),
        ));
    }
    html.push_str("</html>");
    Ok(Html(html))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_links_are_found_in_japanese_text() {
        assert_eq!(code("ワンタイムパスワードは 012345 です。10分以内に"), Some("012345"));
        let body = "次のリンクを開いてください。http://127.0.0.1:1/register/confirm?token=a-b_c（60分間有効）";
        assert_eq!(links(body), vec!["http://127.0.0.1:1/register/confirm?token=a-b_c"]);
    }
}
