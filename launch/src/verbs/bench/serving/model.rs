//! The model that is measured when none is given.

use std::path::{Path, PathBuf};

use foresee_runtime::{
    AdmitOptions, ClassTokenChoice, EngineOptions, PreprocessingCard, Provenance, Resize, admit_encoder,
};

/// ViT-S/16 at 224 with random weights, written by our own exporter, with its card.
#[cfg(feature = "pretrain")]
pub(super) fn vit_small(folder: &Path, engine: &EngineOptions) -> anyhow::Result<PathBuf> {
    use foresee_models::{Parameters, Recipe, encoder_graph};

    let mut recipe = Recipe::load("mae")?;
    // As OpenCV's chain, which it is measured beside.
    recipe.data.resize = Resize::BilinearAntialias;
    let graph = encoder_graph(&recipe.encoder, &Parameters::initialise(&recipe, 0), "vit-s16-224")?;
    let path = folder.join("vit-s16-224.onnx");
    foresee_runtime::write_model(&path, &graph.to_bytes())?;
    admit(&path, (recipe.encoder.image_size, Some(serde_json::to_value(&recipe)?)), engine)?;
    Ok(path)
}

#[cfg(not(feature = "pretrain"))]
pub(super) fn vit_small(_folder: &Path, _engine: &EngineOptions) -> anyhow::Result<PathBuf> {
    anyhow::bail!("this build has no exporter to make a ViT-S/16 with; give --encoder FILE.onnx")
}

/// Writes the card of an encoder of square images; with its recipe, foresee export makes other formats of it.
pub(super) fn admit(
    model: &Path,
    (side, recipe): (usize, Option<serde_json::Value>),
    engine: &EngineOptions,
) -> anyhow::Result<()> {
    let preprocessing = PreprocessingCard {
        width: side,
        height: side,
        resize: Resize::BilinearAntialias,
        crop: None,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        hash: String::new(),
    };
    let options = AdmitOptions {
        name: model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        preprocessing: preprocessing.with_hash(),
        layout: None,
        tokens: None,
        token_layout: None,
        num_prefix_tokens: Some(0),
        cls: ClassTokenChoice::Found,
        tolerance: None,
        provenance: Provenance { recipe: recipe.unwrap_or_default(), ..Provenance::default() },
    };
    admit_encoder(model, &options, engine).map(drop).map_err(Into::into)
}
