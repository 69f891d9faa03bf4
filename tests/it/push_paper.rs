//! Letters as PDF, read back by another program.

use std::process::Command;

use jiff::civil::date;
use todoke_domain::qr::QrToken;
use todoke_notifier::paper::{self, Letter, PaperError, Sender};
use todoke_tests::process::workspace_root;

const FONT: &str = "dashboards/web/node_modules/@expo-google-fonts/noto-sans-jp/400Regular/NotoSansJP_400Regular.ttf";

fn font() -> Vec<u8> {
    let path = workspace_root().join(FONT);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `npm ci` in dashboards/web", path.display()))
}

fn sender() -> Sender {
    Sender {
        name: "ひまわり市 子育て支援課".to_owned(),
        lines: vec!["〒999-0001 ひまわり市中央1-1".to_owned(), "電話 0123-45-6789（平日 8:30〜17:15）".to_owned()],
    }
}

fn letter(no: &str, body: &str) -> Letter {
    let token = QrToken::from_bits(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    Letter {
        letter_no: no.to_owned(),
        postal_code: "9990002".to_owned(),
        address: "ひまわり市みどり町三丁目十二番地の五 コーポひまわり二〇三号室".to_owned(),
        recipient_name: "山田 太郎".to_owned(),
        title: "クーポン申請のご案内".to_owned(),
        body: body.to_owned(),
        date: date(2026, 11, 21),
        code: Some((token.to_string(), token.grouped())),
        app: None,
    }
}

/// The text of a PDF by `pdftotext`, where it is installed.
fn text_of(pdf: &[u8]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("letters.pdf");
    std::fs::write(&file, pdf).unwrap();
    let output = Command::new("pdftotext").arg("-layout").arg(&file).arg("-").output().ok()?;
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_run_is_one_file_with_a_page_for_each_letter() {
    let body = "お子さまのクーポンを申請いただけます。\n次の二次元コードを読み取ってください。";
    let letters: Vec<Letter> = (1..=20).map(|n| letter(&format!("P-{n:06}"), body)).collect();
    let printed = paper::print(&letters, &sender(), &font()).unwrap();
    assert_eq!((printed.n_pages, printed.incomplete.len()), (20, 0));
    assert!(printed.pdf.starts_with(b"%PDF-") && printed.pdf.len() < 1_000_000, "{} bytes", printed.pdf.len());
    if let Some(text) = text_of(&printed.pdf) {
        for part in ["〒999-0002", "山田 太郎", "クーポン申請のご案内", "2026年11月21日", "P-000020", "ひまわり市"]
        {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert_eq!(text.matches('\u{c}').count(), 20);
    }
}

#[test]
fn a_long_letter_goes_on_overleaf_and_keeps_every_line() {
    let body: String = (1..=120).map(|n| format!("第{n}行の本文です。\n")).collect();
    let printed = paper::print(&[letter("P-000001", &body)], &sender(), &font()).unwrap();
    assert!(printed.n_pages > 2, "{} pages", printed.n_pages);
    if let Some(text) = text_of(&printed.pdf) {
        assert!((1..=120).all(|n| text.contains(&format!("第{n}行の本文"))));
    }
}

#[test]
fn an_invitation_has_the_codes_of_child_and_app() {
    let plain = letter("P-000001", "申請のご案内");
    let address = "https://todoke.example.jp/";
    let inviting = Letter { app: Some(address.to_owned()), ..plain.clone() };
    let [without, with] = [plain, inviting].map(|letter| paper::print(&[letter], &sender(), &font()).unwrap());
    assert_eq!((without.n_pages, with.n_pages), (1, 1), "both codes fit under a short text");
    assert!(with.pdf.len() > without.pdf.len());
    if let Some(text) = text_of(&with.pdf) {
        assert!(text.contains("お子さまの二次元コード") && text.contains("子育て応援アプリの二次元コード"), "{text}");
        assert!(text.contains(address), "{text}");
    }
    let body: String = (1..=22).map(|n| format!("第{n}行の本文です。\n")).collect();
    let long = Letter { app: Some(address.to_owned()), ..letter("P-000002", &body) };
    assert_eq!(paper::print(&[long], &sender(), &font()).unwrap().n_pages, 2, "and go overleaf together");
}

#[test]
fn a_character_without_glyph_is_marked_and_reported() {
    let strange = Letter { recipient_name: "\u{2f800}\u{e000}田".to_owned(), ..letter("P-000002", "本文") };
    let printed = paper::print(&[letter("P-000001", "本文"), strange], &sender(), &font()).unwrap();
    assert_eq!(printed.incomplete, ["P-000002"]);
    // What stands on every letter concerns every letter.
    let strange = Sender { name: "\u{e000}市".to_owned(), ..sender() };
    let letters = [letter("P-000001", "本文")];
    let printed = paper::print(&letters, &strange, &font()).unwrap();
    assert_eq!(printed.incomplete, ["P-000001"]);
    assert_eq!(paper::incomplete(&letters, &strange, &font()).unwrap(), printed.incomplete);
    assert!(paper::incomplete(&letters, &sender(), &font()).unwrap().is_empty());
    if let Some(text) = text_of(&printed.pdf) {
        assert!(text.contains("〓市"), "{text}");
    }
}

#[test]
fn what_is_no_font_is_refused() {
    assert_eq!(paper::print(&[], &sender(), b"no font").err(), Some(PaperError::Font));
}
