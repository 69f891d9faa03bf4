//! `todoke config`.

use super::{Common, output};

pub(super) fn run(common: &Common) -> anyhow::Result<()> {
    output::write(common.load()?.printed()?.as_bytes())
}
