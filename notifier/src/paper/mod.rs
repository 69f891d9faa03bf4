//! Letters for people without a device: one PDF per run, ready for window envelopes.

mod file;
mod layout;
mod lines;

use jiff::civil::Date;

use self::{file::File, layout::Run};

/// Letters in one run. A run is one file: more would be hard to print and to hold in memory.
pub const LETTERS_MAX: usize = 10_000;
/// Printed for a character that the font does not have, as Japanese printers do.
const GETA: char = '〓';

/// One letter.
#[derive(Clone)]
pub struct Letter {
    /// Number people can name on the telephone.
    pub letter_no: String,
    /// Seven digits, hyphenated or not; empty when unknown.
    pub postal_code: String,
    /// Address in one line or several.
    pub address: String,
    /// To whom, without 様.
    pub recipient_name: String,
    /// Heading.
    pub title: String,
    /// Text; line breaks are kept.
    pub body: String,
    /// Day of the letter.
    pub date: Date,
    /// Child's code: its text as it is drawn, and the same in groups for typing.
    pub code: Option<(String, String)>,
    /// Address of the app, drawn as a code that opens it: on invitations to register.
    pub app: Option<String>,
}

impl std::fmt::Debug for Letter {
    /// The number only: everything else is personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("letter_no", &self.letter_no).finish_non_exhaustive()
    }
}

/// Who writes: the municipality, and the lines under its name (desk, telephone, return address).
#[derive(Debug, Clone)]
pub struct Sender {
    /// Name.
    pub name: String,
    /// Further lines.
    pub lines: Vec<String>,
}

/// A run as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The PDF.
    pub pdf: Vec<u8>,
    /// Pages.
    pub n_pages: usize,
    /// Numbers of the letters in which 〓 stands for a character that the font does not have: to be completed by hand.
    pub incomplete: Vec<String>,
}

/// Why a run cannot be printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaperError {
    /// The font is no TrueType font.
    #[error("the font for letters is no TrueType font")]
    Font,
    /// More letters than [`LETTERS_MAX`].
    #[error("a run holds at most {LETTERS_MAX} letters")]
    TooMany,
    /// The PDF could not be put together.
    #[error("the letters could not be put together: {0}")]
    Pdf(&'static str),
}

/// Puts the letters of a run into one PDF: A4, the address where a window envelope shows it, fold marks, sender, date,
/// text, and the codes of child and app as drawings. `font` is a TrueType file with Japanese glyphs.
///
/// Takes about a millisecond per letter on one core and blocks for it: call it where that is allowed.
pub fn print(letters: &[Letter], sender: &Sender, font: &[u8]) -> Result<Printed, PaperError> {
    if letters.len() > LETTERS_MAX {
        return Err(PaperError::TooMany);
    }
    let file = File::new(font, layout::page_size())?;
    let (sender, sender_lacks) = shown_sender(&file, sender);
    let mut run = Run::new(file, &sender);
    let mut incomplete = Vec::new();
    for letter in letters {
        let (letter, missing) = shown_letter(run.file(), letter);
        run.letter(&letter)?;
        if missing || sender_lacks {
            incomplete.push(letter.letter_no);
        }
    }
    let file = run.into_file();
    let n_pages = file.n_pages();
    Ok(Printed { pdf: file.finish(&format!("{} 発送", sender.name))?, n_pages, incomplete })
}

/// The numbers of the letters that [`print`] would give as incomplete, without printing them.
pub fn incomplete(letters: &[Letter], sender: &Sender, font: &[u8]) -> Result<Vec<String>, PaperError> {
    let file = File::new(font, layout::page_size())?;
    let (_, sender_lacks) = shown_sender(&file, sender);
    let lacking = letters.iter().filter(|letter| sender_lacks || shown_letter(&file, letter).1);
    Ok(lacking.map(|letter| letter.letter_no.clone()).collect())
}

/// The text with 〓 for what the font cannot show, and whether there was any of that.
fn shown(file: &File<'_>, text: &str) -> (String, bool) {
    let mut missing = false;
    let shown = text
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .map(|c| {
            let known = c == '\n' || file.has(c);
            missing |= !known;
            if known { c } else { GETA }
        })
        .collect();
    (shown, missing)
}

fn shown_sender(file: &File<'_>, sender: &Sender) -> (Sender, bool) {
    let (name, mut missing) = shown(file, &sender.name);
    let mut lines = Vec::with_capacity(sender.lines.len());
    for line in &sender.lines {
        let (line, lacks) = shown(file, line);
        missing |= lacks;
        lines.push(line);
    }
    (Sender { name, lines }, missing)
}

fn shown_letter(file: &File<'_>, letter: &Letter) -> (Letter, bool) {
    let mut missing = false;
    let mut shown = |text: &str| {
        let (shown, lacks) = shown(file, text);
        missing |= lacks;
        shown
    };
    let letter = Letter {
        letter_no: letter.letter_no.clone(),
        postal_code: shown(&letter.postal_code),
        address: shown(&letter.address),
        recipient_name: shown(&letter.recipient_name),
        title: shown(&letter.title),
        body: shown(&letter.body),
        date: letter.date,
        code: letter.code.clone(),
        app: letter.app.clone(),
    };
    (letter, missing)
}
