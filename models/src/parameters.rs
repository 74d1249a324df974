//! The weights of a recipe by their names in the official state dictionaries: which there are, how they begin, and their values
//! on the host, where the optimiser works.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use crate::checkpoint::NamedTensors;
use crate::error::ModelsError;
use crate::positions::sin_cos_table;
use crate::random::{Stream, generator, normals};
use crate::recipe::{BlockKind, DecoderRecipe, MemoryRecipe, Positions, QueriesRecipe, Recipe};

/// One tensor of a recipe, as PyTorch lays it out (`Linear` weights are `[out, in]`).
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Key in the official state dictionary.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// How it begins.
    pub start: Start,
}

/// How a tensor begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Uniform in +-sqrt(6 / (fan_in + fan_out)) of the matrix `[shape[0], rest]` (Glorot and Bengio).
    Xavier,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in +-this.
    Uniform(f64),
    /// A fixed sine and cosine table, never trained.
    SinCos,
}

/// All values of a model, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    entries: BTreeMap<String, Parameter>,
}

/// One tensor's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// As many as the product of `shape`.
    pub values: Vec<f32>,
    /// Whether the optimiser leaves it alone.
    pub frozen: bool,
}

/// The largest table that is computed where a file lacks it: 1 GiB.
const MAX_TABLE_VALUES: usize = 1 << 28;

impl Parameter {
    /// Whether weight decay applies: to everything but one-dimensional tensors (MAE's `add_weight_decay`; class and mask tokens do
    /// decay).
    pub fn decays(&self) -> bool {
        self.shape.len() > 1 && !self.frozen
    }
}

impl Parameters {
    /// Fresh weights of a recipe.
    pub fn initialise(recipe: &Recipe, seed: u64) -> Self {
        let mut random = generator(seed, Stream::Initialisation, [0, 0]);
        let entries = parameter_specs(recipe)
            .into_iter()
            .map(|spec| {
                let values = start_values(recipe, &spec, &mut random);
                let frozen = spec.start == Start::SinCos;
                (spec.name, Parameter { shape: spec.shape, values, frozen })
            })
            .collect();
        Self { entries }
    }

    /// Weights of a recipe out of named tensors; frozen tables that are missing are computed.
    ///
    /// # Errors
    /// [`ModelsError::Tensor`] for the first that is missing, extra, of another shape or not finite.
    pub fn from_tensors(recipe: &Recipe, tensors: NamedTensors) -> Result<Self, ModelsError> {
        Self::from_some_tensors(recipe, parameter_specs(recipe), tensors)
    }

    /// The encoder's weights alone; what belongs to decoders is left out.
    ///
    /// # Errors
    /// As [`Parameters::from_tensors`].
    pub fn encoder_from_tensors(recipe: &Recipe, mut tensors: NamedTensors) -> Result<Self, ModelsError> {
        let specs = encoder_specs(recipe);
        tensors.retain(|name, _| specs.iter().any(|spec| spec.name == *name));
        Self::from_some_tensors(recipe, specs, tensors)
    }

    fn from_some_tensors(
        recipe: &Recipe,
        specs: Vec<ParameterSpec>,
        mut tensors: NamedTensors,
    ) -> Result<Self, ModelsError> {
        let fail = |name: &str, problem: String| ModelsError::Tensor { name: name.to_string(), problem };
        let mut entries = BTreeMap::new();
        for spec in specs {
            let frozen = spec.start == Start::SinCos;
            let (shape, values) = match tensors.remove(&spec.name) {
                Some(tensor) => tensor,
                None if frozen => {
                    let num_values = spec.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
                    if num_values.is_none_or(|num_values| num_values > MAX_TABLE_VALUES) {
                        let problem = format!("is missing, and {:?} is too large to compute", spec.shape);
                        return Err(fail(&spec.name, problem));
                    }
                    let mut random = generator(0, Stream::Initialisation, [0, 0]);
                    (spec.shape.clone(), start_values(recipe, &spec, &mut random))
                }
                None => return Err(fail(&spec.name, format!("is missing; the recipe needs {:?}", spec.shape))),
            };
            if shape != spec.shape || values.len() != shape.iter().product::<usize>() {
                return Err(fail(&spec.name, format!("is {shape:?}; the recipe needs {:?}", spec.shape)));
            }
            if values.iter().any(|value| !value.is_finite()) {
                return Err(fail(&spec.name, "holds values that are not finite".to_string()));
            }
            entries.insert(spec.name, Parameter { shape, values, frozen });
        }
        match tensors.keys().next() {
            Some(extra) => Err(fail(extra, "is extra; the recipe has no such tensor".to_string())),
            None => Ok(Self { entries }),
        }
    }

