//! Breaking Japanese text into lines.

/// Characters that do not begin a line: they stay with the one before them (行頭禁則).
const NOT_FIRST: &str =
    "、。，．・：；？！」』）］｝〕〉》】ー々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ…‥〜～)]},.:;?!%";
/// Characters that do not end a line (行末禁則).
const NOT_LAST: &str = "「『（［｛〔〈《【([{";

/// Breaks a text at its line breaks and where a line would be wider than `width`; `advance` gives a character's.
pub(super) fn broken(text: &str, width: f32, advance: impl Fn(char) -> f32) -> Vec<String> {
    text.split('\n').flat_map(|paragraph| broken_paragraph(paragraph, width, &advance)).collect()
}

fn broken_paragraph(text: &str, width: f32, advance: &impl Fn(char) -> f32) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line: Vec<char> = Vec::new();
    let mut used = 0.0;
    for c in text.chars() {
        if used + advance(c) > width && !line.is_empty() {
            let at = break_at(&line, c);
            let rest = line.split_off(at);
            lines.push(line.iter().collect::<String>().trim_end().to_owned());
            line = rest.into_iter().skip_while(|c| *c == ' ').collect();
            used = line.iter().map(|c| advance(*c)).sum();
        }
        line.push(c);
        used += advance(c);
    }
    lines.push(line.into_iter().collect());
    lines
}

/// Where to break before `next`: as late as the rules allow, or right here when they allow nothing.
fn break_at(line: &[char], next: char) -> usize {
    let following = |at: usize| line.get(at).copied().unwrap_or(next);
    let allowed = |at: &usize| {
        let (last, first) = (line[at - 1], following(*at));
        let within_word = last.is_ascii_alphanumeric() && first.is_ascii_alphanumeric();
        !NOT_FIRST.contains(first) && !NOT_LAST.contains(last) && !within_word
    };
    (1..=line.len()).rev().find(allowed).unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, n: f32) -> Vec<String> {
        broken(text, n, |c| if c.is_ascii() { 0.5 } else { 1.0 })
    }

    #[test]
    fn lines_do_not_begin_with_a_full_stop_or_end_with_a_bracket() {
        assert_eq!(lines("あいうえお。かき", 5.0), ["あいうえ", "お。かき"]);
        assert_eq!(lines("あいうえ「お」", 5.0), ["あいうえ", "「お」"]);
        assert_eq!(lines("あい\n\nう", 5.0), ["あい", "", "う"]);
    }

    #[test]
    fn a_word_or_number_stays_whole_where_it_can() {
        assert_eq!(lines("電話は0312345678です", 6.0), ["電話は", "0312345678で", "す"]);
        assert_eq!(lines("aaaaaaaaaaaa", 2.0), ["aaaa", "aaaa", "aaaa"]);
    }
}
