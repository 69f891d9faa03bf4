//! Delivery through the real binary: a mail over SMTP with its one-tap link, devices, receipts, the operator's view.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use todoke_tests::{
    http::Client,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    entrance::accesses,
    scene::{Scene, inbox, text},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A mail server that takes everything and keeps it. It speaks as much of RFC 5321 as a sender needs.
pub(crate) struct MailBox {
    pub(crate) url: String,
    mails: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl MailBox {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let mails: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = mails.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(converse(socket, kept.clone()));
            }
        });
        Self { url, mails, _tasks: tasks }
    }

    /// The first mail in which `needle` stands.
    pub(crate) async fn wait_for(&self, needle: &str) -> String {
        eventually(needle, LIMIT, async || {
            let mails = self.mails.lock().unwrap();
            mails.iter().find(|mail| mail.contains(needle)).cloned()
        })
        .await
    }
}

async fn converse(socket: TcpStream, mails: Arc<Mutex<Vec<String>>>) {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    if write.write_all(b"220 test\r\n").await.is_err() {
        return;
    }
    let mut mail: Option<String> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match &mut mail {
            Some(text) if line == "." => {
                mails.lock().unwrap().push(std::mem::take(text));
                mail = None;
                "250 taken\r\n"
            }
            Some(text) => {
                text.push_str(&line);
                text.push('\n');
                continue;
            }
            None => match line.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "EHLO" => "250-test\r\n250 8BITMIME\r\n",
                "DATA" => {
                    mail = Some(String::new());
                    "354 go on\r\n"
                }
                "QUIT" => "221 bye\r\n",
                _ => "250 ok\r\n",
            },
        };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The hexadecimal digits after `marker` in a text.
pub(crate) fn token_after(text: &str, marker: &str) -> String {
    let rest = text.split(marker).nth(1).unwrap_or_else(|| panic!("no {marker} in {text}"));
    rest.chars().take_while(char::is_ascii_hexdigit).collect()
}

/// The decoded part of a mail with a content type.
pub(crate) fn part(mail: &str, kind: &str) -> String {
    let rest = mail.split("boundary=").nth(1).expect("a mail in parts").trim_start_matches('"');
    let boundary = rest.split(['"', ';', '\n']).next().unwrap_or_default();
    let separator = format!("--{boundary}");
    let mut parts = mail.split(separator.as_str()).filter_map(|part| part.trim_start().split_once("\n\n"));
    let (head, body) = parts.find(|(head, _)| head.contains(kind)).unwrap_or_else(|| panic!("no {kind} in {mail}"));
    let head = head.to_ascii_lowercase();
    if head.contains("base64") {
        decode_base64(body)
    } else if head.contains("quoted-printable") {
        decode_quoted(body)
    } else {
        body.to_owned()
    }
}

fn decode_base64(body: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let joined: String = body.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(joined).unwrap()).unwrap()
}

