//! How encoders are pretrained and exported: recipes as data, one trainer, one exporter.
//!
//! Depends on `foresee-runtime` for frames, logs, preprocessing, cards and the ONNX writer; knows nothing of policies or
//! simulators. What leaves this crate is an ONNX file and its card.

mod account;
mod bench;
mod blocks;
mod checkpoint;
mod clips;
mod cost;
mod device;
mod encoder;
mod error;
mod export;
mod frames;
mod fused;
mod golden;
mod images;
mod import;
mod kernels;
mod labels;
mod loader;
mod mask;
mod matrix;
mod method;
mod optimiser;
mod parameters;
mod patches;
mod positions;
mod pretrain;
mod probe;
mod random;
mod recipe;
mod scores;
mod step;
mod views;
mod weights;

pub use bench::{BenchOptions, StepPart, step_parts, time_steps};
pub use checkpoint::{Checkpoint, NamedTensors, RunPlace, load_tensors, save_tensors};
pub use clips::{ClipReader, ClipSource, Reading, SamplePlace};
pub use cost::{RecipeCost, recipe_cost};
pub use device::{Arithmetic, Compute, TrainingDevice};
pub use encoder::{EncoderWeights, GridFeatures, TrainedEncoder, load_encoder};
pub use error::ModelsError;
pub use export::{EngineCheck, ExportOptions, ExportResults, Precision, encoder_graph, export};
pub use frames::{FrameStore, Shrink};
pub use golden::{GoldenCheck, GoldenReport, NotCompared, verify_golden};
pub use images::ImageFolder;
pub use import::{HeadsSource, ImportOptions, ImportReport, import};
pub use labels::{
    PropagatedFrame, PropagationRecipe, Protocol, VideoFeatures, key_points, label_pixels, propagate_labels,
};
pub use optimiser::{AdamW, learning_rate};
pub use parameters::{Parameter, ParameterSpec, Parameters, Start, parameter_specs};
pub use positions::{Stretch, interpolate_positions, sin_cos_table};
pub use pretrain::{
    PretrainOptions, PretrainOutcome, PretrainProgress, RunFacts, check_folder, pretrain, run_checkpoint,
};
pub use probe::{
    ClassCounts, ClassMask, FuturePsnr, JointDistances, KeyPointScores, LabelledImages, LabelledPoints, LabelledVideo,
    LinearProbe, MaskScores, NEAREST_TEMPERATURE, NUM_NEAREST, ProbeEncoder, Samples, VIP_CLASSES, VideoSource,
    classify_by_nearest, classify_linearly, davis_2017, explained_variance, future_psnr, jhmdb, key_point_scores,
    labelled_images, linear_probe, mask_scores, predict_by_nearest, propagate_key_points, propagate_masks,
    save_propagation, vip,
};
pub use recipe::{
    BlockKind, DataRecipe, DecoderRecipe, EncoderRecipe, EncodingRecipe, LatentRecipe, MaskRule, MemoryRecipe,
    OptimiserRecipe, Positions, QueriesRecipe, RECIPES, Recipe, TermRecipe, TokensRecipe, ViewsKind, ViewsRecipe,
};
pub use scores::{
    BinaryMask, KeyPoints, ScoreStatistics, boundary, boundary_accuracy, class_overlaps, correct_key_points,
    joint_boxes, mean_of_numbers, region_similarity, score_statistics,
};
