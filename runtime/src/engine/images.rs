//! How many images go through an encoder's session at a time: those of all cameras where the graph takes a batch, else one.

use std::path::Path;

use foresee_firmware_config::CameraOrder;

use super::adapters::OnnxEncoder;
use super::{EngineOptions, InferenceSession, Model, OpenedSession, ReadModel, card_error, expect_kind, open_session};
use crate::card::{ModelCard, ModelKind, TensorData};
use crate::error::RuntimeError;
use crate::onnx::{OnnxAxis, OnnxSummary};

/// Opens and proves an encoder for the images of the options' cameras.
pub(super) fn open_onnx_encoder(model: &Path, options: &EngineOptions) -> Result<OnnxEncoder, RuntimeError> {
    let read = ReadModel::load(model, options)?;
    expect_kind(model, &read.card, ModelKind::Encoder)?;
    let one = read.model(model)?;
    let num_images = match options.camera_order {
        CameraOrder::Batch if options.num_cameras > 1 => options.num_cameras,
        CameraOrder::Batch | CameraOrder::RoundRobin => 1,
    };
    let (opened, num_images) = if num_images == 1 {
        (open_session(&one, options)?, 1)
    } else if !takes_batches(&one.summary, &read.card.encoder_interface().image) {
        (one_at_a_time(&one, options, "the graph has no open batch")?, 1)
    } else {
        let card = read.card.for_images(num_images).map_err(|problem| card_error(model, problem))?;
        let refuse = |why: &str| RuntimeError::Model {
            path: model.to_path_buf(),
            problem: format!(
                "leaves its batch open, but a batch of {num_images} is not served as {num_images} single images are: {why}; give `rates.cameras = \"round_robin\"`, or export the encoder with an open batch in every operator"
            ),
        };
        let opened = open_session(&Model { card: &card, ..one.clone() }, options);
        let mut opened = opened.map_err(|refused| refuse(&refused.to_string()))?;
        check_batch(&read.card, num_images, opened.session.as_mut()).map_err(|problem| refuse(&problem))?;
        (opened, num_images)
    };
    let encoder = OnnxEncoder::new(read.card.clone(), opened, num_images);
    encoder.map_err(|problem| card_error(model, problem))
}

/// Whether the graph leaves open how many images it takes at a time.
fn takes_batches(summary: &OnnxSummary, image: &str) -> bool {
    let declared = summary.inputs.iter().find(|input| input.name == image).and_then(|input| input.shape.as_ref());
    declared.is_none_or(|shape| matches!(shape.first(), Some(OnnxAxis::Dynamic(_))))
}

/// Puts the golden image at each place of a batch of other images: it must give there what it gives alone.
fn check_batch(card: &ModelCard, num_images: usize, session: &mut dyn InferenceSession) -> Result<(), String> {
    let [image] = card.inputs.as_slice() else { return Ok(()) };
    let golden = card.golden.inputs.get(&image.name).map_or(Ok(Vec::new()), TensorData::values)?;
    let expected: Vec<Vec<f32>> = card
        .outputs
        .iter()
        .map(|output| card.golden.outputs.get(&output.name).map_or(Ok(Vec::new()), TensorData::values))
        .collect::<Result<_, _>>()?;
    let mut outputs: Vec<Vec<f32>> = expected.iter().map(|values| vec![f32::NAN; num_images * values.len()]).collect();
    for place in 0..num_images {
        let mut batch = Vec::with_capacity(num_images * golden.len());
        for other in 0..num_images {
            // Other pictures of the same numbers: backwards, and each turned by another number of values.
            let turned = golden.iter().rev().cycle().skip(31 * other).take(golden.len());
            if other == place { batch.extend_from_slice(&golden) } else { batch.extend(turned) }
        }
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        session.run(&[&batch], &mut slices)?;
        for ((output, expected), tensor) in outputs.iter().zip(&expected).zip(&card.outputs) {
            let given = output.iter().skip(place * expected.len());
            let differences = given.zip(expected).map(|(a, b)| (a - b).abs());
            let worst =
                differences.fold(0.0_f32, |worst, off| if off.is_nan() { f32::INFINITY } else { worst.max(off) });
            if worst > card.golden.tolerance {
                return Err(format!(
                    "`{}` of image {} of the batch differs by {worst:e} from what that image gives alone: the graph mixes the images of a batch",
                    tensor.name,
                    place + 1
                ));
            }
        }
    }
    Ok(())
}

fn one_at_a_time(model: &Model<'_>, options: &EngineOptions, why: &str) -> Result<OpenedSession, RuntimeError> {
    let mut opened = open_session(model, options)?;
    let reason = &mut opened.report.reason;
    *reason = format!("{reason}; one image at a time, since {why}");
    Ok(opened)
}
