//! `foresee export`: a trained model as ONNX with its card.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use foresee_models::ExportOptions;
use foresee_policies::{ExportNotes, PolicyCheckpoint, export_policy};
use foresee_runtime::{ModelCard, Provenance};

use crate::words::print;
use crate::{machine, trail};

/// Arguments of `foresee export`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// What foresee pretrain wrote.
    Encoder(ModelArguments),
    /// What foresee train wrote.
    Policy(ModelArguments),
}

#[derive(Args)]
struct ModelArguments {
    /// checkpoint.safetensors of foresee pretrain, or policy.safetensors of foresee train
    checkpoint: PathBuf,
    /// The ONNX file to write; its card goes beside it.
    #[arg(long, value_name = "FILE.onnx")]
    out: PathBuf,
    /// What the data were, for the card.
    #[arg(long, default_value = "", value_name = "TEXT")]
    data: String,
    /// Print the card as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes model and card.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (Kind::Encoder(model) | Kind::Policy(model)) = &arguments.kind;
    let name = model.out.file_stem().context("--out FILE.onnx: name a file")?.to_string_lossy().into_owned();
    let run = model.checkpoint.parent().unwrap_or(Path::new("."));
    let mut commands = trail::behind([run]);
    commands.push(trail::command_line());
    if let Some(folder) = model.out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    let git_revision = machine::GIT_REVISION.to_owned();
    let card = match &arguments.kind {
        Kind::Encoder(_) => foresee_models::export(&ExportOptions {
            checkpoint: model.checkpoint.clone(),
            output: model.out.clone(),
            name,
            provenance: Provenance { commands, git_revision, data: model.data.clone(), ..Provenance::default() },
        })?,
        Kind::Policy(_) => {
            let checkpoint = PolicyCheckpoint::load(&model.checkpoint)?;
            let results = serde_json::json!({});
            let notes =
                ExportNotes { name, commands, git_revision, data: model.data.clone(), seeds: Vec::new(), results };
            export_policy(&checkpoint, &model.out, &notes)?
        }
    };
    report(&model.out, &card, model.json)?;
    Ok(ExitCode::SUCCESS)
}

fn report(path: &Path, card: &ModelCard, json: bool) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_string_pretty(card)?);
    } else {
        print(&format!("{}  sha256 {}", path.display(), card.sha256));
        print(&ModelCard::path_of(path).display().to_string());
    }
    Ok(())
}
