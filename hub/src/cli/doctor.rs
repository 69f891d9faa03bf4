//! `todoke doctor`: what is there, and is it well?

use anyhow::Context;
use axum::http::Uri;
use todoke_lake::LakeView;
use todoke_store::{DbKind, Durability, Wall};

use super::{Common, output};
use crate::{config::Config, run_file::RunFile, server::open_record};

pub(super) async fn run(common: &Common) -> anyhow::Result<()> {
    let config = common.load()?;
    let mut text = String::new();
    let store = open_record(&config, Durability::Full).await?;
    store.ping().await?;
    let kind = if store.kind() == DbKind::Sqlite { "SQLite" } else { "PostgreSQL" };
    text.push_str(&format!("record   ok ({kind})\n"));
    let mut tx = store.begin_read(Wall::None).await?;
    let (events, waiting) = tx.event_counts().await?;
    for municipality in tx.municipalities().await? {
        text.push_str(&format!("         {} {}\n", municipality.municipality_code, municipality.name));
    }
    text.push_str(&format!("events   {events} in the log, {waiting} not in the lake yet\n"));
    let location = config.lake_location()?;
    location.probe().await.with_context(|| format!("the lake cannot be in {location}"))?;
    let view = LakeView::open_readonly(&location).await.context("the lake cannot be opened")?;
    let snapshot = view.snapshot();
    let watermark = snapshot.watermark().map_or_else(|| "empty".to_owned(), |at| at.to_string());
    text.push_str(&format!("lake     ok (snapshot {}, watermark {watermark})\n", snapshot.id()));
    if !config.lake.url.is_empty() {
        text.push_str(&format!("         in {location}\n"));
    }
    let web = if todoke_dashboards::is_built() { "ok" } else { "not built: run `npm run build` in dashboards/web" };
    text.push_str(&format!("web app  {web}\n"));
    text.push_str(&format!("mail     {}\n", mail(&config)));
    match RunFile::read(&config.data) {
        Some(note) => text.push_str(&format!("server   noted at http://{} (process {})\n", note.listen, note.pid)),
        None => text.push_str("server   not running\n"),
    }
    output::write(text.as_bytes())
}

/// Whom mails come from. Another domain than the web app's surprises people and filters, and has a DNS of its own.
fn mail(config: &Config) -> String {
    if !config.mail.is_on() {
        return "off: no server is set".to_owned();
    }
    let Some(sender) = config.mail.domain() else { return "mail.from is no mail address".to_owned() };
    let uri = config.public_url().parse::<Uri>().ok();
    let web = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    if web == sender || web.ends_with(&format!(".{sender}")) {
        format!("from {sender}")
    } else {
        format!("from {sender}, while the web app is at {web}: see docs/delivery.md on SPF, DKIM and DMARC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(server: &str, from: &str, web: &str) -> String {
        let mut config = Config::default();
        config.mail.smtp_url = server.to_owned();
        config.mail.from = from.to_owned();
        config.public_url = web.to_owned();
        mail(&config)
    }

    #[test]
    fn a_sender_of_another_domain_is_told() {
        let server = "smtp://mail.example.jp";
        let own = "from city.example.jp";
        assert_eq!(of(server, "届け <noreply@city.example.jp>", "https://city.example.jp"), own);
        assert_eq!(of(server, "noreply@city.example.jp", "https://todoke.city.example.jp/"), own);
        for web in ["https://todoke.example.com", "https://notcity.example.jp"] {
            let told = of(server, "noreply@city.example.jp", web);
            assert!(told.starts_with("from city.example.jp, while the web app is at "), "{told}");
        }
        assert_eq!(of(server, "nobody", "https://city.example.jp"), "mail.from is no mail address");
        assert_eq!(of("", "noreply@city.example.jp", "https://city.example.jp"), "off: no server is set");
    }
}
