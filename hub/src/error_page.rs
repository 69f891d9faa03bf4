//! Refusals and faults for somebody who opened an address in a browser: a page with the text and the number of the
//! problem document that a program gets (screens.md §7).

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// The words of a problem on its way out.
#[derive(Debug, Clone)]
pub struct Told {
    /// What a person should know.
    pub detail: String,
    /// The number to name when asking; empty outside a request.
    pub request_id: String,
}

/// Answers with a page instead of a problem document where the request asks for one. Our own pages ask for JSON.
pub async fn for_people(request: Request, next: Next) -> Response {
    let is_wanted = wants_page(request.headers());
    let response = next.run(request).await;
    let told = response.extensions().get::<Told>().filter(|_| is_wanted).cloned();
    match told {
        Some(told) => page(&response, &told),
        None => response,
    }
}

fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|list| list.contains("text/html"))
}

fn page(problem: &Response, told: &Told) -> Response {
    let status = problem.status();
    let number = if told.request_id.is_empty() {
        String::new()
    } else {
        format!("<p>お問い合わせの際は、次の番号をお伝えください。<br>番号 {}</p>", escaped(&told.request_id))
    };
    let page = format!(
        "<!doctype html><html lang=\"ja\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><link rel=\"stylesheet\" href=\"/error.css\"><main><h1>{title}</h1><p>{detail}</p>{number}</main></html>",
        title = title(status),
        detail = escaped(&told.detail),
    );
    let mut answer = (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    if let Some(wait) = problem.headers().get(header::RETRY_AFTER) {
        answer.headers_mut().insert(header::RETRY_AFTER, wait.clone());
    }
    answer
}

fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "ログインが必要です",
        403 => "表示できません",
        404 | 410 => "見つかりません",
        502..=504 => "ただいまご利用いただけません",
        500..=599 => "問題が発生しました",
        _ => "受け付けられませんでした",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use todoke_workflow::WorkflowError;

    use super::*;
    use crate::problem::Problem;

    fn page_of(problem: Problem, request_id: &str) -> Response {
        let response = problem.into_response();
        let told = response.extensions().get::<Told>().unwrap().clone();
        page(&response, &Told { request_id: request_id.to_owned(), ..told })
    }

    async fn text(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_page_has_the_status_the_text_and_the_number() {
        let busy = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy")
            .detail("ただいま一時的にご利用いただけません。しばらくお待ちください。")
            .retry_after(7);
        let answer = page_of(busy, "0190-abcd");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "7");
        let text = text(answer).await;
        assert!(text.contains("ただいま一時的にご利用いただけません。") && text.contains("番号 0190-abcd"), "{text}");
    }

    #[tokio::test]
    async fn a_fault_shows_no_cause_and_texts_are_no_markup() {
        let fault = Problem::from(WorkflowError::Internal("the cause"));
        assert!(!text(page_of(fault, "0190-abcd")).await.contains("the cause"));
        let conflict = Problem::from(WorkflowError::Conflict("<b>\"&\"</b>".to_owned()));
        let text = text(page_of(conflict, "")).await;
        assert!(text.contains("&lt;b&gt;&quot;&amp;&quot;&lt;/b&gt;") && !text.contains("<b>"), "{text}");
    }

    #[test]
    fn only_who_asks_for_a_page_gets_one() {
        let asked = |accept: &'static str| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        assert!(wants_page(&asked("text/html,application/xhtml+xml,*/*;q=0.8")));
        assert!(!wants_page(&asked("application/json")) && !wants_page(&asked("*/*")));
        assert!(!wants_page(&HeaderMap::new()));
    }
}
