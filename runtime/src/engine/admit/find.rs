//! Finds image and features in a foreign graph: by number and size of dimensions first, by usual names where several fit.

use super::{AdmitOptions, ClassTokenChoice, Exploration};
use crate::card::{ClassToken, ElementType, EncoderInterface, ImageLayout, PreprocessingCard, TensorCard, TokenLayout};
use crate::onnx::{OnnxAxis, OnnxSummary, OnnxTensor, type_name};

/// `TensorProto.DataType` of the inputs that are understood.
const DATA_FLOAT: i32 = 1;
const DATA_FLOAT16: i32 = 10;
/// Most class, distillation and register tokens before the patches'.
const MAX_PREFIX_TOKENS: usize = 16;

/// The one input, which must be an image.
pub(super) fn image_of(summary: &OnnxSummary) -> Result<&OnnxTensor, String> {
    let names = || summary.inputs.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>().join(", ");
    let [image] = summary.inputs.as_slice() else {
        return Err(format!(
            "has {} inputs ({}) where an encoder has one, the image; export it with the others fixed",
            summary.inputs.len(),
            names()
        ));
    };
    if ![DATA_FLOAT, DATA_FLOAT16].contains(&image.data_type) {
        let (name, found) = (&image.name, type_name(image.data_type));
        return Err(format!("input `{name}` is {found}, and f32 and f16 are understood; export it with a float input"));
    }
    match &image.shape {
        Some(axes) if axes.len() != 4 => {
            let (name, count) = (&image.name, axes.len());
            Err(format!("input `{name}` has {count} dimensions where an image has 4: [1, 3, H, W] or [1, H, W, 3]"))
        }
        _ => Ok(image),
    }
}

/// The layouts to try: one where the graph tells.
pub(super) fn layouts(image: &OnnxTensor, options: &AdmitOptions) -> Result<Vec<ImageLayout>, String> {
    layouts_of(image, options.layout)
}

/// Height and width, where the graph has both.
pub(super) fn sizes_of(image: &OnnxTensor) -> Result<Option<(usize, usize)>, String> {
    let layouts = layouts_of(image, None)?;
    let fixed = |axis: usize| match image.shape.as_ref().and_then(|axes| axes.get(axis)) {
        Some(OnnxAxis::Fixed(size)) => Some(*size),
        _ => None,
    };
    Ok(match layouts.as_slice() {
        [ImageLayout::Nchw] => fixed(2).zip(fixed(3)),
        [ImageLayout::Nhwc] => fixed(1).zip(fixed(2)),
        _ => None,
    })
}

fn layouts_of(image: &OnnxTensor, layout: Option<ImageLayout>) -> Result<Vec<ImageLayout>, String> {
    let channels = |axis: usize| match image.shape.as_ref().and_then(|axes| axes.get(axis)) {
        Some(OnnxAxis::Fixed(size)) => Some(*size),
        _ => None,
    };
    let can = |axis: usize| channels(axis).is_none_or(|size| size == 3);
    let possible: Vec<ImageLayout> = [(ImageLayout::Nchw, 1), (ImageLayout::Nhwc, 3)]
        .into_iter()
        .filter(|(possible, axis)| can(*axis) && layout.is_none_or(|wanted| wanted == *possible))
        .map(|(layout, _)| layout)
        .collect();
    // A graph that fixes 3 channels in one place means that one.
    let sure: Vec<ImageLayout> = possible
        .iter()
        .copied()
        .filter(|layout| channels(if *layout == ImageLayout::Nchw { 1 } else { 3 }) == Some(3))
        .collect();
    if possible.is_empty() {
        let wanted = layout.map_or_else(String::new, |layout| format!(" as {}", format!("{layout:?}").to_uppercase()));
        return Err(format!("input `{}` {} is no image of 3 channels{wanted}", image.name, describe_shape(image)));
    }
    Ok(if sure.is_empty() { possible } else { sure })
}

