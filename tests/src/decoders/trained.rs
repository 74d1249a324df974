//! Files of trained weights, tiny and of each kind: a run's checkpoint, imported weights, a cloned policy.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use foresee_firmware_config::PixelEncoding;
use foresee_models::{
    Compute, FrameStore, ImportOptions, NamedTensors, PretrainOptions, Recipe, Shrink, import, pretrain, save_tensors,
};
use foresee_runtime::Frame;

/// Pixels a side.
const SIZE: usize = 16;

/// What one step of a tiny encoder leaves.
pub(super) fn checkpoint(folder: &Path) -> Option<Vec<u8>> {
    let mut recipe = Recipe::load("mae-64").ok()?;
    let encoder = &mut recipe.encoder;
    (encoder.image_size, encoder.dim, encoder.depth, encoder.heads, encoder.mlp_dim) = (SIZE, 8, 1, 2, 16);
    for decoder in recipe.decoders.values_mut() {
        (decoder.dim, decoder.depth, decoder.heads, decoder.mlp_dim) = (8, 1, 2, 16);
    }
    recipe.data.stored_size = SIZE;
    (recipe.optimiser.batch_size, recipe.optimiser.steps, recipe.optimiser.warm_up_steps) = (2, 1, 0);
    let mut frames = FrameStore::new(SIZE);
    frames.start_clip();
    for level in [60, 120] {
        let mut frame = Frame::black(SIZE as u32, SIZE as u32, PixelEncoding::Rgb8);
        frame.data.fill(level);
        frames.push(&frame, &mut Shrink::new(SIZE).ok()?).ok()?;
    }
    let options = PretrainOptions {
        recipe,
        folder: folder.join("run"),
        seed: Some(0),
        threads: 1,
        decode_threads: 1,
        micro_batch: 2,
        compute: Compute::default(),
        checkpoint_every: Duration::from_secs(60),
        resume: false,
    };
    pretrain(&options, &frames, &mut |_| (), &AtomicBool::new(false)).ok()?;
    std::fs::read(options.folder.join("checkpoint.safetensors")).ok()
}

/// An official encoder as `foresee import` writes it.
pub(super) fn weights(folder: &Path) -> Option<Vec<u8>> {
    let output = folder.join("weights.safetensors");
    let file = crate::root().join("tests/fixtures/import/mae_tiny_encoder.pth");
    import(&ImportOptions { file, output: Some(output.clone()), heads: Some(3), ..ImportOptions::default() }).ok()?;
    std::fs::read(output).ok()
}

/// A policy of one joint on two tokens of three values.
pub(super) fn policy(folder: &Path) -> Option<Vec<u8>> {
    let header = r#"{"format":1,
        "shape":{"num_tokens":2,"token_dim":3,"token_width":2,"num_joint_inputs":3,"hidden_widths":[4],"num_actions":1},
        "position_encoding":"angle","joints":[{"name":"wrist","minimum":-1.0,"maximum":1.0}],"encoder_sha256":"00",
        "options":{"token_width":2,"hidden_widths":[4],"position_encoding":"angle","num_epochs":1,"batch_size":2,
            "learning_rate":0.001,"weight_decay":0.0001,"validation_share":0.1,"seed":0},
        "num_episodes":2,"num_samples":8,
        "epochs":[{"epoch":1,"num_epochs":1,"train_loss":0.5,"validation_loss":0.6,"best":true}]}"#;
    let sizes: [(&str, &[usize]); 12] = [
        ("scaling.token_mean", &[3]),
        ("scaling.token_scale", &[3]),
        ("scaling.joint_mean", &[3]),
        ("scaling.joint_scale", &[3]),
        ("golden.tokens", &[2, 3]),
        ("golden.joints", &[2]),
        ("token.weight", &[3, 2]),
        ("token.bias", &[2]),
        ("dense.0.weight", &[7, 4]),
        ("dense.0.bias", &[4]),
        ("dense.1.weight", &[4, 1]),
        ("dense.1.bias", &[1]),
    ];
    let tensor =
        |(name, shape): (&str, &[usize])| (name.to_owned(), (shape.to_vec(), vec![0.5; shape.iter().product()]));
    let tensors: NamedTensors = sizes.map(tensor).into_iter().collect();
    let path: PathBuf = folder.join("policy.safetensors");
    save_tensors(&path, &tensors, &[("foresee_policy".to_owned(), header.to_owned())]).ok()?;
    std::fs::read(path).ok()
}
