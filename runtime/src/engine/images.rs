//! How many images go through an encoder's session at a time: those of all cameras where the graph takes a batch, else one.

use std::path::Path;

use foresee_firmware_config::CameraOrder;

use super::adapters::OnnxEncoder;
use super::{EngineOptions, Model, OpenedSession, ReadModel, card_error, expect_kind, open_session};
use crate::card::ModelKind;
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
        match open_session(&Model { card: &card, ..one.clone() }, options) {
            Ok(opened) => (opened, num_images),
            // A graph for one image at a time still serves several cameras, one after the other.
            Err(refused) => {
                (one_at_a_time(&one, options, &format!("a batch of {num_images} is refused: {refused}"))?, 1)
            }
        }
    };
    let encoder = OnnxEncoder::new(read.card.clone(), opened, num_images);
    encoder.map_err(|problem| card_error(model, problem))
}

/// Whether the graph leaves open how many images it takes at a time.
fn takes_batches(summary: &OnnxSummary, image: &str) -> bool {
    let declared = summary.inputs.iter().find(|input| input.name == image).and_then(|input| input.shape.as_ref());
    declared.is_none_or(|shape| matches!(shape.first(), Some(OnnxAxis::Dynamic(_))))
}

fn one_at_a_time(model: &Model<'_>, options: &EngineOptions, why: &str) -> Result<OpenedSession, RuntimeError> {
    let mut opened = open_session(model, options)?;
    let reason = &mut opened.report.reason;
    *reason = format!("{reason}; one image at a time, since {why}");
    Ok(opened)
}
