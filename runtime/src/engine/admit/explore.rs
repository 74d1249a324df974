//! Runs a foreign graph to see what it gives: the same image twice and another one between, all in one session.

use std::path::Path;

use super::super::{EngineOptions, Model, NamedTensor, ProviderChoice, Refusal};
use super::trace::Shapes;
use crate::card::{ClassToken, EncoderInterface, ModelCard, TensorCard};
use crate::onnx::{OnnxSummary, ShapeProbe};

/// The seed of the golden input.
const GOLDEN_SEED: u64 = 20_261_120;
/// How far two runs on one image may be from each other, of the largest value.
const REPEATED: f32 = 1e-6;

/// A graph that is to be run.
pub(super) struct Explorer<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) external: &'a [Vec<u8>],
    pub(super) summary: &'a OnnxSummary,
    pub(super) engine: &'a EngineOptions,
}

/// What a graph gave.
pub(super) struct Exploration {
    pub(super) outputs: Vec<FoundOutput>,
    /// In the card's order.
    pub(super) golden_inputs: Vec<Vec<f32>>,
}

/// A floating output, and what the golden input made of it.
pub(super) struct FoundOutput {
    pub(super) card: TensorCard,
    pub(super) values: Vec<f32>,
    /// The same for two images.
    pub(super) is_constant: bool,
    is_finite: bool,
    /// The same for one image in one session.
    is_repeated: bool,
}

impl Explorer<'_> {
    /// The golden input, another one, and the golden one again, by a session that is opened once.
    pub(super) fn run(&self, card: &ModelCard) -> Result<Exploration, Refusal> {
        let golden = inputs(card, GOLDEN_SEED);
        let given = [golden, inputs(card, GOLDEN_SEED + 1), inputs(card, GOLDEN_SEED)];
        let runs = self.explore(card, (self.bytes, self.summary), &given)?;
        let [first, other, again] = runs.as_slice() else {
            return Err(Refusal::Model("gives nothing".to_owned()));
        };
        let mut outputs = Vec::new();
        for output in first {
            let same = |run: &[NamedTensor]| -> Vec<f32> {
                run.iter()
                    .find(|tensor| tensor.card.name == output.card.name)
                    .map_or_else(Vec::new, |tensor| tensor.values.clone())
            };
            let (other, again) = (same(other), same(again));
            outputs.push(FoundOutput {
                card: output.card.clone(),
                is_constant: output.values == other,
                is_finite: output.values.iter().all(|value| value.is_finite()),
                is_repeated: is_repeated(&output.values, &again),
                values: output.values.clone(),
            });
        }
        let [golden, ..] = given;
        let golden_inputs = golden.into_iter().map(|tensor| tensor.values).collect();
        Ok(Exploration { outputs, golden_inputs })
    }

    /// Shapes of values inside the graph for the golden input.
    pub(super) fn shapes(&self, card: &ModelCard, probe: &ShapeProbe) -> Result<Shapes, String> {
        let bytes = probe.append_to(self.bytes);
        let summary = OnnxSummary::parse(&bytes)?;
        let runs = self.explore(card, (&bytes, &summary), &[inputs(card, GOLDEN_SEED)]);
        let outputs = match runs {
            Ok(runs) => runs.into_iter().next().unwrap_or_default(),
            Err(Refusal::Model(problem) | Refusal::Provider(problem)) => return Err(problem),
        };
        let shape = |tensor: NamedTensor| {
            let value = probe.value_of(&tensor.card.name)?.to_owned();
            // Sizes that an image has are exact in f32.
            Some((value, tensor.values.into_iter().map(|size| size as usize).collect()))
        };
        Ok(outputs.into_iter().filter_map(shape).collect())
    }

    fn explore(
        &self,
        card: &ModelCard,
        (bytes, summary): (&[u8], &OnnxSummary),
        inputs: &[Vec<NamedTensor>],
    ) -> Result<Vec<Vec<NamedTensor>>, Refusal> {
        use foresee_firmware_config::Provider;

        let Self { path, external, engine, .. } = self;
        let model = Model { path, card, bytes, external, summary: summary.clone(), signed_by: None };
        let providers = match &engine.choice {
            ProviderChoice::Exactly(provider) => std::slice::from_ref(provider),
            ProviderChoice::Auto(list) => list.as_slice(),
        };
        // The golden output is a CPU's: what a GPU makes of it is for the proof to say.
        if providers.iter().all(|provider| *provider == Provider::Tract) {
            #[cfg(feature = "tract")]
            return super::super::tract::explore(&model, inputs);
        }
        #[cfg(feature = "ort")]
        return super::super::onnxruntime::explore(&model, inputs, engine);
        #[cfg(not(feature = "ort"))]
        {
            let _ = (model, inputs);
            Err(Refusal::Provider("this build has no engine to run the model once".to_owned()))
        }
    }
}

