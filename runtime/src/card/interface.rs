//! How the tensors of a graph that was exported elsewhere become image, tokens and class token.

use serde::{Deserialize, Serialize};

use super::{ModelCard, ModelKind, TensorCard};

/// Where image and features lie in a foreign graph. Absent in a card: `image` `[1, 3, H, W]` -> `tokens` `[1, N, D]`, `cls` `[1, D]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderInterface {
    /// Name of the input.
    pub image: String,
    /// Its order of dimensions.
    pub layout: ImageLayout,
    /// Name of the output that the tokens are in.
    pub tokens: String,
    /// How they lie there.
    pub token_layout: TokenLayout,
    /// Rows before the patches' (class, distillation and register tokens), which are left out.
    #[serde(default)]
    pub num_prefix_tokens: usize,
    /// Patches down and across, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 2]>,
    /// Where the class token is.
    pub cls: ClassToken,
}

/// Order of an image's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageLayout {
    /// `[1, 3, H, W]`.
    Nchw,
    /// `[1, H, W, 3]`.
    Nhwc,
}

/// How tokens lie in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLayout {
    /// `[1, prefix + N, D]`.
    Rows,
    /// `[1, D, h, w]`: a feature map, N = h * w.
    ChannelsFirst,
    /// `[1, h, w, D]`.
    ChannelsLast,
    /// `[1, D]`: pooled; N = 1.
    Pooled,
}

/// Where the class token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassToken {
    /// This row of the tokens' output.
    Row(usize),
    /// An output `[1, D]` of this name.
    Output(String),
    /// There is none: the mean over the tokens.
    Mean,
}

impl EncoderInterface {
    /// Our own exports'.
    pub(crate) fn own() -> Self {
        Self {
            image: "image".to_owned(),
            layout: ImageLayout::Nchw,
            tokens: "tokens".to_owned(),
            token_layout: TokenLayout::Rows,
            num_prefix_tokens: 0,
            grid: None,
            cls: ClassToken::Output("cls".to_owned()),
        }
    }

    /// `(N, D)` of what the encoder gives; the problem when the tensors do not fit.
    pub(crate) fn feature_shape(&self, outputs: &[TensorCard]) -> Result<(usize, usize), String> {
        let shape = &find("outputs", outputs, &self.tokens)?.shape;
        let (num_rows, dim) = match (self.token_layout, shape.as_slice()) {
            (TokenLayout::Rows, &[1, rows, dim]) => (rows, dim),
            (TokenLayout::ChannelsFirst, &[1, dim, height, width])
            | (TokenLayout::ChannelsLast, &[1, height, width, dim]) => (height * width, dim),
            (TokenLayout::Pooled, &[1, dim]) => (1, dim),
            (layout, shape) => {
                return Err(format!("output `{}` has shape {shape:?}, which is not {layout:?}", self.tokens));
            }
        };
        if self.num_prefix_tokens >= num_rows || dim == 0 {
            let prefix = self.num_prefix_tokens;
            return Err(format!("output `{}` {shape:?} has no tokens behind {prefix} prefix tokens", self.tokens));
        }
        if let Some([rows, columns]) = self.grid
            && rows.checked_mul(columns) != Some(num_rows - self.num_prefix_tokens)
        {
            let count = num_rows - self.num_prefix_tokens;
            return Err(format!("a grid of {rows}x{columns} patches where `{}` has {count} tokens", self.tokens));
        }
        match &self.cls {
            ClassToken::Row(row) if *row >= num_rows => {
                return Err(format!("row {row} for the class token where `{}` has {num_rows}", self.tokens));
            }
            ClassToken::Output(name) => {
                let cls = &find("outputs", outputs, name)?.shape;
                if *cls != [1, dim] {
                    return Err(format!("sizes disagree: tokens {shape:?} against cls {cls:?}"));
                }
            }
            ClassToken::Row(_) | ClassToken::Mean => {}
        }
        Ok((num_rows - self.num_prefix_tokens, dim))
    }

    /// `(H, W)` of the image.
    pub(crate) fn image_size(&self, inputs: &[TensorCard]) -> Result<(usize, usize), String> {
        let shape = &find("inputs", inputs, &self.image)?.shape;
        match (self.layout, shape.as_slice()) {
            (ImageLayout::Nchw, &[1, 3, height, width]) | (ImageLayout::Nhwc, &[1, height, width, 3]) => {
                Ok((height, width))
            }
            (layout, shape) => Err(format!(
                "an encoder takes one image of 3 channels; input `{}` has shape {shape:?}, which is not {layout:?}",
                self.image
            )),
        }
    }
}

impl ModelCard {
    /// How this encoder's tensors are read.
    pub fn encoder_interface(&self) -> EncoderInterface {
        self.interface.clone().unwrap_or_else(EncoderInterface::own)
    }

    /// `(N, D)`: how many tokens of what size the encoder gives.
    ///
    /// # Errors
    /// What is wrong, when this is no encoder's card or its shapes do not fit.
    pub fn feature_shape(&self) -> Result<(usize, usize), String> {
        if self.kind != ModelKind::Encoder {
            return Err("is the card of a policy, which gives no tokens".to_owned());
        }
        self.encoder_interface().feature_shape(&self.outputs)
    }
}

fn find<'a>(side: &str, tensors: &'a [TensorCard], name: &str) -> Result<&'a TensorCard, String> {
    let names = || tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(", ");
    tensors
        .iter()
        .find(|tensor| tensor.name == name)
        .ok_or_else(|| format!("no `{name}` among its {side} ({})", names()))
}
