//! `foresee card make`: an encoder or a policy from elsewhere gets its card.

use std::path::Path;

use anyhow::{Context, bail};
use foresee_runtime::{
    AdmitOptions, Admitted, ClassTokenChoice, Crop, ImageLayout, ModelCard, PolicyAdmitOptions, PreprocessingCard,
    Provenance, Resize, RuntimeError, TokenLayout, admit_encoder, admit_policy, copy_model, declared_image_size,
};

use super::{LayoutArgument, Make, MapArgument, ResizeArgument, print_card};
use crate::models::describe;
use crate::words::{print, say};
use crate::{machine, trail};

/// Admits it.
///
/// # Errors
/// One line that names what is wrong and the fix; a copy of `--out` is removed then.
pub(super) fn act(make: &Make) -> anyhow::Result<()> {
    let model = make.out.as_ref().unwrap_or(&make.model);
    let card_path = ModelCard::path_of(model);
    if card_path.exists() && !make.force {
        bail!("{}: is there already; --force makes a new one", card_path.display());
    }
    let mut copied = Vec::new();
    if let Some(out) = &make.out {
        copied = copy_model(&make.model, out, make.force)?;
    }
    let admitted = admit(make, model).inspect_err(|_| {
        // The refusal is what matters; a copy that is left harms nobody.
        copied.iter().for_each(|file| _ = std::fs::remove_file(file));
    })?;
    admitted.notes.iter().for_each(|note| say(note));
    say(&format!("proved on {}", describe(&admitted.report)));
    if make.json {
        print(&serde_json::to_string_pretty(&admitted.card)?);
    } else {
        print_card(model, &admitted.card);
    }
    Ok(())
}

fn admit(make: &Make, model: &Path) -> anyhow::Result<Admitted> {
    let profile = foresee_firmware_config::load(&make.profile)?;
    let engine = make.engine.options(&profile)?;
    let admitted = match &make.encoder {
        Some(encoder) if make.policy => {
            let joints = profile.joints.iter().map(|joint| joint.name.clone()).collect();
            let options = PolicyAdmitOptions {
                name: name_of(make, model),
                joints,
                tolerance: make.tolerance,
                provenance: provenance(make),
            };
            admit_policy(model, &ModelCard::load(encoder)?, &options, &engine)
        }
        _ => admit_encoder(model, &encoder_options(make, model)?, &engine),
    };
    admitted.map_err(|error| match error {
        RuntimeError::File { path, source }
            if source.kind() == std::io::ErrorKind::PermissionDenied
                || source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
        {
            anyhow::anyhow!("{}: {source}; --out FILE.onnx copies the model and leaves its card there", path.display())
        }
        other => other.into(),
    })
}

fn name_of(make: &Make, model: &Path) -> String {
    let stem = || model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    make.name.clone().unwrap_or_else(stem)
}

fn provenance(make: &Make) -> Provenance {
    Provenance {
        commands: vec![trail::command_line()],
        git_revision: machine::GIT_REVISION.to_owned(),
        data: make.data.clone(),
        ..Provenance::default()
    }
}

fn encoder_options(make: &Make, model: &Path) -> anyhow::Result<AdmitOptions> {
    let (mean, std) = normalisation(&make.normalise)?;
    let (height, width) = match &make.image {
        Some(text) => image_size(text)?,
        None => declared_image_size(model)?,
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
    Ok(AdmitOptions {
        name: name_of(make, model),
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
        provenance: provenance(make),
    })
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
