//! The model card: a JSON file beside each ONNX file that says what the model is, what it expects, and how it proves itself.

mod conditions;
mod interface;
mod preprocessing;
mod signature;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::conditions::{CameraConditions, PolicyConditions};
pub use self::interface::{ClassToken, EncoderInterface, ImageLayout, TokenLayout};
pub use self::preprocessing::{Crop, PreprocessingCard, Resize};
pub use self::signature::{CardSignature, SigningKey, Trust, VerifyingKey};
use crate::error::RuntimeError;
use crate::files::{hex, inside_folder, read_limited, write_atomically};

/// The version of the card's layout.
pub const CARD_FORMAT: u32 = 1;

/// A card holds one golden input and output; more is another file.
pub(crate) const MAX_CARD_BYTES: u64 = 64 << 20;
/// The limit of an ONNX file, which is one protobuf message.
const MAX_MODEL_BYTES: u64 = 2 << 30;
/// The limit of a file of external weights.
const MAX_EXTERNAL_BYTES: u64 = 16 << 30;
/// Largest side of an encoder's input in pixels.
pub(crate) const MAX_INPUT_PIXELS: usize = 8192;

/// What an ONNX file is. Stored as `<model>.card.json` beside `<model>.onnx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// [`CARD_FORMAT`].
    pub format: u32,
    /// Encoder or policy.
    pub kind: ModelKind,
    /// For people, such as `mae-64`.
    pub name: String,
    /// File name of the ONNX file, in the card's folder.
    pub model: String,
    /// Hex sha256 of the ONNX file.
    pub sha256: String,
    /// Inputs, in graph order.
    pub inputs: Vec<TensorCard>,
    /// Outputs, in graph order.
    pub outputs: Vec<TensorCard>,
    /// Files beside the ONNX file that hold weights of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<ExternalFile>,
    /// How the tensors of a graph that was exported elsewhere are read (encoders only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<EncoderInterface>,
    /// How an image becomes the input (encoders only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<PreprocessingCard>,
    /// Joint names in the order of the action (policies only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joints: Vec<String>,
    /// The identity of the encoder whose features the policy was trained on (policies only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_sha256: Option<String>,
    /// Input and output that every engine must reproduce.
    pub golden: Golden,
    /// What made it.
    pub provenance: Provenance,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// `image [B, 3, H, W]` -> `tokens [B, N, D]`, `cls [B, D]`.
    Encoder,
    /// `tokens [B, N, D]`, `joints [B, 2J]` (positions, then velocities) -> `action [B, J]`.
    Policy,
}

/// A file of weights beside an ONNX file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalFile {
    /// Path inside the model's folder.
    pub name: String,
    /// Hex sha256.
    pub sha256: String,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorCard {
    /// Name in the graph.
    pub name: String,
    /// Shape with the batch as 1.
    pub shape: Vec<usize>,
    /// What the graph computes it in; the loop sees f32.
    #[serde(default, skip_serializing_if = "ElementType::is_f32")]
    pub element: ElementType,
}

/// Types of numbers that inputs and outputs may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementType {
    /// 32-bit float.
    #[default]
    F32,
    /// 16-bit float (IEEE 754 half).
    F16,
}

impl ElementType {
    // By reference, as serde asks.
    fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl TensorCard {
    /// An f32 tensor.
    pub fn f32(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), element: ElementType::F32 }
    }
}

/// What every engine must reproduce before the model is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Input tensors by name.
    pub inputs: BTreeMap<String, TensorData>,
    /// Output tensors by name, as the training framework computed them.
    pub outputs: BTreeMap<String, TensorData>,
    /// Largest absolute difference allowed.
    pub tolerance: f32,
}

/// A tensor in a card: f32, little-endian, base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorData {
    /// Shape.
    pub shape: Vec<usize>,
    /// Base64 of the little-endian f32 values, row-major.
    pub f32_base64: String,
}

/// What made a model: enough to make it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The exact command lines, in order.
    pub commands: Vec<String>,
    /// Seeds used.
    pub seeds: Vec<u64>,
    /// Git revision of the code.
    pub git_revision: String,
    /// Data: what it was, how much.
    pub data: String,
    /// Recipe name and its parameters.
    pub recipe: serde_json::Value,
    /// What was measured, by name.
    pub results: serde_json::Value,
}

/// A shape for so many images, of one for one.
fn batch_of(shape: &[usize], num_images: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape.iter_mut().take(1).for_each(|size| *size *= num_images);
    shape
}