fn decode_quoted(body: &str) -> String {
    let mut bytes = Vec::new();
    let mut pieces = body.split('=');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        match piece.strip_prefix('\n') {
            Some(rest) => bytes.extend_from_slice(rest.as_bytes()),
            None => {
                bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_mailed_and_its_link_leads_to_the_message_which_a_page_reads() {
    let server = MailBox::open().await;
    let settings = [
        ("TODOKE_MAIL__SMTP_URL", server.url.clone()),
        ("TODOKE_MAIL__FROM", "Todoke <noreply@todoke.test>".to_owned()),
        ("TODOKE_BOUNCE__SECRET", "hush".to_owned()),
    ];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let scene = Scene::of(&todoke).await;
    let used = scene.pay("mail-1", 300).await.expect(201);
    let use_id = text(&used, "use_id");
    let about = |message: &Value| message["subject"]["id"] == use_id.as_str();
    let message = inbox(&scene.guardian).await.into_iter().find(about).expect("the message of the use");
    let id = text(&message, "message_id");
    let mail = server.wait_for(&id).await;
    let (words, page) = (part(&mail, "text/plain"), part(&mail, "text/html"));
    let token = token_after(&words, "/m/");
    assert!(page.contains("<html lang=\"ja\">") && page.contains("画面を開く"), "{page}");
    assert_eq!(token_after(&page, "/m/"), token, "the page leads where the text does");
    for line in words.lines().filter(|line| !line.is_empty()) {
        assert!(page.contains(line.trim()), "{line} is missing in {page}");
    }

    let open = todoke.client();
    let answer = open.get(&format!("/m/{token}")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (303, "no-store"));
    let screen = answer.header("location");
    assert!(screen.starts_with("/coupons/") && screen.ends_with(&format!("?mailed={id}")), "{screen}");
    let is_read = async || inbox(&scene.guardian).await.into_iter().find(about).unwrap()["read_at"].is_string();
    assert!(!is_read().await, "a filter that fetches links has read nothing");
    let read = format!("/v1/inbox/{id}/read");
    assert_eq!(scene.staff.post(&read, &json!({})).await.status, 404, "nor has somebody else");
    scene.guardian.post(&read, &json!({})).await.expect(200);
    assert!(is_read().await, "the page that it leads to has");
    assert_eq!(open.get("/m/nonsense").await.header("location"), "/");
    let sender = open.get("/v1/mail/sender").await.expect(200);
    assert_eq!(sender["domain"], "todoke.test", "what people must let in");

    let operator = todoke.sign_in("operator").await;
    let life = operator.get(&format!("/v1/messages/{id}/deliveries")).await.expect(200);
    assert_eq!(life["deliveries"][0]["state"], "opened");
    assert_eq!(life["deliveries"][0]["channel"], "email");
    assert!(!life.to_string().contains("@demo"), "no address in the operator's view: {life}");
    let funnel = operator.get("/v1/deliveries/funnel").await.expect(200);
    let row = funnel["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["type"] == "coupon.used" && row["channel"] == "email");
    assert!(row.expect("a line for the mails")["opened"].as_i64() >= Some(1));
    assert_eq!(scene.guardian.get("/v1/deliveries/unreached").await.status, 403);
    operator.get("/v1/deliveries/unreached").await.expect(200);

    let bounce = json!({ "message_id": format!("<{id}@todoke.test>"), "permanent": true, "code": "5.1.1" });
    assert_eq!(open.post("/v1/mail/bounces", &bounce).await.status, 401);
    let told = open.with_header("authorization", "Bearer hush").post("/v1/mail/bounces", &bounce).await.expect(200);
    assert_eq!(told["failed"], 0, "what was opened has arrived");
    todoke.stop().await;
}

/// Sends a broadcast to who is interested in health, and gives its id once it is out.
async fn tell_of_health(operator: &Client, title: &str) -> String {
    let draft = json!({
        "kind": "segment", "title": title, "body": "11月から始まります。", "email": true,
        "segment": { "people": "households", "when": { "kind": "topic", "topics": ["health"] } },
    });
    let id = text(&operator.post("/v1/broadcasts", &draft).await.expect(201), "broadcast_id");
    operator.post(&format!("/v1/broadcasts/{id}/submit"), &json!({})).await.expect(200);
    eventually("the broadcast is sent", 3 * LIMIT, async || {
        let sent = operator.get(&format!("/v1/broadcasts/{id}")).await.expect(200);
        (sent["state"] == "sent").then_some(())
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_click_in_a_mail_program_ends_mails_of_its_kind_and_looking_does_not() {
    let server = MailBox::open().await;
    let settings = [
        ("TODOKE_MAIL__SMTP_URL", server.url.clone()),
        ("TODOKE_MAIL__FROM", "Todoke <noreply@todoke.test>".to_owned()),
    ];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let (guardian, operator) = (todoke.sign_in("guardian").await, todoke.sign_in("operator").await);
    guardian.put("/v1/me/topics", &json!({ "topics": ["health"] })).await.expect(204);
    let on = json!({ "items": [{ "category": "broadcast", "channel": "email", "enabled": true }] });
    guardian.put("/v1/me/preferences", &on).await.expect(204);
    let wants_mail = async || {
        let all = guardian.get("/v1/me/preferences").await.expect(200);
        let is_it = |item: &&Value| item["category"] == "broadcast" && item["channel"] == "email";
        all["items"].as_array().unwrap().iter().find(is_it).expect("the switch")["enabled"].clone()
    };
    let channels = async |broadcast: &str| {
        let about = |message: &Value| message["subject"]["id"] == broadcast;
        let message = inbox(&guardian).await.into_iter().find(about).expect("it is in the inbox");
        let id = text(&message, "message_id");
        let life = operator.get(&format!("/v1/messages/{id}/deliveries")).await.expect(200);
        let channels = life["deliveries"].as_array().unwrap().iter().map(|row| text(row, "channel"));
        (id, channels.collect::<Vec<_>>())
    };

    let first = tell_of_health(&operator, "予防接種のお知らせ").await;
    let (id, by) = channels(first.as_str()).await;
    assert!(by.iter().any(|channel| channel == "email"), "{by:?}");
    let mail = server.wait_for(&id).await;
    assert!(mail.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click"), "{mail}");
    let path = format!("/v1/unsubscribe/{}", token_after(&mail, "/v1/unsubscribe/"));
    let program = todoke.client();
    let page = program.get(&path).await;
    assert!(page.status == 200 && page.text().contains("メールを停止する"));
    assert_eq!(wants_mail().await, true, "looking at the page changes nothing");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let clicked = program.request("POST", &path, &form, "List-Unsubscribe=One-Click").await;
    assert_eq!(clicked.status, 200, "{}", clicked.text());
    assert_eq!(wants_mail().await, false);
    let second = tell_of_health(&operator, "健診のお知らせ").await;
    let (_, by) = channels(second.as_str()).await;
    assert!(by.iter().all(|channel| channel != "email"), "in the inbox only: {by:?}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_registered_listed_tried_out_and_removed() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let guardian = todoke.sign_in("guardian").await;
    let id = "0190a5b1-0000-7000-8000-000000000001";
    let device = json!({ "kind": "fcm", "token": "token-1", "permission": "granted", "platform": "android" });
    let put = guardian.put(&format!("/v1/devices/{id}"), &device).await.expect(200);
    assert_eq!((&put["language"], &put["kind"]), (&Value::Null, &json!("fcm")), "in the language of its person");
    assert!(!put.to_string().contains("token-1"), "the token is nobody's to read: {put}");
    let wrong = json!({ "kind": "webpush", "endpoint": "https://push.example/1", "permission": "granted" });
    assert_eq!(guardian.put(&format!("/v1/devices/{id}"), &wrong).await.status, 422, "a subscription has keys");
    assert_eq!(guardian.get("/v1/devices").await.expect(200)["items"].as_array().unwrap().len(), 1);
    guardian.post(&format!("/v1/devices/{id}/test"), &json!({})).await.expect(202);
    let staff = todoke.sign_in("facility_staff").await;
    assert_eq!(staff.post(&format!("/v1/devices/{id}/test"), &json!({})).await.status, 404);
    assert_eq!(staff.put(&format!("/v1/devices/{id}"), &device).await.status, 403);
    guardian.delete(&format!("/v1/devices/{id}")).await.expect(204);
    assert!(guardian.get("/v1/devices").await.expect(200)["items"].as_array().unwrap().is_empty());

    let open = todoke.client();
    assert_eq!(open.get("/v1/push/web-key").await.status, 404, "no key is set");
    assert_eq!(open.get("/v1/mail/sender").await.expect(200), json!({ "domain": null }), "no mail is sent");
    let unknown = json!({ "receipts": [{ "receipt": "0".repeat(48), "kind": "opened" }] });
    assert_eq!(open.post("/v1/receipts", &unknown).await.expect(200)["changed"], 0);
    let page = open.get(&format!("/v1/unsubscribe/{}", "0".repeat(48))).await;
    assert!(page.status == 200 && page.text().contains("メールを停止する"));
    assert_eq!(open.post(&format!("/v1/unsubscribe/{}", "0".repeat(48)), &json!({})).await.status, 404);
    let figures = open.get("/metrics").await.text();
    assert!(figures.contains("todoke_delivery_queue{provider=\"smtp\"}"), "{figures}");
    todoke.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_arrived_is_found_and_changed_and_the_audit_says_by_whom() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let scene = Scene::of(&todoke).await;
    let (operator, city) = (todoke.sign_in("operator").await, todoke.sign_in("municipal_admin").await);
    for key in ["found-1", "found-2"] {
        scene.pay(key, 100).await.expect(201);
    }
    let no = text(&scene.guardian.get("/v1/me").await.expect(200), "guardian_no");
    let search = format!("/v1/messages?q={no}&type=coupon.used&limit=1");
    let first = operator.get(&search).await.expect(200);
    let next = operator.get(&format!("{search}&cursor={}", text(&first, "next"))).await.expect(200);
    let id = text(&first["items"][0], "message_id");
    assert!(id > text(&next["items"][0], "message_id"), "the newest first, each once");
    assert_eq!((&first["items"][0]["guardian_no"], &first["items"][0]["type"]), (&json!(no), &json!("coupon.used")));
    assert!(!first.to_string().contains("body"), "a list shows no texts: {first}");
    assert_eq!(scene.guardian.get(&search).await.status, 403);
    let neighbour = todoke.sign_in("neighbour_operator").await;
    let theirs = neighbour.get(&format!("/v1/messages?q={no}&type=coupon.used")).await.expect(200);
    assert!(!theirs.to_string().contains(&id), "{theirs}");
    assert_eq!(operator.get("/v1/messages?from=2026-01-01&to=2025-01-01").await.status, 422);
    assert_eq!(operator.get("/v1/messages?cursor=x").await.status, 422);

    operator.get(&format!("/v1/messages/{id}/deliveries")).await.expect(200);
    operator.get("/v1/deliveries/funnel").await.expect(200);
    let words = json!({ "title": "訂正", "body": "訂正します。" });
    operator.post(&format!("/v1/messages/{id}/correct"), &words).await.expect(204);
    operator.post(&format!("/v1/messages/{id}/withdraw"), &json!({})).await.expect(204);
    let found = operator.get(&search).await.expect(200);
    assert!(found["items"][0]["corrected_at"].is_string() && found["items"][0]["withdrawn_at"].is_string(), "{found}");

    let now = text(&city.get("/v1/session").await.expect(200), "server_time");
    let today = now.parse::<todoke_domain::Timestamp>().unwrap().jst_date();
    let report = format!("/v1/reports/access_audit?from={today}&to={}", today.tomorrow().unwrap());
    let wanted = [("view", "message"), ("view", "message_funnel"), ("correct", "message"), ("withdraw", "message")];
    eventually("the accesses are in the report", Duration::from_secs(60), async || {
        let seen = accesses(&city.get(&report).await.expect(200));
        let has = |what: &str, object: &str| {
            seen.iter().any(|(action, on, _)| (action.as_str(), on.as_str()) == (what, object))
        };
        wanted.iter().all(|&(what, object)| has(what, object)).then_some(())
    })
    .await;
    let rows = city.get(&format!("{report}&rows=true")).await.expect(200);
    let names_it = |row: &&Value| row.to_string().contains(&id);
    assert_eq!(rows["rows"].as_array().unwrap().iter().filter(names_it).count(), 2, "which message, for both");
    todoke.stop().await;
}
