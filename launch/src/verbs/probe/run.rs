//! What every probe shares: its encoders, the two baselines beside them, its run folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use foresee_models::{EncoderWeights, ProbeEncoder, Recipe};
use foresee_runtime::{sha256_file, write_atomically};

use super::page;
use super::scores::{EncoderScores, Gathered, INTERVAL, ProbeResult, Score};
use crate::words::print;
use crate::{machine, trail};

/// The recipe whose sizes the baselines have when no encoder is given.
const DEFAULT_RECIPE: &str = "mae-64";

/// Arguments that every probe takes.
#[derive(Args)]
pub(crate) struct ProbeArguments {
    /// What foresee pretrain or foresee import wrote; may be given more than once. Raw pixels and a random encoder of the first one's
    /// sizes are always probed beside them.
    #[arg(long, value_name = "FILE.safetensors")]
    encoder: Vec<PathBuf>,
    /// Run folder: result.json, report.html, pictures.
    #[arg(long, default_value = "runs/probe", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One row of a probe: its encoder depends on the seed only for the random one.
pub(crate) struct Subject {
    pub(crate) name: String,
    kind: Kind,
    recipe: Recipe,
    gathered: Gathered,
    /// Scores that came with their interval.
    made: BTreeMap<String, Score>,
}

enum Kind {
    File { path: PathBuf, weights: Box<EncoderWeights> },
    RawPixels,
    Random,
}

impl ProbeArguments {
    /// The baselines and the encoders of the files.
    ///
    /// # Errors
    /// Names the file that is neither a checkpoint nor an import.
    pub(crate) fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        let mut loaded = Vec::new();
        for path in &self.encoder {
            loaded.push((path.clone(), EncoderWeights::load(path)?));
        }
        let recipe = match loaded.first() {
            Some((_, weights)) => weights.recipe.clone(),
            None => Recipe::load(DEFAULT_RECIPE)?,
        };
        let subject = |name: String, kind, recipe: &Recipe| Subject {
            name,
            kind,
            recipe: recipe.clone(),
            gathered: Gathered::default(),
            made: BTreeMap::new(),
        };
        let mut subjects = vec![
            subject("raw pixels".to_owned(), Kind::RawPixels, &recipe),
            subject("random encoder".to_owned(), Kind::Random, &recipe),
        ];
        for (path, weights) in loaded {
            let name = name_of(&path, &weights);
            let name = match subjects.iter().any(|subject| subject.name == name) {
                true => path.display().to_string(),
                false => name,
            };
            let recipe = weights.recipe.clone();
            subjects.push(subject(name, Kind::File { path, weights: Box::new(weights) }, &recipe));
        }
        Ok(subjects)
    }

    /// Where the picture of this number goes; makes the run folder, which bad input does not.
    ///
    /// # Errors
    /// Names the folder that cannot be made.
    pub(crate) fn picture(&self, picture_idx: usize) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("{}: cannot be made", self.out.display()))?;
        Ok(self.out.join(format!("labels-{picture_idx}.png")))
    }

    /// Writes `result.json`, `report.html` and `commands.json`, and prints the scores.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn finish(&self, mut result: ProbeResult, subjects: Vec<Subject>) -> anyhow::Result<()> {
        if result.interval.is_empty() {
            result.interval = INTERVAL.to_owned();
        }
        result.git_revision = machine::GIT_REVISION.to_owned();
        result.cpu_features = machine::cpu_features().into_iter().map(str::to_owned).collect();
        for subject in subjects {
            result.encoders.push(subject.scores()?);
        }
        std::fs::create_dir_all(&self.out).with_context(|| format!("{}: cannot be made", self.out.display()))?;
        write_atomically(&self.out.join("result.json"), &serde_json::to_vec_pretty(&result)?)?;
        page::write(&self.out, &result)?;
        let inputs = self.encoder.iter().filter_map(|path| path.parent());
        trail::leave(&self.out, inputs)?;
        if self.json {
            print(&serde_json::to_string_pretty(&result)?);
            return Ok(());
        }
        for encoder in &result.encoders {
            print(&encoder.name);
            for (name, score) in &encoder.scores {
                print(&format!("  {name:<34} {}", score.text(1)));
            }
        }
        print(&self.out.join("report.html").display().to_string());
        Ok(())
    }
}

impl Subject {
    /// What is probed under this seed.
    pub(crate) fn encoder(&self, seed: u64) -> ProbeEncoder {
        match &self.kind {
            Kind::File { weights, .. } => ProbeEncoder::trained(&self.name, weights),
            Kind::RawPixels => ProbeEncoder::raw_pixels(&self.name, &self.recipe),
            Kind::Random => ProbeEncoder::random(&self.name, &self.recipe, seed),
        }
    }

    /// The seeds that make another encoder of it: all for the random one, else the first.
    pub(crate) fn seeds(&self, num_seeds: u64) -> std::ops::Range<u64> {
        0..if matches!(self.kind, Kind::Random) { num_seeds } else { 1 }
    }

    /// Patches down and across of the size that it was trained on.
    pub(crate) fn trained_grid(&self) -> [usize; 2] {
        [self.recipe.encoder.image_size / self.recipe.encoder.patch_size; 2]
    }

    /// One value more of each of these scores.
    pub(crate) fn add_means(&mut self, gathered: &Gathered) {
        gathered.means().iter().for_each(|(name, value)| self.gathered.add(name, *value));
    }

    /// All of these values.
    pub(crate) fn extend(&mut self, gathered: Gathered) {
        self.gathered.extend(gathered);
    }

    /// These scores, with the intervals that they have.
    pub(crate) fn set(&mut self, scores: BTreeMap<String, Score>) {
        self.made.extend(scores);
    }

    fn scores(&self) -> anyhow::Result<EncoderScores> {
        let source = match &self.kind {
            Kind::File { path, .. } => Some(format!("{} sha256 {}", path.display(), sha256_file(path)?)),
            Kind::RawPixels | Kind::Random => None,
        };
        let mut scores = self.gathered.scores();
        scores.extend(self.made.clone());
        Ok(EncoderScores { name: self.name.clone(), source, scores })
    }
}

/// The grid of a square picture of this many pixels.
///
/// # Errors
/// When the patch does not divide it.
pub(crate) fn square_grid(pixels: usize, patch: usize) -> anyhow::Result<[usize; 2]> {
    if pixels == 0 || !pixels.is_multiple_of(patch) {
        bail!("--size {pixels}: give a multiple of the encoder's patch, {patch} pixels");
    }
    Ok([pixels / patch; 2])
}

fn name_of(path: &Path, weights: &EncoderWeights) -> String {
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match (path.file_stem().map(|stem| stem.to_string_lossy().into_owned()), folder) {
        // A checkpoint is known by the folder of its run.
        (Some(stem), Some(folder)) if stem == "checkpoint" => folder,
        (Some(stem), _) => stem,
        _ => weights.recipe.name.clone(),
    }
}
