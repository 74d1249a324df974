//! `foresee card`: admits encoders from elsewhere, signs models, says what a card holds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use foresee_runtime::{
    AdmitOptions, ClassTokenChoice, Crop, ImageLayout, ModelCard, PreprocessingCard, Provenance, Resize, SigningKey,
    TokenLayout, admit_encoder, check_model, declared_image_size,
};

use crate::models::{EngineArguments, describe};
use crate::words::{print, say};
use crate::{machine, trail};

/// Arguments of `foresee card`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Admit an encoder that was exported elsewhere: find its tensors, run it once, write its card.
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
    /// The encoder, as PyTorch, timm or any other exporter wrote it
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
        What::Make(make) => admit(make)?,
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

fn admit(make: &Make) -> anyhow::Result<()> {
    let card_path = ModelCard::path_of(&make.model);
    if card_path.exists() && !make.force {
        bail!("{}: is there already; --force makes it anew", card_path.display());
    }
    let stem = make.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (mean, std) = normalisation(&make.normalise)?;
    let (height, width) = match &make.image {
        Some(text) => image_size(text)?,
        None => declared_image_size(&make.model)?,
    };
    let preprocessing = PreprocessingCard {
        width,
        height,
        resize: match make.resize {
            ResizeArgument::Bilinear => Resize::BilinearAntialias,
            ResizeArgument::Bicubic => Resize::BicubicAntialias,
            ResizeArgument::Area => Resize::Area,
            ResizeArgument::BilinearPlain => Resize::Bilinear,
            ResizeArgument::BicubicPlain => Resize::Bicubic,
        },
        crop: make.crop.map(|fraction| Crop::Centre { fraction }),
        mean,
        std,
        hash: String::new(),
    };
    let options = AdmitOptions {
        name: make.name.clone().unwrap_or(stem),
        preprocessing: preprocessing.with_hash(),
        layout: make.layout.map(|layout| match layout {
            LayoutArgument::Nchw => ImageLayout::Nchw,
            LayoutArgument::Nhwc => ImageLayout::Nhwc,
        }),
        tokens: make.tokens.clone(),
        token_layout: make.map.map(|map| match map {
            MapArgument::ChannelsFirst => TokenLayout::ChannelsFirst,
            MapArgument::ChannelsLast => TokenLayout::ChannelsLast,
        }),
        num_prefix_tokens: make.prefix_tokens,
        cls: match make.cls.as_deref() {
            None => ClassTokenChoice::Found,
            Some("first") => ClassTokenChoice::First,
            Some("mean") => ClassTokenChoice::Mean,
            Some(name) => ClassTokenChoice::Output(name.to_owned()),
        },
        tolerance: make.tolerance,
        provenance: Provenance {
            commands: vec![trail::command_line()],
            git_revision: machine::GIT_REVISION.to_owned(),
            data: make.data.clone(),
            ..Provenance::default()
        },
    };
    let profile = foresee_firmware_config::load("desktop-sim")?;
    let admitted = admit_encoder(&make.model, &options, &make.engine.options(&profile)?)?;
    admitted.notes.iter().for_each(|note| say(note));
    say(&format!("proved on {}", describe(&admitted.report)));
    if make.json {
        print(&serde_json::to_string_pretty(&admitted.card)?);
    } else {
        print_card(&make.model, &admitted.card);
    }
    Ok(())
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

/// Mean and std of red, green, blue.
fn normalisation(text: &str) -> anyhow::Result<([f32; 3], [f32; 3])> {
    match text {
        "imagenet" => return Ok(([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        "half" => return Ok(([0.5; 3], [0.5; 3])),
        "clip" => return Ok(([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1])),
        "none" => return Ok(([0.0; 3], [1.0; 3])),
        _ => {}
    }
    let three = |part: &str| -> Option<[f32; 3]> {
        let values: Vec<f32> = part.split(',').map(|value| value.trim().parse().ok()).collect::<Option<_>>()?;
        values.try_into().ok()
    };
    let given = text.split_once('/').and_then(|(mean, std)| Some((three(mean)?, three(std)?)));
    given.with_context(|| {
        format!("--normalise {text:?}: give imagenet, half, clip, none, or three means and three stds such as 0.5,0.5,0.5/0.25,0.25,0.25")
    })
}

/// Height and width.
fn image_size(text: &str) -> anyhow::Result<(usize, usize)> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let sizes =
        height.parse().ok().zip(width.parse().ok()).filter(|(height, width): &(usize, usize)| *height.min(width) > 0);
    sizes.with_context(|| {
        format!("--image {text:?}: give a side in pixels such as 224, or HEIGHTxWIDTH such as 192x256")
    })
}
