//! Messages that are longer than a provider takes: their text is shortened, they are never dropped for it.

/// Stands where text was left out.
const MARK: char = '…';

/// Builds a payload of at most `bytes_max` bytes. First the body gives way, then the title; both are cut between
/// characters and end in 「…」. `None` when even a payload without words is too long.
pub(crate) fn fit(bytes_max: usize, title: &str, body: &str, build: impl Fn(&str, &str) -> Vec<u8>) -> Option<Vec<u8>> {
    let whole = build(title, body);
    if whole.len() <= bytes_max {
        return Some(whole);
    }
    longest(body, |text| fitting(build(title, text), bytes_max))
        .or_else(|| longest(title, |text| fitting(build(text, ""), bytes_max)))
}

fn fitting(payload: Vec<u8>, bytes_max: usize) -> Option<Vec<u8>> {
    (payload.len() <= bytes_max).then_some(payload)
}

/// The payload with as much of `text` as fits. Longer text never makes a shorter payload, so halving finds it.
fn longest(text: &str, payload: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let (mut fits, mut too_long) = (0, ends.len());
    let mut best = payload(&cut(text, 0))?;
    while too_long - fits > 1 {
        let middle = usize::midpoint(fits, too_long);
        match payload(&cut(text, ends[middle])) {
            Some(found) => (best, fits) = (found, middle),
            None => too_long = middle,
        }
    }
    Some(best)
}

fn cut(text: &str, end: usize) -> String {
    let kept = text[..end].trim_end();
    if kept.is_empty() { String::new() } else { format!("{kept}{MARK}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(title: &str, body: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "title": title, "body": body })).unwrap()
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(fit(100, "題", "本文", json).unwrap(), json("題", "本文"));
    }

    #[test]
    fn the_body_gives_way_first_then_the_title() {
        let body = fit(60, "題", &"あ".repeat(100), json).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["title"], "題");
        assert!(body["body"].as_str().unwrap().ends_with("あ…"), "{body}");
        let title = fit(60, &"い".repeat(100), &"あ".repeat(100), json).unwrap();
        let title: serde_json::Value = serde_json::from_slice(&title).unwrap();
        assert_eq!(title["body"], "");
        assert!(title["title"].as_str().unwrap().ends_with("い…"), "{title}");
        assert_eq!(fit(10, "題", "本文", json), None);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_is_used(title in "\\PC{0,20}", body in "[\\PC\n\"\\\\]{0,400}", limit in 150_usize..600) {
            let payload = fit(limit, &title, &body, json);
            if let Some(payload) = &payload {
                prop_assert!(payload.len() <= limit);
                let read: serde_json::Value = serde_json::from_slice(payload).unwrap();
                let shown = read["body"].as_str().unwrap();
                prop_assert!(shown == body || body.starts_with(shown.trim_end_matches(MARK)));
                if shown != body && !shown.is_empty() && !body[..shown.len() - MARK.len_utf8()].ends_with(char::is_whitespace) {
                    // One more character of at most six escaped bytes would not have fitted, white space aside.
                    let rest = &body[shown.len() - MARK.len_utf8()..];
                    let spaces: usize = rest.chars().take_while(|c| c.is_whitespace()).map(|c| c.len_utf8() * 6).sum();
                    prop_assert!(payload.len() + 12 + spaces > limit);
                }
            }
        }
    }
}
