//! The items of a JSON list one by one, as they stand in the text: nothing is copied and nothing is kept, however the
//! items are nested. Whether an item is JSON is for whoever reads it.

use std::ops::Range;

/// The text is no list, as is seen at about this byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAList {
    pub(crate) at: usize,
}

/// A place in a list.
#[derive(Debug)]
pub(crate) struct Items<'a> {
    bytes: &'a [u8],
    at: usize,
    n_items: usize,
}

impl<'a> Items<'a> {
    /// Begins to read a list.
    pub(crate) fn of(text: &'a str) -> Result<Self, NotAList> {
        let mut items = Self { bytes: text.as_bytes(), at: 0, n_items: 0 };
        if items.next_byte() != Some(b'[') {
            return items.broken();
        }
        items.at += 1;
        Ok(items)
    }

    /// Where the next item stands; `None` at the end of a whole list.
    pub(crate) fn next(&mut self) -> Result<Option<Range<usize>>, NotAList> {
        match self.next_byte() {
            Some(b']') => {
                self.at += 1;
                return if self.next_byte().is_none() { Ok(None) } else { self.broken() };
            }
            Some(b',') if self.n_items > 0 => self.at += 1,
            _ if self.n_items > 0 => return self.broken(),
            _ => {}
        }
        let begin = match self.next_byte() {
            None | Some(b',' | b']' | b'}') => return self.broken(),
            Some(_) => self.at,
        };
        self.pass_item()?;
        self.n_items += 1;
        Ok(Some(begin..self.at))
    }

    fn broken<T>(&self) -> Result<T, NotAList> {
        Err(NotAList { at: self.at })
    }

    /// The next byte that is not white space; stays before it.
    fn next_byte(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn pass_item(&mut self) -> Result<(), NotAList> {
        let mut depth = 0_usize;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.pass_string()?;
                    if depth == 0 {
                        return Ok(());
                    }
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' if depth > 1 => depth -= 1,
                b']' | b'}' if depth == 1 => {
                    self.at += 1;
                    return Ok(());
                }
                // A number or a word, up to what follows it.
                b']' | b'}' | b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return Ok(()),
                _ => {}
            }
            self.at += 1;
        }
        self.broken()
    }

    fn pass_string(&mut self) -> Result<(), NotAList> {
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.broken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Result<Vec<&str>, NotAList> {
        let mut items = Items::of(text)?;
        let mut found = Vec::new();
        while let Some(place) = items.next()? {
            found.push(&text[place]);
        }
        Ok(found)
    }

    #[test]
    fn items_are_as_they_stand() {
        assert_eq!(items("[]"), Ok(vec![]));
        assert_eq!(
            items(" [ 1 ,{\"a\":[2,{}]} , \"]\\\",\",[[]], null ] "),
            Ok(vec!["1", "{\"a\":[2,{}]}", "\"]\\\",\"", "[[]]", "null"])
        );
        assert_eq!(items("[\"届け\",\"\\\\\"]"), Ok(vec!["\"届け\"", "\"\\\\\""]));
    }

    #[test]
    fn what_is_no_list_is_told_where() {
        for broken in ["", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[] []", "[[1]", "[\"a]", "[\"a\\", "[}"] {
            assert!(items(broken).is_err(), "{broken}");
        }
        // Ends where the text does, with a number for each level and no more.
        let deep = "[".repeat(1 << 20);
        assert_eq!(items(&deep), Err(NotAList { at: 1 << 20 }));
    }
}
