//! Where things stand on the page. Lengths are millimetres from the top left corner until they are drawn.

use qrcode::{Color, EcLevel, QrCode};

use super::{
    Letter, PaperError, Sender,
    file::{File, Page},
    lines::broken,
};

const POINTS_PER_MM: f32 = 72.0 / 25.4;
const PAGE: (f32, f32) = (210.0, 297.0);
const LEFT: f32 = 20.0;
const RIGHT: f32 = 190.0;
const BOTTOM: f32 = 275.0;

/// The window of a long envelope no. 3 (長形3号) over a sheet folded in three: the address lies inside with room for
/// the sheet to slip.
const WINDOW_TOP: f32 = 25.0;
const WINDOW_WIDTH: f32 = 80.0;
const WINDOW_LINES_MAX: usize = 7;
const FOLDS: [f32; 2] = [99.0, 198.0];

const TITLE_AT: f32 = 92.0;
const BODY_AT: f32 = 106.0;
const NEXT_PAGE_AT: f32 = 36.0;
const CODE_SIDE: f32 = 32.0;
/// White above a code; with what is kept free below it, a code takes [`CODE_HEIGHT`].
const CODE_ABOVE: f32 = 4.0;
const CODE_HEIGHT: f32 = CODE_ABOVE + CODE_SIDE + 10.0;
/// White around a code, in its modules (ISO/IEC 18004).
const QUIET: f32 = 4.0;

const SMALL: f32 = 8.0;
const TEXT: f32 = 10.5;
const NAME: f32 = 13.0;
const TITLE: f32 = 15.0;
/// Distance of two lines, in sizes of the font.
const LEADING: f32 = 1.7;

/// Size of a page, points.
pub(super) fn page_size() -> (f32, f32) {
    (PAGE.0 * POINTS_PER_MM, PAGE.1 * POINTS_PER_MM)
}

/// Height of a line, millimetres.
fn line_height(size: f32) -> f32 {
    size * LEADING / POINTS_PER_MM
}

/// A run on its way into a file.
pub(super) struct Run<'a> {
    file: File<'a>,
    sender: &'a Sender,
}

impl<'a> Run<'a> {
    pub(super) fn new(file: File<'a>, sender: &'a Sender) -> Self {
        Self { file, sender }
    }

    pub(super) fn file(&self) -> &File<'a> {
        &self.file
    }

    pub(super) fn into_file(self) -> File<'a> {
        self.file
    }

    /// Adds the pages of one letter.
    pub(super) fn letter(&mut self, letter: &Letter) -> Result<(), PaperError> {
        let body = broken(&letter.body, (RIGHT - LEFT) * POINTS_PER_MM, |c| self.file.advance(c, TEXT));
        let codes = codes(letter);
        let pages = paginated(&body, codes.iter().map(|_| CODE_HEIGHT).sum());
        let n_pages = pages.len();
        for (lines, number) in pages.into_iter().zip(1..) {
            let mut sheet = Sheet { page: self.file.page(), file: &mut self.file };
            let codes = if number == n_pages { codes.as_slice() } else { &[] };
            sheet.draw(letter, self.sender, &Part { lines, number, n_pages, codes })?;
            let page = sheet.page;
            self.file.add(page)?;
        }
        Ok(())
    }
}

/// A code on a letter and the words beside it.
struct Code<'a> {
    drawn: &'a str,
    title: &'static str,
    hint: &'static str,
    words: &'a str,
}

/// The codes of a letter, in the order in which they stand on it.
fn codes(letter: &Letter) -> Vec<Code<'_>> {
    let child = letter.code.as_ref().map(|(drawn, grouped)| Code {
        drawn,
        title: "お子さまの二次元コード",
        hint: "スマートフォンで読み取るか、次の文字を入力してください。",
        words: grouped,
    });
    let app = letter.app.as_ref().map(|address| Code {
        drawn: address,
        title: "子育て応援アプリの二次元コード",
        hint: "スマートフォンのカメラで読み取ると、登録と利用の画面が開きます。",
        words: address,
    });
    child.into_iter().chain(app).collect()
}

/// The lines of each page. The codes stand under the last one, and get a page of their own when there is no room.
fn paginated(body: &[String], code_height: f32) -> Vec<&[String]> {
    let fits = |top: f32, below: f32| (((BOTTOM - below - top) / line_height(TEXT)).floor() as usize).max(1);
    let mut pages = Vec::new();
    let (mut rest, mut top) = (body, BODY_AT);
    loop {
        if rest.len() <= fits(top, code_height) {
            pages.push(rest);
            return pages;
        }
        let (page, next) = rest.split_at(rest.len().min(fits(top, 0.0)));
        pages.push(page);
        (rest, top) = (next, NEXT_PAGE_AT);
    }
}

/// A page being drawn.
struct Sheet<'a, 'b> {
    page: Page,
    file: &'a mut File<'b>,
}

/// The part of a letter that stands on one page.
struct Part<'a> {
    lines: &'a [String],
    number: usize,
    n_pages: usize,
    /// Under the text; only on the last page.
    codes: &'a [Code<'a>],
}

