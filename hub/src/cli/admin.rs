//! `todoke admin`: the first steps of a new installation.

use std::sync::Arc;

use clap::{Args, Subcommand};
use todoke_domain::MunicipalityCode;
use todoke_notifier::web_push::VapidKeys;
use todoke_store::{Durability, Wall, municipality::Municipality};
use todoke_workflow::{Actor, NobodyListens, Workflow, account::OfficeDraft};

use super::{Common, output};
use crate::{clock::Clock, demo::city, server::open_record};

#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Adds a municipality with the programmes of the glossary
    AddMunicipality {
        #[command(flatten)]
        common: Common,
        /// Six digits
        code: MunicipalityCode,
        /// Name
        name: String,
    },
    /// Adds an authority above municipalities, for accounts that see masked figures: a prefecture or the state
    AddAuthority {
        #[command(flatten)]
        common: Common,
        /// The two digits of the prefecture, or 00 for the state, and 0000
        code: MunicipalityCode,
        /// Name
        name: String,
    },
    /// Makes a key pair for push to browsers, as lines for the configuration
    WebPushKey,
    /// Issues an account; the link for the password is mailed
    AddAccount {
        #[command(flatten)]
        common: Common,
        /// Municipality, six digits; for a stats_viewer the authority
        #[arg(long, value_name = "CODE")]
        municipality: MunicipalityCode,
        /// Such as municipal_admin, operator, analyst or stats_viewer
        #[arg(long)]
        role: String,
        /// Address
        #[arg(long)]
        email: String,
        /// Name
        #[arg(long)]
        name: String,
    },
}

pub(super) async fn run(args: AdminArgs) -> anyhow::Result<()> {
    match args.what {
        What::WebPushKey => {
            let keys = VapidKeys::generate()?;
            output::write(
                format!(
                    "[web_push]\npublic_key = \"{}\"\nprivate_key = \"{}\"\nsubject = \"mailto:admin@example.jp\"\n",
                    keys.public_key, keys.private_key
                )
                .as_bytes(),
            )
        }
        What::AddMunicipality { common, code, name } => add_municipality(&common, code, name).await,
        What::AddAuthority { common, code, name } => add_authority(&common, code, name).await,
        What::AddAccount { common, municipality, role, email, name } => {
            let draft = OfficeDraft { email, name, role, ..OfficeDraft::default() };
            add_account(&common, municipality, &draft).await
        }
    }
}

async fn add_municipality(common: &Common, code: MunicipalityCode, name: String) -> anyhow::Result<()> {
    anyhow::ensure!(!code.is_authority(), "{code} is the code of an authority: use add-authority");
    let config = common.load()?;
    let store = open_record(&config, Durability::Full).await?;
    let mut tx = store.begin_write(Wall::None).await?;
    tx.insert_municipality(&Municipality { municipality_code: code.clone(), name }, Clock::system().now()).await?;
    for programme in city::programmes() {
        tx.insert_programme(&code, &programme).await?;
    }
    tx.commit().await?;
    output::write(format!("municipality {code} added\n").as_bytes())
}

/// An authority is a row like a municipality, so that its accounts stand behind a wall of their own: with nothing
/// else behind it.
async fn add_authority(common: &Common, code: MunicipalityCode, name: String) -> anyhow::Result<()> {
    anyhow::ensure!(code.is_authority(), "the code of an authority ends with 0000");
    let config = common.load()?;
    let store = open_record(&config, Durability::Full).await?;
    let mut tx = store.begin_write(Wall::None).await?;
    tx.insert_municipality(&Municipality { municipality_code: code.clone(), name }, Clock::system().now()).await?;
    tx.commit().await?;
    output::write(format!("authority {code} added\n").as_bytes())
}

async fn add_account(common: &Common, municipality: MunicipalityCode, draft: &OfficeDraft) -> anyhow::Result<()> {
    let config = common.load()?;
    let store = open_record(&config, Durability::Full).await?;
    let workflow = Workflow::new(store, Arc::new(NobodyListens), &config.public_url());
    let actor = Actor::system(municipality, "console");
    let account = workflow.issue_account(&actor, draft, Clock::system().now()).await?;
    output::write(format!("account {} issued; the mail with its link is in the queue\n", account.account_id).as_bytes())
}
