//! `todoke doctor`: what is there, and is it well?

use anyhow::Context;
use todoke_lake::LakeView;
use todoke_store::{DbKind, Durability, Wall};

use super::{Common, output};
use crate::{run_file::RunFile, server::open_record};

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
    match RunFile::read(&config.data) {
        Some(note) => text.push_str(&format!("server   noted at http://{} (process {})\n", note.listen, note.pid)),
        None => text.push_str("server   not running\n"),
    }
    output::write(text.as_bytes())
}
