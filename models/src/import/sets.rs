//! Sets of weights in a checkpoint: one for each dictionary and each wrapper under which an encoder's patch embedding lies. One set is
//! taken whole; several are a question.

use std::collections::{BTreeMap, BTreeSet};

use super::shapes::our_name;

/// Parts of names that wrappers of training put in anywhere: `torch.compile`, FSDP, activation checkpoints, DDP.
const WRAPPERS: &[&str] = &["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"];
/// The tensor by which an encoder is known.
const ANCHOR: [&str; 3] = ["patch_embed", "proj", "weight"];
/// What a classifier has behind its encoder.
const HEADS: &[&str] = &["head.", "head_dist."];
/// Names that an error shows.
const MAX_SHOWN: usize = 6;

/// A dictionary of a checkpoint, and the tensors that it names.
pub(super) struct NamedDict<T> {
    /// Keys that lead to it, joined by `/`; empty for the root.
    pub(super) path: String,
    pub(super) tensors: Vec<(String, T)>,
}

/// One set of weights, by the names that our methods use.
pub(super) struct WeightSet<T> {
    /// Such as `state_dict_ema` or `student/module.backbone`; `(root)` where nothing wraps it.
    pub(super) name: String,
    pub(super) tensors: Vec<(String, T)>,
    /// Tensors that are not of the set, by the first part of their names, with their number.
    pub(super) left_out: BTreeMap<String, usize>,
}

/// The set of this name; without a name, the only one.
///
/// # Errors
/// What is there instead, and what to give.
pub(super) fn choose<T>(dicts: Vec<NamedDict<T>>, wanted: Option<&str>) -> Result<WeightSet<T>, String> {
    let mut found = Vec::new();
    for (dict_idx, dict) in dicts.iter().enumerate() {
        for prefix in anchors(dict) {
            found.push((set_name(&dict.path, &prefix), dict_idx, prefix));
        }
    }
    if found.is_empty() {
        return Err(nothing_found(&dicts));
    }
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    let chosen = chosen_index(&names, wanted)?;
    let Some((name, dict_idx, prefix)) = found.into_iter().nth(chosen) else { return Err(nothing_found(&dicts)) };
    let mut left_out = BTreeMap::new();
    let mut taken = None;
    for (idx, dict) in dicts.into_iter().enumerate() {
        if idx == dict_idx {
            taken = Some(dict);
        } else if !dict.tensors.is_empty() {
            left_out.insert(format!("{}/", dict.path), dict.tensors.len());
        }
    }
    let Some(dict) = taken else { return Err("holds no tensors by name".to_string()) };
    let tensors = members(dict, &prefix, &mut left_out)?;
    Ok(WeightSet { name, tensors, left_out })
}

fn set_name(path: &str, prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('.');
    match (path.is_empty(), prefix.is_empty()) {
        (true, true) => "(root)".to_string(),
        (true, false) => prefix.to_string(),
        (false, true) => path.to_string(),
        (false, false) => format!("{path}/{prefix}"),
    }
}

/// Which of these names is meant: the name itself, else the only one that has the text in it.
fn chosen_index(names: &[&str], wanted: Option<&str>) -> Result<usize, String> {
    let list = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let Some(wanted) = wanted else {
        return match names {
            [_] => Ok(0),
            _ => Err(format!(
                "holds {} sets of weights: {list}; choose one with --weights NAME (averaged weights are usually `ema` or `teacher`)",
                names.len()
            )),
        };
    };
    if let Some(exact) = names.iter().position(|name| *name == wanted) {
        return Ok(exact);
    }
    let wanted_parts = |name: &str| name.split(['/', '.']).any(|part| part == wanted);
    for is_like in [&wanted_parts as &dyn Fn(&str) -> bool, &|name: &str| name.contains(wanted)] {
        let like: Vec<usize> =
            (0..names.len()).filter(|idx| names.get(*idx).is_some_and(|name| is_like(name))).collect();
        match like.as_slice() {
            [] => {}
            [only] => return Ok(*only),
            _ => return Err(format!("--weights {wanted}: fits several sets of weights; give one of {list} in full")),
        }
    }
    Err(format!("--weights {wanted}: there is no such set of weights; give one of {list}"))
}