    /// Exactly these tensors.
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (String, Parameter)>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    /// By name, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// By name, in name order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Parameter)> {
        self.entries.iter_mut().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`ModelsError::Tensor`] when there is none.
    pub fn get(&self, name: &str) -> Result<&Parameter, ModelsError> {
        let missing = || ModelsError::Tensor { name: name.to_string(), problem: "is missing".to_string() };
        self.entries.get(name).ok_or_else(missing)
    }

    /// Values that the optimiser moves.
    pub fn num_trainable(&self) -> usize {
        self.entries.values().filter(|parameter| !parameter.frozen).map(|parameter| parameter.values.len()).sum()
    }
}

/// Every tensor of a recipe.
pub fn parameter_specs(recipe: &Recipe) -> Vec<ParameterSpec> {
    let mut specs = encoder_specs(recipe);
    for (name, decoder) in &recipe.decoders {
        decoder_specs(recipe, (name, decoder), &mut specs);
    }
    if let Some(latent) = &recipe.latent {
        let dim = recipe.encoder.dim;
        let outputs = latent.groups * latent.classes;
        linear_specs(&mut specs, "to_posterior.0", [2 * dim, 2 * dim]);
        linear_specs(&mut specs, "to_posterior.2", [outputs, 2 * dim]);
        linear_specs(&mut specs, "to_prior.0", [2 * dim, dim]);
        linear_specs(&mut specs, "to_prior.2", [outputs, 2 * dim]);
    }
    specs
}

/// Name of the mask token of a decoder: the only one is `mask_token`, as in every official state dictionary.
pub(crate) fn mask_token_name(decoder: &str) -> String {
    if decoder == "decoder" { "mask_token".to_string() } else { format!("{decoder}_mask_token") }
}

/// The encoder's tensors alone.
pub(crate) fn encoder_specs(recipe: &Recipe) -> Vec<ParameterSpec> {
    let encoder = &recipe.encoder;
    let dim = encoder.dim;
    let mut specs = Vec::new();
    if encoder.class_token {
        push(&mut specs, "cls_token", &[1, 1, dim], Start::Normal(0.02));
    }
    let num_tokens = encoder.num_patches() + encoder.num_class_tokens();
    if encoder.positions == Positions::SinCos {
        push(&mut specs, "pos_embed", &[1, num_tokens, dim], Start::SinCos);
    }
    let patch = encoder.patch_size;
    let filter =
        if encoder.frames == 1 { vec![dim, 3, patch, patch] } else { vec![dim, 3, encoder.tubelet, patch, patch] };
    push(&mut specs, "patch_embed.proj.weight", &filter, Start::Xavier);
    // PyTorch's own start of a convolution's bias, which the official initialisation leaves alone.
    let bound = 1.0 / (encoder.patch_values() as f64).sqrt();
    push(&mut specs, "patch_embed.proj.bias", &[dim], Start::Uniform(bound));
    for block_idx in 0..encoder.depth {
        let block = format!("blocks.{block_idx}");
        norm_specs(&mut specs, &format!("{block}.norm1"), dim);
        fused_attention_specs(&mut specs, &format!("{block}.attn"), dim);
        norm_specs(&mut specs, &format!("{block}.norm2"), dim);
        mlp_specs(&mut specs, &format!("{block}.mlp"), [dim, encoder.mlp_dim]);
    }
    norm_specs(&mut specs, "norm", dim);
    specs
}

fn decoder_specs(recipe: &Recipe, (name, decoder): (&str, &DecoderRecipe), specs: &mut Vec<ParameterSpec>) {
    let encoder = &recipe.encoder;
    let dim = decoder.dim;
    push(specs, &mask_token_name(name), &[1, 1, dim], Start::Normal(0.02));
    if encoder.positions == Positions::SinCos {
        let num_tokens = encoder.num_patches() + encoder.num_class_tokens();
        push(specs, &format!("{name}_pos_embed"), &[1, num_tokens, dim], Start::SinCos);
    }
    for (embed, inputs) in embeds(recipe, name) {
        linear_specs(specs, &embed, [dim, inputs]);
    }
    for block_idx in 0..decoder.depth {
        block_specs(specs, &format!("{name}_blocks.{block_idx}"), decoder);
    }
    norm_specs(specs, &format!("{name}_norm"), dim);
    linear_specs(specs, &format!("{name}_pred"), [encoder.patch_values(), dim]);
}

/// The linear layers into a decoder, with the width of what they take, each once.
fn embeds(recipe: &Recipe, decoder: &str) -> BTreeMap<String, usize> {
    let dim = recipe.encoder.dim;
    let latent_values = recipe.latent.as_ref().map_or(0, |latent| latent.groups * latent.classes);
    let mut embeds = BTreeMap::new();
    for term in recipe.terms.iter().filter(|term| term.decoder == decoder) {
        if let QueriesRecipe::Filled { embed, .. } = &term.queries {
            embeds.insert(embed.clone(), dim);
        }
        for part in &term.memory {
            match part {
                MemoryRecipe::Tokens { embed, .. } | MemoryRecipe::Filled { embed, .. } => {
                    embeds.insert(embed.clone(), dim);
                }
                MemoryRecipe::Latent { embed } => {
                    embeds.insert(embed.clone(), latent_values);
                }
            }
        }
    }
    embeds
}

