//! `foresee export`: a trained model as ONNX with its card.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use foresee_firmware_config::Provider;
use foresee_models::{EngineCheck, ExportOptions, ExportResults, Precision};
use foresee_policies::{ExportNotes, PolicyCheckpoint, export_policy};
use foresee_runtime::{EngineOptions, ModelCard, Provenance};

use crate::output::check_output;
use crate::words::{print, say};
use crate::{machine, places, trail};

/// Arguments of `foresee export`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// What foresee pretrain or foresee import wrote, or an f32 ONNX file of this verb, in any precision.
    Encoder(EncoderArguments),
    /// What foresee train wrote.
    Policy(ModelArguments),
    /// Neither word was given.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

#[derive(Args)]
struct EncoderArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What the graph computes in; input and outputs are f32 in each.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArgument,
    /// Logs, or folders of logs, on whose frames int8 is calibrated and every engine is compared; may be given more than once.
    #[arg(long, value_name = "DIR|FILE")]
    calibrate: Vec<PathBuf>,
    /// ONNX Runtime's shared library [default: ORT_DYLIB_PATH, else the one that launch/setup unpacked]
    #[arg(long, value_name = "FILE.so")]
    onnxruntime: Option<PathBuf>,
}

/// What an exported graph computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionArgument {
    /// 32-bit float.
    F32,
    /// 16-bit float; LayerNorm, softmax, GELU and the residual sum stay in f32.
    F16,
    /// Matrix products with 8-bit weights, activations scaled at run time.
    Int8,
}

#[derive(Args)]
struct ModelArguments {
    /// checkpoint.safetensors of foresee pretrain, policy.safetensors of foresee train, or an f32 ONNX file of an encoder
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
    let model = match &arguments.kind {
        Kind::Encoder(arguments) => &arguments.model,
        Kind::Policy(model) => model,
        Kind::Other(words) => {
            let file = words.first().map_or("", String::as_str);
            must_be_ours(Path::new(file))?;
            bail!(
                "export {file}: say what it is: `foresee export encoder {file} --out FILE.onnx`, or `foresee export policy ...`"
            );
        }
    };
    must_be_ours(&model.checkpoint)?;
    check_output(&model.out, "onnx", &[&model.checkpoint])?;
    let name = model.out.file_stem().context("--out FILE.onnx: name a file")?.to_string_lossy().into_owned();
    let run = model.checkpoint.parent().unwrap_or(Path::new("."));
    let mut commands = trail::behind([run]);
    commands.push(trail::command_line());
    if let Some(folder) = model.out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    let git_revision = machine::GIT_REVISION.to_owned();
    let card = match &arguments.kind {
        Kind::Encoder(arguments) => {
            let provenance = Provenance { commands, git_revision, data: model.data.clone(), ..Provenance::default() };
            export_encoder(arguments, name, provenance)?
        }
        // The other was refused above.
        Kind::Policy(_) | Kind::Other(_) => {
            let checkpoint = policy(&model.checkpoint)?;
            let results = serde_json::json!({});
            let notes =
                ExportNotes { name, commands, git_revision, data: model.data.clone(), seeds: Vec::new(), results };
            export_policy(&checkpoint, &model.out, &notes)?
        }
    };
    report(&model.out, &card, model.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Files of PyTorch are imported first.
fn must_be_ours(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pth" | "pt" | "bin" | "ckpt") => bail!(
            "{shown}: is a file of PyTorch; first `foresee import {shown} --out encoder.safetensors`, then `foresee export encoder encoder.safetensors --out FILE.onnx`"
        ),
        _ => Ok(()),
    }
}

/// The policy in a file; what else the file is, is said.
fn policy(path: &Path) -> anyhow::Result<PolicyCheckpoint> {
    let shown = path.display();
    if path.extension().is_some_and(|extension| extension == "onnx") {
        bail!("{shown}: is an ONNX file; export policy takes the policy.safetensors that foresee train wrote");
    }
    let loaded = PolicyCheckpoint::load(path);
    if path.is_file() {
        return loaded.with_context(|| format!("{shown}: is not what foresee train wrote"));
    }
    Ok(loaded?)
}

fn export_encoder(arguments: &EncoderArguments, name: String, provenance: Provenance) -> anyhow::Result<ModelCard> {
    let EncoderArguments { model, precision, calibrate, onnxruntime } = arguments;
    if *precision == PrecisionArgument::Int8 && calibrate.is_empty() {
        say("int8 without --calibrate: ranges come from the weights alone; give logs of what the camera will see");
    }
    let library = places::onnxruntime(onnxruntime.as_deref());
    let engine = |provider| EngineOptions { library: library.clone(), ..EngineOptions::exactly(provider) };
    let card = foresee_models::export(&ExportOptions {
        checkpoint: model.checkpoint.clone(),
        output: model.out.clone(),
        name,
        provenance,
        precision: match precision {
            PrecisionArgument::F32 => Precision::F32,
            PrecisionArgument::F16 => Precision::F16,
            PrecisionArgument::Int8 => Precision::Int8,
        },
        calibration: calibrate.clone(),
        engines: [Provider::Cpu, Provider::Tract].map(engine).to_vec(),
    })?;
    let results: ExportResults = serde_json::from_value(card.provenance.results.clone())?;
    for check in &results.engines {
        say(&engine_line(check));
    }
    Ok(card)
}

/// `onnxruntime 1.31.1: cosine of tokens 1.000000, of cls 1.000000, largest error 2.1e-6, 9 inputs`
fn engine_line(check: &EngineCheck) -> String {
    let name = check.engine.as_deref().unwrap_or(&check.provider);
    match (&check.refused, check.cosine_tokens, check.cosine_cls, check.max_error) {
        (None, Some(tokens), Some(cls), Some(error)) => format!(
            "{name}: cosine of tokens {tokens:.6}, of cls {cls:.6}, largest error {error:.1e}, {} inputs",
            check.inputs
        ),
        (refused, ..) => format!("{name}: refuses ({})", refused.as_deref().unwrap_or("no reason given")),
    }
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
