//! The PDF: pages, one embedded font with the glyphs that occur, and the way back from glyphs to text.

use std::{collections::BTreeMap, io::Write};

use flate2::{Compression, write::ZlibEncoder};
use pdf_writer::{
    Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr,
    types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap},
};
use subsetter::GlyphRemapper;
use ttf_parser::{Face as Table, GlyphId};

use super::PaperError;

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const FONT: Ref = Ref::new(3);
const CID_FONT: Ref = Ref::new(4);
const DESCRIPTOR: Ref = Ref::new(5);
const FONT_FILE: Ref = Ref::new(6);
const TO_UNICODE: Ref = Ref::new(7);
const INFO: Ref = Ref::new(8);
const FIRST_FREE: i32 = 9;

const FONT_NAME: Name<'static> = Name(b"F");
/// Six letters before the name say that it is a part of the font (ISO 32000, 9.9.2).
const BASE_FONT: Name<'static> = Name(b"TODOKE+LetterFont");
const IDENTITY: SystemInfo<'static> = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

/// A file being written. Lengths are points, from the top left corner of the page.
pub(super) struct File<'a> {
    data: &'a [u8],
    table: Table<'a>,
    pdf: Pdf,
    pages: Vec<Ref>,
    size: (f32, f32),
    glyphs: GlyphRemapper,
    /// By the glyph's number in the file: its width in thousandths of the size, and the character it came from.
    used: BTreeMap<u16, (f32, char)>,
}

/// What is drawn on one page.
pub(super) struct Page {
    content: Content,
}

impl<'a> File<'a> {
    /// An empty file of pages of one size. `font` must be TrueType.
    pub(super) fn new(font: &'a [u8], size: (f32, f32)) -> Result<Self, PaperError> {
        let table = Table::parse(font, 0).map_err(|_| PaperError::Font)?;
        if table.tables().glyf.is_none() || table.tables().cmap.is_none() {
            return Err(PaperError::Font);
        }
        let (glyphs, used) = (GlyphRemapper::new(), BTreeMap::new());
        Ok(Self { data: font, table, pdf: Pdf::new(), pages: Vec::new(), size, glyphs, used })
    }

    pub(super) fn n_pages(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn has(&self, c: char) -> bool {
        self.table.glyph_index(c).is_some_and(|glyph| glyph.0 != 0)
    }

    /// Width of a character at a size.
    pub(super) fn advance(&self, c: char, size: f32) -> f32 {
        self.width(self.glyph(c)) / 1_000.0 * size
    }

    pub(super) fn width_of(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.advance(c, size)).sum()
    }

    fn glyph(&self, c: char) -> GlyphId {
        self.table.glyph_index(c).unwrap_or_default()
    }

    fn width(&self, glyph: GlyphId) -> f32 {
        let advance = self.table.glyph_hor_advance(glyph).unwrap_or_default();
        f32::from(advance) * 1_000.0 / f32::from(self.table.units_per_em())
    }

    pub(super) fn page(&self) -> Page {
        Page { content: Content::new() }
    }

    /// Writes a text whose baseline begins at `x`, `y`.
    pub(super) fn text(&mut self, page: &mut Page, (x, y): (f32, f32), size: f32, text: &str) {
        let mut shown = Vec::with_capacity(text.len());
        for c in text.chars() {
            let glyph = self.glyph(c);
            let number = self.glyphs.remap(glyph.0);
            let width = self.width(glyph);
            self.used.entry(number).or_insert((width, c));
            shown.extend_from_slice(&number.to_be_bytes());
        }
        let content = &mut page.content;
        content.begin_text().set_font(FONT_NAME, size).next_line(x, self.size.1 - y).show(Str(&shown)).end_text();
    }

    /// Adds a black rectangle to the page's outline; [`Self::fill`] draws it.
    pub(super) fn rect(&self, page: &mut Page, (x, y): (f32, f32), (width, height): (f32, f32)) {
        page.content.rect(x, self.size.1 - y - height, width, height);
    }