/// Prefixes under which a dictionary holds an encoder.
fn anchors<T>(dict: &NamedDict<T>) -> BTreeSet<String> {
    let prefix = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        let root = parts.iter().rposition(|part| *part == "patch_embed")?;
        let rest: Vec<&str> = parts.iter().skip(root).copied().filter(|part| !WRAPPERS.contains(part)).collect();
        let prefix: String = parts.iter().take(root).flat_map(|part| [part, "."]).collect();
        (rest == ANCHOR).then_some(prefix)
    };
    dict.tensors.iter().filter_map(|(name, _)| prefix(name)).collect()
}

/// The tensors under a prefix and under no longer one that holds another set.
fn members<T>(
    dict: NamedDict<T>,
    prefix: &str,
    left_out: &mut BTreeMap<String, usize>,
) -> Result<Vec<(String, T)>, String> {
    let others = anchors(&dict);
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut tensors = Vec::new();
    for (name, tensor) in dict.tensors {
        let owner = others.iter().filter(|other| name.starts_with(other.as_str())).max_by_key(|other| other.len());
        let rest = name.strip_prefix(prefix).filter(|_| owner.is_some_and(|owner| owner == prefix));
        let Some(rest) = rest.filter(|rest| !HEADS.iter().any(|head| rest.starts_with(head))) else {
            let first = name.split_inclusive('.').next().unwrap_or_default().to_string();
            *left_out.entry(first).or_insert(0) += 1;
            continue;
        };
        let plain = plain_name(rest);
        if let Some(other) = sources.insert(plain.clone(), name.clone()) {
            return Err(format!(
                "holds two tensors for `{plain}`: `{other}` and `{name}`; these are two sets of weights in one, save one of them alone"
            ));
        }
        tensors.push((plain, tensor));
    }
    Ok(tensors)
}

/// Our name of a tensor of a set, without what wrappers put into it; DINOv2's chunks of blocks count through.
fn plain_name(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let is_number = |part: Option<&&str>| part.is_some_and(|part| part.parse::<usize>().is_ok());
    if parts.first() == Some(&"blocks") && is_number(parts.get(1)) && is_number(parts.get(2)) {
        parts.remove(1);
    }
    our_name(&parts.join("."))
}