impl TensorData {
    /// Packs row-major `values` of the given shape.
    pub fn new(shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { shape: shape.to_vec(), f32_base64: BASE64_STANDARD.encode(bytes) }
    }

    /// The same values so many times, along the first dimension.
    fn repeated(&self, num_images: usize) -> Result<Self, String> {
        Ok(Self::new(&batch_of(&self.shape, num_images), &self.values()?.repeat(num_images)))
    }

    /// The row-major values.
    ///
    /// # Errors
    /// What is wrong, when it is not base64 or not as many values as the shape says.
    pub fn values(&self) -> Result<Vec<f32>, String> {
        let bytes = BASE64_STANDARD.decode(&self.f32_base64).map_err(|error| format!("not base64: {error}"))?;
        let wanted = self.shape.iter().try_fold(4_usize, |product, size| product.checked_mul(*size));
        if wanted != Some(bytes.len()) {
            return Err(format!("{} bytes do not make f32 of shape {:?}", bytes.len(), self.shape));
        }
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

impl ModelCard {
    /// Where the card of an ONNX file lies: `<stem>.card.json` beside it.
    pub fn path_of(model: &Path) -> PathBuf {
        model.with_extension("card.json")
    }

    /// Reads and checks the card of `model`, and the model's sha256 against it.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when the model is missing, [`RuntimeError::Card`] when the card is missing, damaged, of another
    /// layout, or of another model.
    pub fn load(model: &Path) -> Result<Self, RuntimeError> {
        Self::load_with_model(model).map(|(card, ..)| card)
    }

    /// This card as of a model that takes so many images at a time, golden tensors and all.
    pub(crate) fn for_images(&self, num_images: usize) -> Result<Self, String> {
        let mut card = self.clone();
        for tensor in card.inputs.iter_mut().chain(&mut card.outputs) {
            tensor.shape = batch_of(&tensor.shape, num_images);
        }
        for tensor in card.golden.inputs.values_mut().chain(card.golden.outputs.values_mut()) {
            *tensor = tensor.repeated(num_images)?;
        }
        Ok(card)
    }

    /// As [`ModelCard::load`], with the bytes of model and card that were checked.
    pub(crate) fn load_with_model(model: &Path) -> Result<(Self, Vec<u8>, Vec<u8>), RuntimeError> {
        if !model.is_file() {
            let source =
                std::io::Error::new(std::io::ErrorKind::NotFound, "no such model; give the path of an .onnx file");
            return Err(RuntimeError::File { path: model.to_path_buf(), source });
        }
        let path = Self::path_of(model);
        if !path.is_file() {
            let shown = model.display();
            let problem = match model.extension().and_then(|extension| extension.to_str()) {
                Some("pth" | "pt" | "safetensors") => {
                    format!(
                        "no such card: {shown} is no ONNX file; `foresee import` and `foresee export encoder` make one of it"
                    )
                }
                _ => format!(
                    "no such card; export the model again, or admit a model from elsewhere with `foresee card make {shown}`"
                ),
            };
            return Err(RuntimeError::Card { path, problem });
        }
        let text = read_limited(&path, MAX_CARD_BYTES)?;
        let card = Self::parse(&text).map_err(|problem| RuntimeError::Card { path: path.clone(), problem })?;
        let bytes = read_limited(model, MAX_MODEL_BYTES)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        if sha256 != card.sha256 {
            let (name, wanted) = (model.display(), &card.sha256);
            let problem = format!(
                "is the card of another model: it says sha256 {wanted}, {name} has {sha256}; the file is damaged or was replaced, export again"
            );
            return Err(RuntimeError::Card { path, problem });
        }
        Ok((card, bytes, text))
    }

    /// What tells the model from any other: hex sha256 of the ONNX file; where weights lie in files beside it, of all their hashes.
    pub fn identity(&self) -> String {
        if self.external.is_empty() {
            return self.sha256.clone();
        }
        let mut hasher = Sha256::new();
        hasher.update(&self.sha256);
        for external in &self.external {
            // Lengths keep neighbours apart.
            hasher.update((external.name.len() as u64).to_le_bytes());
            hasher.update(&external.name);
            hasher.update(&external.sha256);
        }
        hex(&hasher.finalize())
    }

    /// The bytes of the external files, checked against the card; in the card's order.
    pub(crate) fn load_external(&self, model: &Path) -> Result<Vec<Vec<u8>>, RuntimeError> {
        let load = |external: &ExternalFile| {
            let bytes = read_limited(&model.with_file_name(&external.name), MAX_EXTERNAL_BYTES)?;
            let (name, wanted, sha256) = (&external.name, &external.sha256, hex(&Sha256::digest(&bytes)));
            if sha256 == *wanted {
                return Ok(bytes);
            }
            let problem = format!(
                "says sha256 {wanted} of `{name}`, which has {sha256}; the file is damaged or was replaced, make the card again"
            );
            Err(RuntimeError::Card { path: Self::path_of(model), problem })
        };
        self.external.iter().map(load).collect()
    }

    /// Parses and checks a card without its model.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let card: Self = serde_json::from_slice(bytes).map_err(|error| format!("not a model card: {error}"))?;
        card.check()?;
        Ok(card)
    }

    /// Writes the card of `model`, whole or not at all. Call it after the model is written: `sha256` is not touched.
    ///
    /// # Errors
    /// [`RuntimeError::Card`] when the card would not load again, [`RuntimeError::File`] when it cannot be written.
    pub fn save(&self, model: &Path) -> Result<(), RuntimeError> {
        let path = Self::path_of(model);
        let problem = |problem| RuntimeError::Card { path: path.clone(), problem };
        self.check().map_err(problem)?;
        let mut text = serde_json::to_string_pretty(self).map_err(|error| problem(error.to_string()))?;
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    fn check(&self) -> Result<(), String> {
        if self.format != CARD_FORMAT {
            return Err(format!(
                "format {} where this version reads {CARD_FORMAT}; export the model again",
                self.format
            ));
        }
        match (self.kind, &self.preprocessing) {
            (ModelKind::Encoder, None) => return Err("an encoder's card must have `preprocessing`".to_owned()),
            (_, Some(preprocessing)) => preprocessing.check()?,
            (ModelKind::Policy, None) => {}
        }
        if self.kind == ModelKind::Policy && (self.joints.is_empty() || self.encoder_sha256.is_none()) {
            return Err("a policy's card must have `joints` and `encoder_sha256`".to_owned());
        }
        let is_inside = |name: &str| inside_folder(name).as_deref() == Some(name);
        if let Some(external) = self.external.iter().find(|external| !is_inside(&external.name)) {
            return Err(format!("external file `{}` must be a path inside the model's folder", external.name));
        }
        if let (ModelKind::Encoder, Some(interface)) = (self.kind, &self.interface) {
            interface.feature_shape(&self.outputs)?;
            interface.image_size(&self.inputs)?;
        }
        if !(self.golden.tolerance.is_finite() && self.golden.tolerance > 0.0) {
            return Err(format!("golden.tolerance {} must be finite and above 0", self.golden.tolerance));
        }
        check_golden("inputs", &self.inputs, &self.golden.inputs)?;
        check_golden("outputs", &self.outputs, &self.golden.outputs)
    }
}

fn check_golden(side: &str, tensors: &[TensorCard], golden: &BTreeMap<String, TensorData>) -> Result<(), String> {
    if tensors.is_empty() || golden.len() != tensors.len() {
        return Err(format!("golden.{side} holds {} tensors, `{side}` names {}", golden.len(), tensors.len()));
    }
    for TensorCard { name, shape, .. } in tensors {
        let data = golden.get(name).ok_or_else(|| format!("golden.{side} lacks `{name}`"))?;
        if data.shape != *shape {
            return Err(format!("golden.{side}.{name} has shape {:?}, the card says {shape:?}", data.shape));
        }
        let values = data.values().map_err(|problem| format!("golden.{side}.{name}: {problem}"))?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(format!("golden.{side}.{name} holds NaN or infinity"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::sha256_file;

    fn encoder_card(model: &Path) -> ModelCard {
        let (image, cls) = (TensorData::new(&[1, 3, 2, 2], &[0.5; 12]), TensorData::new(&[1, 2], &[1.0, -2.5]));
        let tensor = |name: &str, shape: &[usize]| TensorCard::f32(name, shape);
        ModelCard {
            format: CARD_FORMAT,
            kind: ModelKind::Encoder,
            name: "test".to_owned(),
            model: model.file_name().unwrap().to_string_lossy().into_owned(),
            sha256: sha256_file(model).unwrap(),
            inputs: vec![tensor("image", &[1, 3, 2, 2])],
            outputs: vec![tensor("cls", &[1, 2])],
            preprocessing: Some(
                PreprocessingCard {
                    width: 2,
                    height: 2,
                    resize: Resize::BilinearAntialias,
                    crop: None,
                    mean: [0.5; 3],
                    std: [0.25; 3],
                    hash: String::new(),
                }
                .with_hash(),
            ),
            external: Vec::new(),
            interface: None,
            joints: Vec::new(),
            encoder_sha256: None,
            golden: Golden {
                inputs: [("image".to_owned(), image)].into(),
                outputs: [("cls".to_owned(), cls)].into(),
                tolerance: 1e-4,
            },
            provenance: Provenance::default(),
        }
    }

    #[test]
    fn weights_in_other_files_are_part_of_what_a_model_is() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("encoder.onnx");
        std::fs::write(&model, b"not checked here").unwrap();
        let card = encoder_card(&model);
        assert_eq!(card.identity(), card.sha256);
        let external = |name: &str, digit: &str| ExternalFile { name: name.to_owned(), sha256: digit.repeat(64) };
        let with = |files: Vec<ExternalFile>| ModelCard { external: files, ..card.clone() }.identity();
        let identities = [
            with(vec![external("weights.bin", "a")]),
            with(vec![external("weights.bin", "b")]),
            with(vec![external("more.bin", "a")]),
            with(vec![external("weights.bin", "a"), external("more.bin", "a")]),
            card.identity(),
        ];
        let different: std::collections::BTreeSet<&String> = identities.iter().collect();
        assert_eq!(different.len(), identities.len());
    }

    #[test]
    fn a_saved_card_loads_again_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("encoder.onnx");
        std::fs::write(&model, b"not checked here").unwrap();
        let card = encoder_card(&model);
        card.save(&model).unwrap();
        assert_eq!(ModelCard::load(&model).unwrap(), card);
        assert_eq!(ModelCard::path_of(&model), folder.path().join("encoder.card.json"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(card.golden.outputs["cls"].values().unwrap(), [1.0, -2.5]);
    }

    /// Writes a file with a card; gives the file.
    pub(super) fn saved_encoder_card(folder: &Path) -> PathBuf {
        let model = folder.join("encoder.onnx");
        std::fs::write(&model, b"not checked here").unwrap();
        encoder_card(&model).save(&model).unwrap();
        model
    }

    fn check(change: impl FnOnce(&mut serde_json::Value), expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("encoder.onnx");
        std::fs::write(&model, b"bytes").unwrap();
        let mut card = serde_json::to_value(encoder_card(&model)).unwrap();
        change(&mut card);
        std::fs::write(ModelCard::path_of(&model), card.to_string()).unwrap();
        let message = ModelCard::load(&model).unwrap_err().to_string();
        assert!(!message.contains('\n'), "one line: {message}");
        for part in expected.iter().chain([&"encoder.card.json"]) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_wrong_card_is_named_with_what_is_wrong() {
        check(|card| card["format"] = 2.into(), &["format 2", "reads 1"]);
        check(|card| card["sha256"] = "00".into(), &["another model", "export again"]);
        check(|card| card["colour"] = 1.into(), &["colour"]);
        check(|card| card["preprocessing"]["mean"][0] = 0.25.into(), &["preprocessing: hash"]);
        check(|card| card["preprocessing"]["width"] = 0.into(), &["0x2"]);
        check(|card| card["preprocessing"] = serde_json::Value::Null, &["preprocessing"]);
        check(|card| card["golden"]["outputs"]["cls"]["f32_base64"] = "AAAA".into(), &["outputs.cls", "3 bytes"]);
        check(|card| card["golden"]["inputs"] = serde_json::json!({}), &["golden.inputs holds 0"]);
        check(|card| card["golden"]["tolerance"] = 0.0.into(), &["tolerance 0"]);
        check(|card| card["kind"] = "policy".into(), &["joints"]);
        check(|card| card["outputs"][0]["shape"][1] = 3.into(), &["outputs.cls has shape [1, 2]", "[1, 3]"]);
    }

    #[test]
    fn a_missing_model_or_card_is_a_named_error() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("encoder.onnx");
        assert!(ModelCard::load(&model).unwrap_err().to_string().contains("no such model"));
        std::fs::write(&model, b"bytes").unwrap();
        assert!(ModelCard::load(&model).unwrap_err().to_string().contains("no such card"));
        std::fs::write(ModelCard::path_of(&model), b"{\"format\": 1").unwrap();
        assert!(ModelCard::load(&model).unwrap_err().to_string().contains("not a model card"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_card_parser_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = ModelCard::parse(&bytes);
        }

        #[test]
        fn tensors_keep_their_bits(values in proptest::collection::vec(proptest::num::f32::ANY, 0..40)) {
            let read = TensorData::new(&[values.len()], &values).values().unwrap();
            proptest::prop_assert!(read.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
