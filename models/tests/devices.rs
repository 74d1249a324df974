//! Other devices compute what the CPU device computes. Of a build with the feature `tch`, on libtorch's CPU:
//! `cargo test -p foresee-models --features tch --test devices`, the environment as launch/gpu/foresee sets it.

#![cfg(feature = "tch")]
#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use foresee_firmware_config::PixelEncoding;
use foresee_models::{
    Arithmetic, Compute, FrameStore, PretrainOptions, PretrainProgress, RECIPES, Recipe, Shrink, TrainingDevice,
    pretrain,
};
use foresee_runtime::Frame;

const STEPS: usize = 6;

/// One clip of a square that drifts over a shaded ground.
fn drifting_square() -> FrameStore {
    let mut store = FrameStore::new(64);
    let mut shrink = Shrink::new(64).expect("a size");
    let mut frame = Frame::black(64, 64, PixelEncoding::Rgb8);
    for frame_idx in 0..60 {
        for (pixel_idx, pixel) in frame.data.chunks_exact_mut(3).enumerate() {
            let [x, y] = [pixel_idx % 64, pixel_idx / 64];
            let inside = (frame_idx % 48..frame_idx % 48 + 16).contains(&x) && (20..36).contains(&y);
            pixel.copy_from_slice(&if inside { [250, 90, 20] } else { [(2 * x) as u8, (3 * y) as u8, 90] });
        }
        store.push(&frame, &mut shrink).expect("fits");
    }
    store
}

/// The recipe with few blocks and few patches.
fn small(name: &str) -> Recipe {
    let mut recipe = Recipe::load(name).expect(name);
    recipe.encoder.image_size = 4 * recipe.encoder.patch_size;
    recipe.encoder.depth = 2;
    recipe.decoders.values_mut().for_each(|decoder| decoder.depth = 1);
    recipe.encodings.iter_mut().for_each(|encoding| encoding.mask_ratio = encoding.mask_ratio.min(0.75));
    recipe.optimiser.base_learning_rate = 0.01;
    recipe.optimiser.batch_size = 4;
    recipe.optimiser.steps = STEPS;
    recipe.optimiser.warm_up_steps = 1;
    recipe.data.stored_size = 64;
    recipe
}

/// Loss and gradient norm of each step.
fn train(recipe: &Recipe, devices: &[TrainingDevice], arithmetic: Arithmetic) -> Vec<[f64; 2]> {
    let folder = tempfile::tempdir().expect("a folder");
    let options = PretrainOptions {
        recipe: recipe.clone(),
        folder: folder.path().to_path_buf(),
        seed: Some(5),
        threads: 2,
        decode_threads: 1,
        micro_batch: 2,
        compute: Compute { devices: devices.to_vec(), arithmetic },
        checkpoint_every: Duration::from_secs(3600),
        resume: false,
    };
    let mut steps = Vec::new();
    let mut observer = |progress: &PretrainProgress| steps.push([progress.loss, progress.gradient_norm]);
    pretrain(&options, &drifting_square(), &mut observer, &AtomicBool::new(false)).expect("trains");
    assert_eq!(steps.len(), STEPS);
    steps
}

/// The largest relative difference of two runs.
fn worst(a: &[[f64; 2]], b: &[[f64; 2]]) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max)
}

#[test]
fn every_recipe_trains_on_libtorch_as_on_the_cpu_device() {
    for (name, _) in RECIPES {
        let recipe = small(name);
        let [ours, theirs] =
            [TrainingDevice::Flex, TrainingDevice::TchCpu].map(|device| train(&recipe, &[device], Arithmetic::F32));
        let worst = worst(&theirs, &ours);
        println!("{name}: {worst:.1e}");
        assert!(worst < 1e-3, "{name}: {worst} {ours:?} {theirs:?}");
    }
}

#[test]
fn shards_on_two_devices_train_as_on_one() {
    let recipe = small("rsp");
    let one = train(&recipe, &[TrainingDevice::TchCpu], Arithmetic::F32);
    let mixed = train(&recipe, &[TrainingDevice::TchCpu, TrainingDevice::Flex], Arithmetic::F32);
    assert!(worst(&mixed, &one) < 1e-3 && mixed != one, "{one:?} {mixed:?}");
}

#[test]
fn bf16_products_stay_near_f32() {
    for name in ["mae", "rsp", "siam-mae", "croco"] {
        let recipe = small(name);
        let [full, half] =
            [Arithmetic::F32, Arithmetic::Bf16].map(|numbers| train(&recipe, &[TrainingDevice::TchCpu], numbers));
        let losses = |steps: &[[f64; 2]]| steps.iter().map(|[loss, _]| [*loss, 1.0]).collect::<Vec<_>>();
        let worst = worst(&losses(&half), &losses(&full));
        println!("{name}: {worst:.1e}");
        assert!(half != full && worst < 0.03, "{name}: {worst} {full:?} {half:?}");
    }
}
