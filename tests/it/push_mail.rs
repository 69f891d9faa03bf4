//! Mail through a real server process, read by Python's own parser.

use std::collections::BTreeSet;

use todoke_notifier::{
    Address, Channel, Kind, Outcome, Outgoing,
    mail::{Mail, MailSettings},
};
use todoke_tests::{
    mail_server::{MailServer, Security},
    standin::Identity,
};

use crate::push_message::{NOW, message};

fn settings(server: &MailServer, url: &str) -> MailSettings {
    MailSettings {
        smtp_url: url.replace("PORT", &server.port.to_string()),
        from: "届け <noreply@todoke.example.jp>".to_owned(),
        extra_roots_pem: server.roots_pem.clone(),
        answer_timeout_ms: 5_000,
        ..MailSettings::default()
    }
}

fn to(address: &str) -> Outgoing {
    message(Address::Email { address: address.to_owned() })
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { .. })
}

#[tokio::test]
async fn a_mail_reads_right_in_another_parser() {
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    let outgoing = Outgoing {
        title: "【Todoke】令和8年度クーポン配付のお知らせ（髙橋さま・﨑山さま・保護者のみなさまへ）と長い件名の続きと絵文字📨".to_owned(),
        body: format!("{}\n.\n..ドットで始まる行\n1,200円〜、①㈱", "改行のない長い本文です。".repeat(200)),
        unsubscribe: Some("https://todoke.example.jp/v1/unsubscribe/token".to_owned()),
        ..to("guardian@example.jp")
    };
    let outcome = mail.send(&outgoing, NOW).await;
    assert!(is_accepted(&outcome), "{outcome:?}");
    let seen = server.next().await;
    assert_eq!((seen.from.as_str(), seen.to), ("noreply@todoke.example.jp", vec!["guardian@example.jp".to_owned()]));
    let header = |name: &str| seen.headers.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    assert_eq!(header("subject"), outgoing.title);
    assert_eq!(header("from"), "届け <noreply@todoke.example.jp>");
    assert_eq!(header("message-id"), format!("<{}@todoke.example.jp>", outgoing.message_id));
    assert_eq!(header("auto-submitted"), "auto-generated");
    assert_eq!(header("list-unsubscribe"), "<https://todoke.example.jp/v1/unsubscribe/token>");
    assert_eq!(header("list-unsubscribe-post"), "List-Unsubscribe=One-Click");
    assert_eq!(header("date"), "Sat, 21 Nov 2026 06:00:00 +0000");
    assert!(header("content-type").starts_with("multipart/alternative"), "{}", header("content-type"));
    let text = seen.parts["text/plain"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(text.trim_end(), format!("{}\n\n{}", outgoing.body, outgoing.link));
    let page = seen.parts["text/html"].as_str().unwrap().replace("\r\n", "\n");
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"ja\">"), "{page}");
    assert!(page.contains(&format!("<title>{}</title>", outgoing.title)), "{page}");
    let words =
        format!("<p>{}<br>\n.<br>\n..ドットで始まる行<br>\n1,200円〜、①㈱</p>", "改行のない長い本文です。".repeat(200));
    assert!(page.contains(&words), "{page}");
    assert!(page.contains(&format!("<a href=\"{}\" style=", outgoing.link)), "{page}");
    assert!(seen.longest_line <= 998 && seen.ascii, "{} bytes in a line", seen.longest_line);
    assert_eq!(seen.defects, Vec::<String>::new());
}

#[tokio::test]
async fn mandatory_mails_offer_no_way_out_and_headers_cannot_be_added() {
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    let outgoing = Outgoing {
        title: "件名\r\nBcc: other@example.jp".to_owned(),
        from: Some("ひまわり市 <kosodate@himawari.example.jp>".to_owned()),
        ..to("guardian@example.jp")
    };
    assert!(is_accepted(&mail.send(&outgoing, NOW).await));
    let seen = server.next().await;
    assert!(!seen.headers.contains_key("list-unsubscribe") && !seen.headers.contains_key("bcc"));
    assert_eq!(seen.from, "kosodate@himawari.example.jp");
    assert_eq!(seen.headers["message-id"], format!("<{}@himawari.example.jp>", outgoing.message_id));
    assert_eq!(seen.headers["content-type"].as_str().unwrap().split(';').next(), Some("multipart/alternative"));
}