fn nothing_found<T>(dicts: &[NamedDict<T>]) -> String {
    let names = dicts.iter().flat_map(|dict| {
        let path = if dict.path.is_empty() { String::new() } else { format!("{}/", dict.path) };
        dict.tensors.iter().map(move |(name, _)| format!("`{path}{name}`"))
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "holds no tensors by name; give a state dictionary, or a checkpoint that holds one under any key"
            .to_string();
    }
    let shown = names.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MAX_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "has no tensor `patch_embed.proj.weight` under any prefix; is it a ViT with timm's names? It holds {shown}{more}; of another model or with other names, export it to ONNX where it was trained and use `foresee card make`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"];

    fn dict(path: &str, names: &[(&str, u8)]) -> NamedDict<u8> {
        let tensors =
            names.iter().flat_map(|(prefix, value)| NAMES.iter().map(move |name| (format!("{prefix}{name}"), *value)));
        NamedDict { path: path.to_string(), tensors: tensors.collect() }
    }

    /// The values of the set, which must have all names.
    fn take(dicts: Vec<NamedDict<u8>>, wanted: Option<&str>) -> Result<(String, u8), String> {
        let set = choose(dicts, wanted)?;
        let names: BTreeSet<&str> = set.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, NAMES.into_iter().collect());
        let value = set.tensors[0].1;
        assert!(set.tensors.iter().all(|(_, other)| *other == value), "a mixture");
        Ok((set.name, value))
    }

    #[test]
    fn wrappers_come_off_in_any_order_and_depth() {
        for prefix in [
            "",
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "_fsdp_wrapped_module.",
            "model.",
            "model.backbone.",
            "student.module.backbone._orig_mod.",
            "whatever.it.is.called.",
        ] {
            let (name, _) = take(vec![dict("", &[(prefix, 1)])], None).expect(prefix);
            assert_eq!(name, if prefix.is_empty() { "(root)" } else { prefix.trim_end_matches('.') });
        }
        let inner = [
            "cls_token",
            "patch_embed._fsdp_wrapped_module.proj.weight",
            "blocks.0._checkpoint_wrapped_module.attn._orig_mod.qkv.weight",
        ];
        let inner = NamedDict { path: String::new(), tensors: inner.map(|name| (name.to_string(), 1)).into() };
        assert_eq!(take(vec![inner], None), Ok(("(root)".to_string(), 1)));
        let chunks = ["cls_token", "patch_embed.proj.weight", "blocks.1.0.attn.qkv.weight"];
        let chunks = NamedDict { path: String::new(), tensors: chunks.map(|name| (name.to_string(), 1)).into() };
        assert_eq!(take(vec![chunks], None), Ok(("(root)".to_string(), 1)));
    }

    #[test]
    fn several_sets_are_a_question_and_never_a_mixture() {
        let both = || vec![dict("state_dict", &[("", 1), ("module.", 2)])];
        let error = take(both(), None).expect_err("two sets");
        assert!(error.contains("`state_dict`, `state_dict/module`") && error.contains("--weights"), "{error}");
        assert_eq!(take(both(), Some("state_dict")), Ok(("state_dict".to_string(), 1)));
        assert_eq!(take(both(), Some("module")), Ok(("state_dict/module".to_string(), 2)));
        let ema = || vec![dict("model", &[("", 1)]), dict("model_ema", &[("module.", 2)])];
        assert!(take(ema(), None).is_err());
        assert_eq!(take(ema(), Some("model")), Ok(("model".to_string(), 1)));
        assert_eq!(take(ema(), Some("ema")), Ok(("model_ema/module".to_string(), 2)));
        let error = take(ema(), Some("teacher")).expect_err("no such set");
        assert!(error.contains("`model`, `model_ema/module`"), "{error}");
        let error = take(vec![dict("", &[("student.", 1), ("teacher.", 2)])], None).expect_err("two sets");
        assert!(error.contains("`student`, `teacher`"), "{error}");
    }

    #[test]
    fn names_that_become_one_are_refused_and_what_is_left_out_is_counted() {
        let mut colliding = dict("", &[("", 1)]);
        colliding.tensors.push(("blocks.0._orig_mod.attn.qkv.weight".to_string(), 2));
        let error = choose(vec![colliding], None).err().expect("a collision");
        assert!(error.contains("`blocks.0._orig_mod.attn.qkv.weight`"), "{error}");
        let mut with_more = dict("model", &[("encoder.", 1)]);
        with_more.tensors.extend(["encoder.head.weight", "decoder.norm.weight"].map(|name| (name.to_string(), 3)));
        let root = NamedDict { path: String::new(), tensors: vec![("n_averaged".to_string(), 4)] };
        let set = choose(vec![root, with_more], None).expect("one set");
        assert_eq!(set.tensors.len(), 3);
        assert_eq!(set.left_out.values().sum::<usize>(), 3, "{:?}", set.left_out);
        let other = NamedDict { path: "net".to_string(), tensors: vec![("conv1.weight".to_string(), 1)] };
        let error = choose(vec![other], None).err().expect("no ViT");
        assert!(error.contains("`net/conv1.weight`") && error.contains("card make"), "{error}");
    }
}