impl Sheet<'_, '_> {
    fn draw(&mut self, letter: &Letter, sender: &Sender, part: &Part<'_>) -> Result<(), PaperError> {
        let mut at = NEXT_PAGE_AT;
        if part.number == 1 {
            self.head(letter, sender);
            at = BODY_AT;
        } else {
            self.text(LEFT, 20.0, SMALL, &format!("{}（続き）", letter.title));
        }
        for line in part.lines {
            self.text(LEFT, at, TEXT, line);
            at += line_height(TEXT);
        }
        for code in part.codes {
            self.code(at + CODE_ABOVE, code)?;
            at += CODE_HEIGHT;
        }
        let foot = format!("{}　{} / {}", letter.letter_no, part.number, part.n_pages);
        self.text_to(RIGHT, 287.0, SMALL, &foot);
        Ok(())
    }

    fn text(&mut self, x: f32, y: f32, size: f32, text: &str) {
        self.file.text(&mut self.page, (x * POINTS_PER_MM, y * POINTS_PER_MM), size, text);
    }

    /// A text that ends at `x`.
    fn text_to(&mut self, x: f32, y: f32, size: f32, text: &str) {
        let width = self.file.width_of(text, size) / POINTS_PER_MM;
        self.text(x - width, y, size, text);
    }

    fn head(&mut self, letter: &Letter, sender: &Sender) {
        self.address(letter);
        let mut y = WINDOW_TOP;
        self.text_to(RIGHT, y, SMALL, &format!("通知番号 {}", letter.letter_no));
        y += line_height(TEXT);
        let date = letter.date;
        self.text_to(RIGHT, y, TEXT, &format!("{}年{}月{}日", date.year(), date.month(), date.day()));
        y += line_height(TEXT) * 1.5;
        self.text_to(RIGHT, y, TEXT, &sender.name);
        for line in &sender.lines {
            for part in broken(line, 75.0 * POINTS_PER_MM, |c| self.file.advance(c, SMALL)) {
                y += line_height(SMALL);
                self.text_to(RIGHT, y, SMALL, &part);
            }
        }
        let width = self.file.width_of(&letter.title, TITLE) / POINTS_PER_MM;
        self.text(((PAGE.0 - width) / 2.0).max(LEFT), TITLE_AT, TITLE, &letter.title);
        for fold in FOLDS {
            self.rule(4.0, fold, 4.0);
        }
    }

    /// Postal code, address and name, never more lines than the window shows.
    fn address(&mut self, letter: &Letter) {
        let mut y = WINDOW_TOP;
        if !letter.postal_code.is_empty() {
            self.text(LEFT, y, TEXT, &format!("〒{}", hyphenated(&letter.postal_code)));
            y += line_height(TEXT);
        }
        let width = WINDOW_WIDTH * POINTS_PER_MM;
        let name = broken(&format!("{}　様", letter.recipient_name), width, |c| self.file.advance(c, NAME));
        let room = WINDOW_LINES_MAX.saturating_sub(name.len());
        for line in broken(&letter.address, width, |c| self.file.advance(c, TEXT)).iter().take(room) {
            self.text(LEFT, y, TEXT, line);
            y += line_height(TEXT);
        }
        y += 2.0;
        for line in name {
            self.text(LEFT, y, NAME, &line);
            y += line_height(NAME);
        }
    }

    /// A code with its words.
    fn code(&mut self, top: f32, code: &Code<'_>) -> Result<(), PaperError> {
        let drawn = QrCode::with_error_correction_level(code.drawn, EcLevel::M).map_err(|_| PaperError::Pdf("code"))?;
        let n_modules = drawn.width();
        let module = CODE_SIDE / (n_modules as f32 + 2.0 * QUIET);
        for (row, modules) in drawn.to_colors().chunks(n_modules).enumerate() {
            // Neighbours become one rectangle: no hairlines between them, and a quarter of the size.
            let mut column = 0;
            for run in modules.chunk_by(|a, b| a == b) {
                if run[0] == Color::Dark {
                    let x = LEFT + (column as f32 + QUIET) * module;
                    let y = top + (row as f32 + QUIET) * module;
                    self.rect(x, y, run.len() as f32 * module, module);
                }
                column += run.len();
            }
        }
        self.file.fill(&mut self.page);
        let x = LEFT + CODE_SIDE + 4.0;
        self.text(x, top + 10.0, TEXT, code.title);
        self.text(x, top + 17.0, SMALL, code.hint);
        self.text(x, top + 24.0, TEXT, code.words);
        Ok(())
    }

    fn rule(&mut self, x: f32, y: f32, length: f32) {
        self.rect(x, y, length, 0.15);
        self.file.fill(&mut self.page);
    }

    fn rect(&mut self, x: f32, y: f32, width: f32, height: f32) {
        let points = |mm: f32| mm * POINTS_PER_MM;
        self.file.rect(&mut self.page, (points(x), points(y)), (points(width), points(height)));
    }
}

fn hyphenated(postal_code: &str) -> String {
    match postal_code.len() {
        7 if postal_code.is_ascii() => format!("{}-{}", &postal_code[..3], &postal_code[3..]),
        _ => postal_code.to_owned(),
    }
}
