//! `foresee card`: admits models from elsewhere, signs models, shows what a card holds.

mod make;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use foresee_runtime::{ModelCard, PreprocessingCard, SigningKey, check_model};

use crate::models::EngineArguments;
use crate::words::print;

/// Arguments of `foresee card`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Admit an encoder, or with --policy a policy, that was exported elsewhere: find its tensors, run it once, write its card.
    Make(Box<Make>),
    /// Make a pair of keys to sign models with.
    Keygen(Keygen),
    /// Sign a model: its card, which names the model by its hash.
    Sign(Sign),
    /// Say what a model's card holds, and whether it is the card of this file.
    Show(Show),
}

#[derive(Args)]
struct Make {
    /// The model, as PyTorch, timm or any other exporter wrote it
    model: PathBuf,
    /// Size of the image that it takes, in pixels [default: the graph's]
    #[arg(long, value_name = "SIDE|HEIGHTxWIDTH")]
    image: Option<String>,
    /// Normalisation: imagenet, half (to -1..1), clip, none, or MEAN,MEAN,MEAN/STD,STD,STD of red, green, blue in 0..1
    #[arg(long, default_value = "imagenet", value_name = "NAME|MEAN/STD")]
    normalise: String,
    /// Resampling.
    #[arg(long, value_enum, default_value = "bilinear")]
    resize: ResizeArgument,
    /// Take the centred region of the input's aspect ratio, its sides times this (timm's crop_pct); 1 keeps all of one side [default: all of the image, stretched]
    #[arg(long, value_name = "FRACTION")]
    crop: Option<f32>,
    /// Order of the image's dimensions, where the graph leaves it open.
    #[arg(long, value_enum)]
    layout: Option<LayoutArgument>,
    /// Output that holds the tokens, where there are several.
    #[arg(long, value_name = "NAME")]
    tokens: Option<String>,
    /// How a map of features lies, where the graph leaves it open.
    #[arg(long, value_enum)]
    map: Option<MapArgument>,
    /// Rows before the patches' (class, distillation, register tokens) [default: by the operators that make the patches]
    #[arg(long, value_name = "N")]
    prefix_tokens: Option<usize>,
    /// Class token: `first` row, `mean` over the tokens, or the name of an output [default: found]
    #[arg(long, value_name = "first|mean|NAME")]
    cls: Option<String>,
    /// Largest difference from the golden output that a device may have [default: 1e-4 of the largest value, 2e-2 in f16]
    #[arg(long, value_name = "DIFFERENCE", allow_negative_numbers = true)]
    tolerance: Option<f32>,
    /// For people [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// What it was trained on, for the card.
    #[arg(long, default_value = "", value_name = "TEXT")]
    data: String,
    /// The model is a policy: `tokens` and `joints` in, `action` out.
    #[arg(long, requires = "encoder")]
    policy: bool,
    /// The encoder that a policy takes its features from; an ONNX file with its card beside it
    #[arg(long, value_name = "FILE.onnx", requires = "policy")]
    encoder: Option<PathBuf>,
    /// The profile that has a policy's joints and cameras: a name or a file
    #[arg(long, default_value = "desktop-sim", value_name = "PROFILE")]
    profile: String,
    /// Copy the model with its weights to this file, and leave the card beside the copy.
    #[arg(long, value_name = "FILE.onnx")]
    out: Option<PathBuf>,
    /// Replace a card that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    engine: EngineArguments,
    /// Print the card as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Keygen {
    /// File of the secret key; the public one goes beside it as .pub
    key: PathBuf,
}

#[derive(Args)]
struct Sign {
    /// An ONNX file with its card beside it
    model: PathBuf,
    /// Secret key of `foresee card keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Args)]
struct Show {
    /// An ONNX file with its card beside it
    model: PathBuf,
    /// Print the card as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ResizeArgument {
    /// Triangle kernel with antialias (PIL, torchvision).
    Bilinear,
    /// Cubic kernel with antialias (PIL, torchvision).
    Bicubic,
    /// Mean over the area of a pixel (OpenCV's INTER_AREA).
    Area,
    /// Triangle kernel without antialias (OpenCV's INTER_LINEAR).
    BilinearPlain,
    /// Cubic kernel without antialias (OpenCV's INTER_CUBIC).
    BicubicPlain,
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutArgument {
    /// [1, 3, H, W]
    Nchw,
    /// [1, H, W, 3]
    Nhwc,
}

#[derive(Clone, Copy, ValueEnum)]
enum MapArgument {
    /// [1, D, h, w]
    ChannelsFirst,
    /// [1, h, w, D]
    ChannelsLast,
}

/// Does it.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        What::Make(make) => make::act(make)?,
        What::Keygen(keygen) => {
            let key = SigningKey::generate()?;
            let public = key.save(&keygen.key)?;
            print(&format!("{}  keep it secret", keygen.key.display()));
            print(&format!("{}  {}", public.display(), key.verifying_key().to_hex()));
        }
        What::Sign(sign) => {
            let signature = SigningKey::load(&sign.key)?.sign(&sign.model)?;
            print(&signature.display().to_string());
        }
        What::Show(show) => {
            let (card, signed_by) = check_model(&show.model)?;
            if show.json {
                print(&serde_json::to_string_pretty(&card)?);
            } else {
                print_card(&show.model, &card);
                print(&signed_by.map_or_else(|| "not signed".to_owned(), |key| format!("signed by {key}")));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_card(model: &Path, card: &ModelCard) {
    print(&format!("{}  sha256 {}", model.display(), card.sha256));
    if let Ok((num_tokens, dim)) = card.feature_shape() {
        print(&format!("{}: {num_tokens} tokens of {dim}", card.name));
    }
    if let Some(preprocessing) = &card.preprocessing {
        let PreprocessingCard { width, height, resize, mean, std, .. } = preprocessing;
        print(&format!("{width}x{height} {} mean {mean:?} std {std:?}", resize.name()));
    }
    print(&ModelCard::path_of(model).display().to_string());
}
