//! The web app as files: what `npm run build` wrote to `web/dist`, inside the binary.
//!
//! Builds with debug assertions read the folder at run time, so a new `npm run build` shows without compiling;
//! release builds hold the files. Either way [`file`] and [`index`] are all the server needs.

use std::borrow::Cow;

use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Dist;

/// The font of printed letters: whole, where the web app has only the subset that a page needs.
#[derive(RustEmbed)]
#[folder = "web/node_modules/@expo-google-fonts/noto-sans-jp/400Regular"]
#[include = "*.ttf"]
#[allow_missing = true]
struct Font;

const INDEX: &str = "index.html";
const LETTER_FONT: &str = "NotoSansJP_400Regular.ttf";
/// Everything in here carries a hash of its content in its name.
const HASHED_FOLDER: &str = "assets/";

/// A file of the web app, ready to be answered.
#[derive(Clone, Debug)]
pub struct WebFile {
    /// Content.
    pub bytes: Cow<'static, [u8]>,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Its name changes with its content: it may be cached for a year. All others must be revalidated.
    pub immutable: bool,
    /// SHA-256 of the content, for `ETag`.
    pub sha256: [u8; 32],
}

/// The file at a request path such as `/assets/index-B3x.js`, leading slash or not. None: not a file of the web app;
/// answer pages of the app with [`index`] then.
pub fn file(path: &str) -> Option<WebFile> {
    let name = path.trim_start_matches('/');
    if name.is_empty() {
        return None;
    }
    Dist::get(name).map(|found| web_file(name, found))
}

/// The page that starts the app, for every address that is neither a file nor of the API.
pub fn index() -> WebFile {
    Dist::get(INDEX).map_or_else(not_built, |found| web_file(INDEX, found))
}

/// Whether the web app was built; without it the server runs, but shows only a note.
pub fn is_built() -> bool {
    Dist::get(INDEX).is_some()
}

/// A TrueType font with Japanese glyphs for letters on paper: Noto Sans JP, under the SIL Open Font License. None when
/// `npm ci` had not run before the build.
pub fn letter_font() -> Option<Cow<'static, [u8]>> {
    Font::get(LETTER_FONT).map(|found| found.data)
}

fn web_file(name: &str, found: EmbeddedFile) -> WebFile {
    WebFile {
        sha256: found.metadata.sha256_hash(),
        bytes: found.data,
        content_type: content_type(name),
        immutable: name.starts_with(HASHED_FOLDER),
    }
}

fn not_built() -> WebFile {
    const PAGE: &str = "<!doctype html><html lang=\"ja\"><meta charset=\"utf-8\"><title>届け</title>\
        <h1>画面がまだ作られていません</h1>\
        <p>dashboards/web で <code>npm ci &amp;&amp; npm run build</code> を実行してください。</p></html>";
    WebFile {
        bytes: Cow::Borrowed(PAGE.as_bytes()),
        content_type: content_type(INDEX),
        immutable: false,
        sha256: [0; 32],
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_has_a_first_page() {
        assert!(index().content_type.starts_with("text/html"));
        assert!(!index().immutable);
        assert!(!index().bytes.is_empty());
    }

    #[test]
    fn stays_inside_its_folder() {
        assert!(file("../Cargo.toml").is_none());
        assert!(file("/../../Cargo.toml").is_none());
        assert!(file("/").is_none());
        assert!(file("/v1/session").is_none());
    }

    #[test]
    fn built_files_have_their_types() {
        if !is_built() {
            return;
        }
        let worker = file("/sw.js").unwrap();
        assert_eq!(worker.content_type, "text/javascript; charset=utf-8");
        assert!(!worker.immutable);
        assert_eq!(file("manifest.webmanifest").unwrap().content_type, "application/manifest+json");
    }
}