#[tokio::test]
async fn words_are_no_markup_in_the_page_of_a_mail() {
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    let outgoing = Outgoing {
        title: "親子教室 <A&B>".to_owned(),
        body: "持ち物: タオル & 水筒\n<script src=\"https://elsewhere.example/x.js\"></script>".to_owned(),
        link: String::new(),
        ..to("guardian@example.jp")
    };
    assert!(is_accepted(&mail.send(&outgoing, NOW).await));
    let seen = server.next().await;
    let part = |kind: &str| seen.parts[kind].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(part("text/plain").trim_end(), outgoing.body);
    let page = part("text/html");
    assert!(page.contains("<title>親子教室 &lt;A&amp;B&gt;</title>"), "{page}");
    assert!(page.contains("持ち物: タオル &amp; 水筒<br>\n&lt;script src=&quot;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("src=\""), "{page}");
}

#[tokio::test]
async fn addresses_that_mobile_carriers_gave_out_get_their_mail() {
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    for (address, written) in [
        ("taro.@docomo.ne.jp", "\"taro.\"@docomo.ne.jp"),
        ("a..b@ezweb.ne.jp", "\"a..b\"@ezweb.ne.jp"),
        ("taro.b@example.jp", "taro.b@example.jp"),
    ] {
        let outcome = mail.send(&to(address), NOW).await;
        assert!(is_accepted(&outcome), "{address}: {outcome:?}");
        let seen = server.next().await;
        assert_eq!(seen.to, [address]);
        assert_eq!(seen.written_to, [format!("TO:<{written}>"), written.to_owned()]);
    }
}

#[tokio::test]
async fn the_connection_is_secured_and_signed_in_as_configured() {
    for (security, url, tls) in [
        (Security::StartTls, "smtp://sender:p%40ss@localhost:PORT?tls=required", true),
        (Security::StartTls, "smtp://sender:p%40ss@localhost:PORT?tls=opportunistic", true),
        (Security::Tls, "smtps://sender:p%40ss@localhost:PORT", true),
        (Security::None, "smtp://sender:p%40ss@localhost:PORT", false),
    ] {
        let mut server = MailServer::start(security, Some(("sender", "p@ss"))).await;
        let mail = Mail::new(&settings(&server, url)).unwrap();
        let outcome = mail.send(&to("guardian@example.jp"), NOW).await;
        assert!(is_accepted(&outcome), "{url}: {outcome:?}");
        let seen = server.next().await;
        assert_eq!((seen.tls, seen.user.as_deref()), (tls, Some("sender")), "{url}");
    }
}

#[tokio::test]
async fn nothing_is_sent_where_the_server_is_not_who_it_should_be() {
    let server = MailServer::start(Security::StartTls, Some(("sender", "p@ss"))).await;
    let later = |code| Outcome::Later { code, after: None };
    let url = "smtp://sender:p%40ss@localhost:PORT?tls=required";
    let stranger =
        MailSettings { extra_roots_pem: Identity::localhost().roots_pem().to_owned(), ..settings(&server, url) };
    let unchecked = Mail::new(&stranger).unwrap().send(&to("guardian@example.jp"), NOW).await;
    assert!(matches!(unchecked, Outcome::Later { .. }), "{unchecked:?}");
    let wrong = settings(&server, "smtp://sender:wrong@localhost:PORT?tls=required");
    assert_eq!(Mail::new(&wrong).unwrap().send(&to("guardian@example.jp"), NOW).await, later("auth_refused"));
    let plain = MailServer::start(Security::None, None).await;
    let required = settings(&plain, "smtp://localhost:PORT?tls=required");
    assert_eq!(Mail::new(&required).unwrap().send(&to("guardian@example.jp"), NOW).await, later("no_starttls"));
    let nobody =
        MailSettings { smtp_url: "smtp://localhost:1".to_owned(), ..settings(&plain, "smtp://localhost:PORT") };
    assert_eq!(Mail::new(&nobody).unwrap().send(&to("guardian@example.jp"), NOW).await, later("unreachable"));
}

