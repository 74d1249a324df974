//! `foresee import`: official checkpoints, read as plain data: nothing in a pickle is ever called.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foresee_models::{HeadsSource, ImportOptions, ImportReport, import};

use crate::output::check_output;
use crate::words::print;

/// Arguments of `foresee import`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// A .pth (zip or older), a .safetensors, one shard of several (all are joined), or their .index.json
    file: PathBuf,
    /// Write the weights as safetensors.
    #[arg(long, value_name = "FILE.safetensors")]
    out: Option<PathBuf>,
    /// Stretch the position tables to images of this many pixels.
    #[arg(long, value_name = "PIXELS")]
    image: Option<usize>,
    /// Attention heads, which no shape tells [default: of the recipe that foresee import wrote, else dim / 64, as in ViT-S, B and L]
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// The set of weights, where the file holds several (without it they are listed), such as model, ema or teacher
    #[arg(long, value_name = "NAME")]
    weights: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when a tensor is missing, extra or of the wrong shape.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(output) = &arguments.out {
        check_output(output, "safetensors", &[&arguments.file])?;
    }
    let report = import(&ImportOptions {
        file: arguments.file.clone(),
        output: arguments.out.clone(),
        image_size: arguments.image,
        heads: arguments.heads,
        weights: arguments.weights.clone(),
    })?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&report)?);
    } else {
        print(&format!("{}: {} tensors, {} values", report.method, report.num_tensors, report.num_values));
        let files =
            if report.files.len() > 1 { format!(", joined from {} shards", report.files.len()) } else { String::new() };
        print(&format!("weights: {}{files}", report.weights));
        print(&heads_line(&report));
        let lists = [
            ("left out", &report.left_out),
            ("missing", &report.missing),
            ("extra", &report.extra),
            ("wrong shape", &report.wrong_shape),
            ("stretched", &report.stretched),
        ];
        for (what, names) in lists {
            for name in names {
                print(&format!("{what}: {name}"));
            }
        }
    }
    Ok(ExitCode::from(u8::from(!report.fits())))
}

/// `3 heads, guessed from the width 48; give --heads N if the model has another number`
fn heads_line(report: &ImportReport) -> String {
    let encoder = &report.recipe.encoder;
    let source = match report.heads_from {
        HeadsSource::Given => "as --heads says".to_owned(),
        HeadsSource::Recipe => "as the file's recipe says".to_owned(),
        HeadsSource::Width => {
            format!("guessed from the width {}; give --heads N if the model has another number", encoder.dim)
        }
    };
    format!("{} heads, {source}", encoder.heads)
}