impl FoundOutput {
    /// Why it cannot be served.
    pub(super) fn problem(&self) -> Option<String> {
        let name = &self.card.name;
        if !self.is_finite {
            return Some(format!(
                "gives NaN or infinity in `{name}` for standard normal pixels; export it in f32, or choose another output with --tokens NAME or --cls NAME"
            ));
        }
        if !self.is_repeated {
            return Some(format!(
                "gives another `{name}` for the same image in a second run: it draws at random or keeps a state; export it for inference (`model.eval()`), without masking or dropout"
            ));
        }
        self.is_constant.then(|| {
            format!("gives the same `{name}` for two images: it does not depend on them; export the encoder again, or choose another output with --tokens NAME or --cls NAME")
        })
    }
}

impl Exploration {
    /// The outputs that an encoder of this interface gives out.
    pub(super) fn served(&self, interface: &EncoderInterface) -> Vec<&FoundOutput> {
        let is_served = |name: &str| name == interface.tokens || interface.cls == ClassToken::Output(name.to_owned());
        self.outputs.iter().filter(|output| is_served(&output.card.name)).collect()
    }

    /// Refuses what cannot be served of these outputs; others are no reason to.
    ///
    /// # Errors
    /// What is wrong with which output, and what to do.
    pub(super) fn judge(&self, served: &[&str], summary: &OnnxSummary) -> Result<(), String> {
        summary.check_is_function(served)?;
        let mut outputs = self.outputs.iter().filter(|output| served.contains(&output.card.name.as_str()));
        outputs.find_map(FoundOutput::problem).map_or(Ok(()), Err)
    }

    /// Names and shapes, for people.
    pub(super) fn describe(&self) -> String {
        self.outputs
            .iter()
            .map(|output| format!("`{}` {:?}", output.card.name, output.card.shape))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Outputs that nobody serves and that could not be.
    pub(super) fn passed_over(&self, tokens: &str, cls: &ClassToken) -> Vec<String> {
        let is_served = |name: &str| name == tokens || *cls == ClassToken::Output(name.to_owned());
        let others = self.outputs.iter().filter(|output| !is_served(&output.card.name));
        let why = |output: &FoundOutput| {
            let name = &output.card.name;
            let why = match output {
                FoundOutput { is_finite: false, .. } => "is not finite",
                FoundOutput { is_repeated: false, .. } => "differs from run to run",
                FoundOutput { is_constant: true, .. } => "is the same for every image",
                _ => return None,
            };
            Some(format!("not served: output `{name}`, which {why}"))
        };
        others.filter_map(why).collect()
    }

    /// A hint about dropout that was left on and that this engine leaves out.
    pub(super) fn dropout_note(&self, summary: &OnnxSummary) -> Option<String> {
        let has_switch = |inputs: &[String]| inputs.get(2).is_some_and(|switch| !switch.is_empty());
        let node = summary.nodes.iter().find(|node| node.operator == "Dropout" && has_switch(&node.inputs))?;
        Some(format!(
            "dropout: node `{}` has a training mode; this engine gives the same features in every run, so it is admitted; `model.eval()` before the export leaves it out",
            node.label()
        ))
    }
}

/// Whether two runs on one input gave the same, bit for bit or but for the order of sums; NaN equals NaN.
fn is_repeated(values: &[f32], again: &[f32]) -> bool {
    let largest =
        values.iter().filter(|value| value.is_finite()).fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let is_same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a - b).abs() <= REPEATED * largest;
    values.len() == again.len() && values.iter().zip(again).all(is_same)
}

fn inputs(card: &ModelCard, seed: u64) -> Vec<NamedTensor> {
    let count = |card: &TensorCard| card.shape.iter().product::<usize>();
    let tensor = |card: &TensorCard| NamedTensor { card: card.clone(), values: noise(seed, count(card)) };
    card.inputs.iter().map(tensor).collect()
}

/// Standard normal values, by Box and Muller, the same on every machine to f32's last bits.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    // Whole multiples of 2^-8 are the same in f16.
    (0..count).map(|_| ((normal() * 256.0).round() / 256.0) as f32).collect()
}