#[tokio::test]
async fn every_refusal_is_understood_and_the_connection_stays() {
    let mut server = MailServer::start(Security::None, None).await;
    let settings = MailSettings { connections_max: 1, ..settings(&server, "smtp://localhost:PORT") };
    let mail = Mail::new(&settings).unwrap();
    let later = |code| Outcome::Later { code, after: None };
    assert!(is_accepted(&mail.send(&to("guardian@example.jp"), NOW).await));
    let first = server.next().await;
    for (address, expected) in [
        ("unknown@example.jp", Outcome::Gone { code: "unknown_mailbox", since: None }),
        ("late-unknown@example.jp", Outcome::Gone { code: "unknown_mailbox", since: None }),
        ("full@example.jp", Outcome::Refused { code: "mailbox_full" }),
        ("policy@example.jp", Outcome::Refused { code: "recipient_refused" }),
        ("refused-content@example.jp", Outcome::Refused { code: "content_refused" }),
        ("busy@example.jp", later("mailbox_busy")),
        ("overloaded@example.jp", later("busy")),
        ("no address", Outcome::Gone { code: "bad_address", since: None }),
    ] {
        assert_eq!(mail.send(&to(address), NOW).await, expected, "{address}");
    }
    assert!(is_accepted(&mail.send(&to("guardian@example.jp"), NOW).await));
    assert_eq!(server.next().await.peer, first.peer);
    let withdrawn = Outgoing { kind: Kind::Withdraw, ..to("guardian@example.jp") };
    assert_eq!(mail.send(&withdrawn, NOW).await, Outcome::Refused { code: "cannot_be_withdrawn" });
}

#[tokio::test]
async fn a_mail_without_an_answer_is_doubtful_and_the_next_one_goes_out() {
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    let outcome = mail.send(&to("hang-up@example.jp"), NOW).await;
    assert_eq!(outcome, Outcome::Doubtful { code: "connection_lost" });
    server.next().await;
    assert!(is_accepted(&mail.send(&to("guardian@example.jp"), NOW).await));
}

#[tokio::test]
async fn each_fault_of_a_server_is_told() {
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    let later = |code| Outcome::Later { code, after: None };
    // What was not written whole has not gone out; of what was, only the server knows.
    for (address, expected) in [
        ("closing@example.jp", later("server_closing")),
        ("reset@example.jp", later("connection_lost")),
        ("silent@example.jp", Outcome::Doubtful { code: "answer_timeout" }),
    ] {
        assert_eq!(mail.send(&to(address), NOW).await, expected, "{address}");
    }
    assert_eq!(server.next().await.to, ["silent@example.jp"]);
    assert!(is_accepted(&mail.send(&to("slow@example.jp"), NOW).await), "late is not never");
    assert_eq!(server.next().await.to, ["slow@example.jp"]);
}

/// Sends a mail until it is taken, as whoever retries does: what is in doubt is not tried again.
async fn until_taken(mail: &Mail, outgoing: &Outgoing) {
    for _ in 0..10 {
        match mail.send(outgoing, NOW).await {
            Outcome::Accepted { .. } => return,
            Outcome::Later { .. } => {}
            outcome => panic!("{:?}: {outcome:?}", outgoing.address),
        }
    }
    panic!("{:?} is not taken in ten attempts", outgoing.address);
}

#[tokio::test]
async fn mails_through_a_shower_of_faults_arrive_once_each() {
    const MAILS: usize = 40;
    let mut server = MailServer::start(Security::None, None).await;
    let mail = Mail::new(&settings(&server, "smtp://localhost:PORT")).unwrap();
    let addresses: BTreeSet<String> = (0..MAILS).map(|n| format!("flaky-{n}@example.jp")).collect();
    let all: Vec<Outgoing> = addresses.iter().map(|address| to(address)).collect();
    let sending = futures_util::future::join_all(all.iter().map(|outgoing| until_taken(&mail, outgoing)));
    let taking = async {
        let mut taken = BTreeSet::new();
        for _ in 0..MAILS {
            taken.extend(server.next().await.to);
        }
        taken
    };
    let (_, taken) = tokio::join!(sending, taking);
    assert_eq!(taken, addresses, "nobody twice in so many mails");
    assert!(is_accepted(&mail.send(&to("last@example.jp"), NOW).await));
    assert_eq!(server.next().await.to, ["last@example.jp"], "and no mail more");
}

#[tokio::test]
async fn a_server_with_a_strangers_certificate_gets_no_mail() {
    for (security, url) in [
        (Security::StartTls, "smtp://localhost:PORT?tls=required"),
        (Security::StartTls, "smtp://localhost:PORT?tls=opportunistic"),
        (Security::Tls, "smtps://localhost:PORT"),
    ] {
        let mut server = MailServer::start(security, None).await;
        let settings = settings(&server, url);
        let strangers =
            MailSettings { extra_roots_pem: Identity::localhost().roots_pem().to_owned(), ..settings.clone() };
        let outcome = Mail::new(&strangers).unwrap().send(&to("first@example.jp"), NOW).await;
        assert!(matches!(outcome, Outcome::Later { .. }), "{url}: {outcome:?}");
        assert!(is_accepted(&Mail::new(&settings).unwrap().send(&to("second@example.jp"), NOW).await), "{url}");
        assert_eq!(server.next().await.to, ["second@example.jp"], "{url}");
    }
}