pub(super) fn image_card(
    image: &OnnxTensor,
    layout: ImageLayout,
    options: &AdmitOptions,
) -> Result<TensorCard, String> {
    let PreprocessingCard { width, height, .. } = options.preprocessing;
    let shape = match layout {
        ImageLayout::Nchw => [1, 3, height, width],
        ImageLayout::Nhwc => [1, height, width, 3],
    };
    for (axis, size) in image.shape.iter().flatten().zip(shape) {
        match axis {
            OnnxAxis::Fixed(fixed) if *fixed != size => {
                return Err(format!(
                    "input `{}` is {}, and an image of {width}x{height} would be {shape:?}; give --image HEIGHTxWIDTH as the graph has it, or export it with batch 1 or open dimensions",
                    image.name,
                    describe_shape(image)
                ));
            }
            _ => {}
        }
    }
    let element = if image.data_type == DATA_FLOAT16 { ElementType::F16 } else { ElementType::F32 };
    Ok(TensorCard { element, ..TensorCard::f32(&image.name, &shape) })
}

fn describe_shape(tensor: &OnnxTensor) -> String {
    let Some(axes) = &tensor.shape else { return "of unknown shape".to_owned() };
    let axis = |axis: &OnnxAxis| match axis {
        OnnxAxis::Fixed(size) => size.to_string(),
        OnnxAxis::Dynamic(name) if name.is_empty() => "?".to_owned(),
        OnnxAxis::Dynamic(name) => name.clone(),
    };
    format!("[{}]", axes.iter().map(axis).collect::<Vec<_>>().join(", "))
}

pub(super) fn describe_input(image: &OnnxTensor, layout: ImageLayout) -> String {
    let order = if layout == ImageLayout::Nchw { "NCHW" } else { "NHWC" };
    format!("image: input `{}` {} {}, {order}", image.name, describe_shape(image), type_name(image.data_type))
}

/// Which outputs are the features.
pub(super) fn interface_of(
    image: &OnnxTensor,
    layout: ImageLayout,
    found: &Exploration,
    (options, notes): (&AdmitOptions, &mut Vec<String>),
) -> Result<EncoderInterface, String> {
    let tokens = tokens_of(found, options)?;
    let PreprocessingCard { width, height, .. } = options.preprocessing;
    let shape = tokens.shape.as_slice();
    let (token_layout, num_rows, dim) = match *shape {
        [1, rows, dim] => (TokenLayout::Rows, rows, dim),
        [1, first, second, third] if first >= third => (TokenLayout::ChannelsFirst, second * third, first),
        [1, first, second, third] => (TokenLayout::ChannelsLast, first * second, third),
        [1, dim] => (TokenLayout::Pooled, 1, dim),
        _ => {
            return Err(format!(
                "output `{}` {shape:?} is neither tokens nor a feature map; give --tokens NAME",
                tokens.name
            ));
        }
    };
    let num_prefix_tokens = match (token_layout, options.num_prefix_tokens) {
        (TokenLayout::Rows, Some(given)) => given,
        (TokenLayout::Rows, None) => num_prefix(num_rows, height, width).ok_or_else(|| {
            format!(
                "output `{}` has {num_rows} rows, which is no grid of patches of a {width}x{height} image behind at most {MAX_PREFIX_TOKENS} tokens; give --prefix-tokens N (0 when every row is a patch)",
                tokens.name
            )
        })?,
        _ => 0,
    };
    let is_first = num_prefix_tokens > 0 || token_layout == TokenLayout::Pooled;
    let cls = class_token(found, &options.cls, (tokens, dim), is_first)?;
    notes.push(format!(
        "tokens: output `{}` {shape:?}, {} of {dim} behind {num_prefix_tokens} that are no patches",
        tokens.name,
        num_rows - num_prefix_tokens.min(num_rows)
    ));
    notes.push(match &cls {
        ClassToken::Row(row) => format!("class token: row {row} of `{}`", tokens.name),
        ClassToken::Output(name) => format!("class token: output `{name}`"),
        ClassToken::Mean => "class token: none; the mean over the tokens stands for it".to_owned(),
    });
    let (image, tokens) = (image.name.clone(), tokens.name.clone());
    Ok(EncoderInterface { image, layout, tokens, token_layout, num_prefix_tokens, cls })
}