fn block_specs(specs: &mut Vec<ParameterSpec>, block: &str, decoder: &DecoderRecipe) {
    let [dim, mlp_dim] = [decoder.dim, decoder.mlp_dim];
    let norms: &[&str] = match decoder.block {
        BlockKind::SelfOnly => &["norm1", "norm2"],
        BlockKind::CrossSelf => &["norm1", "norm_kv1", "norm3", "norm4"],
        BlockKind::CrossMlpSelfPost => &["norm1", "norm2", "norm3"],
        BlockKind::SelfCross => &["norm1", "norm2", "norm_y", "norm3"],
    };
    for norm in norms {
        norm_specs(specs, &format!("{block}.{norm}"), dim);
    }
    match decoder.block {
        BlockKind::SelfOnly => {
            fused_attention_specs(specs, &format!("{block}.attn"), dim);
            mlp_specs(specs, &format!("{block}.mlp"), [dim, mlp_dim]);
        }
        BlockKind::CrossSelf => {
            linear_specs(specs, &format!("{block}.cattn.q"), [dim, dim]);
            linear_specs(specs, &format!("{block}.cattn.kv"), [2 * dim, dim]);
            linear_specs(specs, &format!("{block}.cattn.proj"), [dim, dim]);
            fused_attention_specs(specs, &format!("{block}.attn"), dim);
            mlp_specs(specs, &format!("{block}.mlp2"), [dim, mlp_dim]);
        }
        BlockKind::CrossMlpSelfPost => {
            for attention in ["self_attn", "multihead_attn"] {
                push(specs, &format!("{block}.{attention}.in_proj_weight"), &[3 * dim, dim], Start::Xavier);
                push(specs, &format!("{block}.{attention}.in_proj_bias"), &[3 * dim], Start::Zeros);
                linear_specs(specs, &format!("{block}.{attention}.out_proj"), [dim, dim]);
            }
            linear_specs(specs, &format!("{block}.linear1"), [mlp_dim, dim]);
            linear_specs(specs, &format!("{block}.linear2"), [dim, mlp_dim]);
        }
        BlockKind::SelfCross => {
            fused_attention_specs(specs, &format!("{block}.attn"), dim);
            for layer in ["projq", "projk", "projv", "proj"] {
                linear_specs(specs, &format!("{block}.cross_attn.{layer}"), [dim, dim]);
            }
            mlp_specs(specs, &format!("{block}.mlp"), [dim, mlp_dim]);
        }
    }
}

fn push(specs: &mut Vec<ParameterSpec>, name: &str, shape: &[usize], start: Start) {
    specs.push(ParameterSpec { name: name.to_string(), shape: shape.to_vec(), start });
}

fn norm_specs(specs: &mut Vec<ParameterSpec>, name: &str, dim: usize) {
    push(specs, &format!("{name}.weight"), &[dim], Start::Ones);
    push(specs, &format!("{name}.bias"), &[dim], Start::Zeros);
}

fn linear_specs(specs: &mut Vec<ParameterSpec>, name: &str, [outputs, inputs]: [usize; 2]) {
    push(specs, &format!("{name}.weight"), &[outputs, inputs], Start::Xavier);
    push(specs, &format!("{name}.bias"), &[outputs], Start::Zeros);
}

fn fused_attention_specs(specs: &mut Vec<ParameterSpec>, name: &str, dim: usize) {
    linear_specs(specs, &format!("{name}.qkv"), [3 * dim, dim]);
    linear_specs(specs, &format!("{name}.proj"), [dim, dim]);
}

fn mlp_specs(specs: &mut Vec<ParameterSpec>, name: &str, [dim, mlp_dim]: [usize; 2]) {
    linear_specs(specs, &format!("{name}.fc1"), [mlp_dim, dim]);
    linear_specs(specs, &format!("{name}.fc2"), [dim, mlp_dim]);
}

fn start_values(recipe: &Recipe, spec: &ParameterSpec, random: &mut StdRng) -> Vec<f32> {
    let count: usize = spec.shape.iter().product();
    match spec.start {
        Start::Zeros => vec![0.0; count],
        Start::Ones => vec![1.0; count],
        Start::Xavier => {
            let outputs = spec.shape.first().copied().unwrap_or(1).max(1);
            let bound = (6.0 / (outputs + count / outputs) as f64).sqrt();
            uniform_values(random, count, bound)
        }
        Start::Normal(deviation) => normals(random, count).iter().map(|value| value * deviation as f32).collect(),
        Start::Uniform(bound) => uniform_values(random, count, bound),
        Start::SinCos => {
            let dim = spec.shape.last().copied().unwrap_or(0);
            sin_cos_table(recipe.encoder.grid(), dim, recipe.encoder.num_class_tokens())
        }
    }
}

fn uniform_values(random: &mut StdRng, count: usize, bound: f64) -> Vec<f32> {
    (0..count).map(|_| ((2.0 * random.random::<f64>() - 1.0) * bound) as f32).collect()
}
