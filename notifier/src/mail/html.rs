//! The text of a mail as a page: the same words, nothing that is loaded from elsewhere, and readable by people who
//! use large letters or a screen reader.

/// White on this blue has a contrast of more than 10 to 1.
const BUTTON: &str = "display:inline-block;padding:12px 24px;border-radius:8px;background-color:#0017c1;color:#ffffff;\
                      font-weight:bold;text-decoration:none";
const PAGE: &str = "margin:0;padding:16px;background-color:#ffffff;color:#1a1a1a;font-family:sans-serif;font-size:16px;\
                    line-height:1.7";
/// The address is shown too: people are told to look where a link leads before they follow it.
const ADDRESS: &str = "font-size:14px;word-break:break-all";

/// The page of a mail: its text in paragraphs, where a line that is `link` becomes a button. It is Japanese, as all our
/// texts are.
pub(super) fn html(title: &str, text: &str, link: &str) -> String {
    let title = escaped(title);
    let lines: Vec<&str> = text.lines().collect();
    let paragraphs = lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty());
    let paragraphs: Vec<String> = paragraphs
        .map(|lines| {
            let lines: Vec<String> = lines.iter().map(|line| line_of(line, link)).collect();
            format!("<p>{}</p>\n", lines.join("<br>\n"))
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"ja\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n</head>\n\
         <body style=\"{PAGE}\">\n<h1 style=\"font-size:20px;line-height:1.5\">{title}</h1>\n{}</body>\n</html>\n",
        paragraphs.concat()
    )
}

fn line_of(line: &str, link: &str) -> String {
    let whole = line.trim();
    if whole == link && url_at_start(whole) == Some(whole) {
        let url = escaped(whole);
        return format!(
            "<a href=\"{url}\" style=\"{BUTTON}\">画面を開く</a><br>\n<span style=\"{ADDRESS}\">{url}</span>"
        );
    }
    let (mut html, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(at) = rest.find("http") {
        html.push_str(&escaped(&rest[..at]));
        rest = &rest[at..];
        let taken = match url_at_start(rest) {
            Some(url) => {
                let text = escaped(url);
                html.push_str(&format!("<a href=\"{text}\">{text}</a>"));
                url.len()
            }
            None => {
                html.push_str("http");
                "http".len()
            }
        };
        rest = &rest[taken..];
    }
    html.push_str(&escaped(rest));
    html
}

/// The web address with which a text begins. It ends where Japanese goes on, which writes no space after it.
fn url_at_start(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let is_part = |c: &char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}');
    // Only ASCII: as many bytes as characters.
    let length = rest.chars().take_while(is_part).count();
    let rest = rest[..length].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'']);
    let scheme = if text.starts_with("https") { "https://" } else { "http://" };
    (!rest.is_empty()).then(|| &text[..scheme.len() + rest.len()])
}

/// A text that is nothing but text, between tags and in an attribute alike.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if c.is_control() => html.push(' '),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://todoke.example.jp/m/0a1b?x=1&y=2";

    #[test]
    fn words_stay_words() {
        let page = html("<b>A&B</b>\u{7}", "<script>alert('1')</script>\n二行目 \"引用\"\n\n次の段落", "");
        assert!(page.contains("<title>&lt;b&gt;A&amp;B&lt;/b&gt; </title>"), "{page}");
        assert!(page.contains(
            "<p>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;<br>\n二行目 &quot;引用&quot;</p>\n<p>次の段落</p>"
        ));
        assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"ja\">"));
        assert!(!page.contains("<script") && !page.contains("<b>"));
    }

    #[test]
    fn the_line_with_the_link_becomes_a_button_that_says_where_it_leads() {
        let page = html("件名", &format!("本文です。\n\n詳しくは次の画面でご確認ください。\n{LINK}\n"), LINK);
        let url = "https://todoke.example.jp/m/0a1b?x=1&amp;y=2";
        assert!(page.contains(&format!("<a href=\"{url}\" style=\"{BUTTON}\">画面を開く</a>")), "{page}");
        assert_eq!(page.matches(url).count(), 2, "where it leads is shown");
        for loaded in ["src=", "<img", "<link", "url("] {
            assert!(!page.contains(loaded), "{loaded} loads something from elsewhere");
        }
    }

    #[test]
    fn an_address_in_a_sentence_ends_where_japanese_goes_on() {
        let line =
            line_of("開いてください。https://a.example/x?t=1（60分間有効）http://b.example/.終わりhttps://と http", "");
        assert_eq!(
            line,
            "開いてください。<a href=\"https://a.example/x?t=1\">https://a.example/x?t=1</a>（60分間有効）\
             <a href=\"http://b.example/\">http://b.example/</a>.終わりhttps://と http"
        );
        assert_eq!(
            line_of("javascript:alert(1)", "javascript:alert(1)"),
            "javascript:alert(1)",
            "no address of the web"
        );
    }
}