/// Where the class token is; `is_first` when the first row is none of the patches'.
fn class_token(
    found: &Exploration,
    choice: &ClassTokenChoice,
    (tokens, dim): (&TensorCard, usize),
    is_first: bool,
) -> Result<ClassToken, String> {
    let pooled = |name: Option<&str>| {
        found.outputs.iter().map(|output| &output.card).find(|card| {
            card.shape == [1, dim] && card.name != tokens.name && name.is_none_or(|name| card.name == name)
        })
    };
    Ok(match (choice, pooled(None)) {
        (ClassTokenChoice::Output(name), _) => match pooled(Some(name)) {
            Some(card) => ClassToken::Output(card.name.clone()),
            None => {
                return Err(format!(
                    "has no output `{name}` of shape [1, {dim}] for the class token; outputs: {}",
                    found.describe()
                ));
            }
        },
        (ClassTokenChoice::First, _) => ClassToken::Row(0),
        (ClassTokenChoice::Mean, _) => ClassToken::Mean,
        (ClassTokenChoice::Found, Some(card)) => ClassToken::Output(card.name.clone()),
        (ClassTokenChoice::Found, None) if is_first => ClassToken::Row(0),
        (ClassTokenChoice::Found, None) => ClassToken::Mean,
    })
}

impl Exploration {
    fn describe(&self) -> String {
        self.outputs
            .iter()
            .map(|output| format!("`{}` {:?}", output.card.name, output.card.shape))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The output that holds the tokens: the named one, else the only one with most structure (rows, feature map, pooled).
fn tokens_of<'a>(found: &'a Exploration, options: &AdmitOptions) -> Result<&'a TensorCard, String> {
    let cards = || found.outputs.iter().map(|output| &output.card);
    if let Some(name) = &options.tokens {
        let named = cards().find(|card| card.name == *name);
        return named.ok_or_else(|| format!("has no floating output `{name}`; outputs: {}", found.describe()));
    }
    for rank in [3, 4, 2] {
        let of_rank: Vec<&TensorCard> = cards().filter(|card| card.shape.len() == rank).collect();
        match of_rank.as_slice() {
            [] => {}
            [only] => return Ok(only),
            // The names of our own exports and of the libraries that most encoders come from.
            several => {
                let usual = ["tokens", "last_hidden_state", "x_norm_patchtokens", "patch_tokens", "features"];
                let named = usual.iter().find_map(|name| several.iter().find(|card| card.name == *name));
                return named.copied().ok_or_else(|| {
                    format!("has several outputs that could be the tokens; give --tokens NAME: {}", found.describe())
                });
            }
        }
    }
    Err(format!("has no output that could be tokens; outputs: {}", found.describe()))
}

/// How many rows come before a full grid of square patches; the finest grid that fits.
fn num_prefix(num_rows: usize, height: usize, width: usize) -> Option<usize> {
    let grids = (1..=height.min(width)).filter(|patch| height.is_multiple_of(*patch) && width.is_multiple_of(*patch));
    let finest = grids.map(|patch| (height / patch) * (width / patch)).filter(|count| *count <= num_rows).max()?;
    Some(num_rows - finest).filter(|prefix| *prefix <= MAX_PREFIX_TOKENS && *prefix < finest.max(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_before_the_patches_are_told_from_their_number() {
        let check = |num_rows: usize, (height, width): (usize, usize), expected: Option<usize>| {
            assert_eq!(num_prefix(num_rows, height, width), expected, "{num_rows} rows of {width}x{height}");
        };
        check(196, (224, 224), Some(0));
        check(197, (224, 224), Some(1));
        check(198, (224, 224), Some(2));
        check(201, (224, 224), Some(5));
        check(261, (224, 224), Some(5));
        check(17, (32, 32), Some(1));
        check(50, (224, 224), Some(1));
        check(193, (192, 256), Some(1));
        check(100, (224, 224), None);
    }
}