    pub(super) fn fill(&self, page: &mut Page) {
        page.content.fill_nonzero();
    }

    /// Ends a page.
    pub(super) fn add(&mut self, page: Page) -> Result<(), PaperError> {
        let at = FIRST_FREE + i32::try_from(self.pages.len()).map_err(|_| PaperError::TooMany)? * 2;
        let (id, content_id) = (Ref::new(at), Ref::new(at + 1));
        let content = deflated(&page.content.finish())?;
        self.pdf.stream(content_id, &content).filter(Filter::FlateDecode);
        let mut written = self.pdf.page(id);
        written.media_box(Rect::new(0.0, 0.0, self.size.0, self.size.1)).parent(PAGES).contents(content_id);
        written.resources().fonts().pair(FONT_NAME, FONT);
        written.finish();
        self.pages.push(id);
        Ok(())
    }

    /// The whole file.
    pub(super) fn finish(mut self, title: &str) -> Result<Vec<u8>, PaperError> {
        self.font()?;
        let mut catalog = self.pdf.catalog(CATALOG);
        catalog.pages(PAGES).lang(TextStr("ja"));
        catalog.finish();
        let n_pages = i32::try_from(self.pages.len()).map_err(|_| PaperError::TooMany)?;
        self.pdf.pages(PAGES).kids(self.pages.iter().copied()).count(n_pages);
        self.pdf.document_info(INFO).title(TextStr(title)).creator(TextStr("Todoke"));
        Ok(self.pdf.finish())
    }

    fn font(&mut self) -> Result<(), PaperError> {
        let table = &self.table;
        let em = |units: i16| f32::from(units) * 1_000.0 / f32::from(table.units_per_em());
        let mut font = self.pdf.type0_font(FONT);
        font.base_font(BASE_FONT).encoding_predefined(Name(b"Identity-H"));
        font.descendant_font(CID_FONT).to_unicode(TO_UNICODE);
        font.finish();

        let mut cid = self.pdf.cid_font(CID_FONT);
        cid.subtype(CidFontType::Type2).base_font(BASE_FONT).system_info(IDENTITY).font_descriptor(DESCRIPTOR);
        cid.default_width(1_000.0).cid_to_gid_map_predefined(Name(b"Identity"));
        let mut widths = cid.widths();
        for (number, (width, _)) in &self.used {
            widths.consecutive(*number, [*width]);
        }
        widths.finish();
        cid.finish();

        let bounds = table.global_bounding_box();
        let mut descriptor = self.pdf.font_descriptor(DESCRIPTOR);
        descriptor.name(BASE_FONT).flags(FontFlags::SYMBOLIC).italic_angle(0.0).stem_v(80.0);
        descriptor.bbox(Rect::new(em(bounds.x_min), em(bounds.y_min), em(bounds.x_max), em(bounds.y_max)));
        descriptor.ascent(em(table.ascender())).descent(em(table.descender()));
        descriptor.cap_height(em(table.capital_height().unwrap_or(table.ascender()))).font_file2(FONT_FILE);
        descriptor.finish();

        let part = subsetter::subset(self.data, 0, &self.glyphs).map_err(|_| PaperError::Font)?;
        let length = i32::try_from(part.len()).map_err(|_| PaperError::Font)?;
        let part = deflated(&part)?;
        let mut stream = self.pdf.stream(FONT_FILE, &part);
        stream.filter(Filter::FlateDecode).pair(Name(b"Length1"), length);
        stream.finish();

        let mut map = UnicodeCmap::<u16>::new(Name(b"Custom"), IDENTITY);
        for (number, (_, c)) in &self.used {
            map.pair(*number, *c);
        }
        self.pdf.cmap(TO_UNICODE, &map.finish());
        Ok(())
    }
}

fn deflated(bytes: &[u8]) -> Result<Vec<u8>, PaperError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.map_err(|_| PaperError::Pdf("compression"))
}
