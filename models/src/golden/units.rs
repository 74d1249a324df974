//! Single functions against the official code: tables, schedules, norm, activation, optimiser, latent.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::file::{GoldenFile, GoldenTensor};
use super::{GoldenReport, SINGLE_TABLE, Subject, TABLE, larger, worst_difference};
use crate::error::ModelsError;
use crate::fused::gelu;
use crate::method::{LatentDraw, balanced_kl, read_values, straight_through};
use crate::optimiser::{AdamW, HostGradients, scheduled_rate};
use crate::parameters::{Parameter, Parameters};
use crate::positions::{Stretch, interpolate_positions, sin_cos_table};
use crate::recipe::{LatentRecipe, OptimiserRecipe, Recipe};
use crate::weights::layer_norm;

/// Values of single functions: absolute.
const VALUE: f64 = 5e-6;
/// Stretched position tables, whose taps are f32 in the official code: absolute.
const STRETCHED: f64 = 2e-5;
/// Learning rates: relative to the peak.
const RATE: f64 = 1e-9;
/// Divergences: relative to their value, or to the free nats below which it costs nothing (where the official f32 code is itself off by
/// more than this share of the value).
const LOSS: f64 = 1e-5;

/// Largest sine and cosine table that is computed, in values.
const MAX_TABLE: usize = 1 << 26;

/// Every part that the file holds.
pub(super) fn verify(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    sin_cos(subject, report);
    schedules(subject, report)?;
    interpolation(subject, report);
    optimiser(subject, report)?;
    if subject.file.find("gelu.x").is_some() {
        activation(subject, report)?;
    }
    if subject.file.find("ln.x").is_some() {
        norm(subject, report)?;
    }
    if subject.file.find("st.logits").is_some() {
        sample(subject, report)?;
    }
    divergences(subject, report)
}

/// `sincos.<code>.g<grid>.d<dim>`; tables with fewer rows hold those in `sincos.rows`.
fn sin_cos(subject: &Subject<'_>, report: &mut GoldenReport) {
    let rows = subject.file.find("sincos.rows").map(GoldenTensor::to_indices).unwrap_or_default();
    for (name, golden) in subject.file.with_prefix("sincos.") {
        let parts: Vec<&str> = name.split('.').collect();
        let [code, grid, dim] = parts.as_slice() else { continue };
        let number =
            |text: &str, letter: char| text.strip_prefix(letter).and_then(|number| number.parse::<usize>().ok());
        let (Some(grid), Some(dim)) = (number(grid, 'g'), number(dim, 'd')) else { continue };
        let what = subject.name(&format!("sincos/{name}"));
        let num_values = values_of_grid([grid, grid], dim);
        if !num_values.is_some_and(|count| (1..=MAX_TABLE).contains(&count)) {
            let problem = format!("sincos.{name} names a table that is empty or of more than {MAX_TABLE} values");
            report.add_problem(what, &subject.file.fail(problem));
            continue;
        }
        let tolerance = if *code == "rsp" { SINGLE_TABLE } else { TABLE };
        let mut table = sin_cos_table([grid, grid], dim, 1);
        if golden.values.len() != table.len() {
            table =
                rows.iter().flat_map(|row| table.chunks_exact(dim).nth(*row).unwrap_or_default().to_vec()).collect();
        }
        report.add(what, worst_difference(&table, &golden.values), tolerance);
    }
}

/// `lr.<name>.{epoch,lr}`: linear to the peak, half a cosine to 0 at the last epoch.
fn schedules(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    for (name, epochs) in subject.file.with_prefix("lr.") {
        let Some(name) = name.strip_suffix(".epoch") else { continue };
        let rates = &subject.file.get(&format!("lr.{name}.lr"))?.values;
        let peak = rates.iter().copied().fold(0.0, f64::max);
        let total = epochs.values.last().copied().unwrap_or(0.0);
        let rising = epochs.values.iter().zip(rates).find(|(epoch, _)| **epoch > 0.0);
        let warm_up = rising.map_or(0.0, |(epoch, rate)| peak * epoch / rate);
        let errors = epochs
            .values
            .iter()
            .zip(rates)
            .map(|(epoch, rate)| (scheduled_rate(peak, [warm_up, total], *epoch) - rate).abs() / peak);
        report.add(subject.name(&format!("schedule/{name}")), errors.fold(0.0, larger), RATE);
    }
    Ok(())
}

/// `interp.dino_<rows>x<columns>`, `interp.util_<rows>x<columns>` from the `interp.in_*` of the same width.
fn interpolation(subject: &Subject<'_>, report: &mut GoldenReport) {
    let file = &subject.file;
    for (name, golden) in file.with_prefix("interp.") {
        let (stretch, grid) = match name.split_once('_') {
            Some(("dino", grid)) => (Stretch::DinoScale, grid),
            Some(("util", grid)) => (Stretch::ToSize, grid),
            _ => continue,
        };
        let sizes: Vec<usize> = grid.split('x').filter_map(|size| size.parse().ok()).collect();
        let &[rows, columns] = sizes.as_slice() else { continue };
        let dim = golden.shape.last().copied().unwrap_or(0);
        let what = subject.name(&format!("position_interpolation/{name}"));
        if values_of_grid([rows, columns], dim) != Some(golden.values.len()) {
            let problem = format!("interp.{name} is {:?}, not 1 + {rows} * {columns} rows", golden.shape);
            report.add_problem(what, &file.fail(problem));
            continue;
        }
        let source = file.with_prefix("interp.in_").find(|(_, table)| table.shape.last() == Some(&dim));
        let ours =
            source.and_then(|(_, table)| interpolate_positions(&table.to_f32(), (dim, 1), ([rows, columns], stretch)));
        let worst = ours.map_or(f64::INFINITY, |ours| worst_difference(&ours, &golden.values));
        report.add(what, worst, STRETCHED);
    }
}

/// Values of a table of `dim` channels over a grid, with one class token.
fn values_of_grid([rows, columns]: [usize; 2], dim: usize) -> Option<usize> {
    rows.checked_mul(columns)?.checked_add(1)?.checked_mul(dim)
}

/// `adamw.<group>.{params,grads}` with `adamw.lrs`; the group `nodecay` has none.
fn optimiser(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let Some(rates) = subject.file.find("adamw.lrs") else { return Ok(()) };
    let recipe: OptimiserRecipe = Recipe::load("mae")?.optimiser;
    for (name, params) in subject.file.with_prefix("adamw.") {
        let Some(group) = name.strip_suffix(".params") else { continue };
        let gradients = subject.file.get(&format!("adamw.{group}.grads"))?.to_f32();
        let count = params.shape.last().copied().unwrap_or(0).max(1);
        let shape = if group == "nodecay" { vec![count] } else { vec![1, count] };
        let values = params.to_f32();
        let first = Parameter { shape, values: values.iter().take(count).copied().collect(), frozen: false };
        let mut parameters = Parameters::from_entries([(group.to_string(), first)]);
        let mut optimiser = AdamW::default();
        let mut ours = parameters.get(group)?.values.clone();
        for (gradient, rate) in gradients.chunks_exact(count).zip(&rates.values) {
            let gradients = HostGradients::from([(group.to_string(), gradient.to_vec())]);
            optimiser.update(&mut parameters, &gradients, (&recipe, *rate))?;
            ours.extend(&parameters.get(group)?.values);
        }
        report.add(subject.name(&format!("adamw/{group}")), worst_difference(&ours, &params.values), VALUE);
    }
    Ok(())
}

fn activation(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let x = leaf::<1>(file, "gelu.x", None)?;
    let y = gelu(x.clone().unsqueeze::<2>());
    check(subject, report, ("gelu.y", VALUE), y.clone())?;
    let mut gradients = y.sum().backward();
    match x.grad_remove(&mut gradients) {
        Some(gradient) => check(subject, report, ("gelu.grad", VALUE), gradient),
        None => Ok(()),
    }
}

fn norm(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let x = leaf::<2>(file, "ln.x", None)?;
    let [_, dim] = x.dims();
    let [weight, bias] = [leaf::<1>(file, "ln.weight", Some([dim]))?, leaf::<1>(file, "ln.bias", Some([dim]))?];
    let y = layer_norm(x.clone(), weight.clone(), bias.clone());
    check(subject, report, ("ln.y", VALUE), y.clone())?;
    let upstream = leaf::<2>(file, "ln.upstream", Some(x.dims()))?.detach();
    let mut gradients = (y * upstream).sum().backward();
    if let Some(gradient) = x.grad_remove(&mut gradients) {
        check(subject, report, ("ln.grad_x", VALUE), gradient)?;
    }
    for (name, leaf) in [("ln.grad_weight", weight), ("ln.grad_bias", bias)] {
        if let Some(gradient) = leaf.grad_remove(&mut gradients) {
            check(subject, report, (name, VALUE), gradient)?;
        }
    }
    Ok(())
}

fn sample(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let shape = latent_shape(file, &file.get("st.logits")?.shape);
    let logits = leaf::<3>(file, "st.logits", Some(shape))?;
    check(subject, report, ("st.probs", VALUE), softmax(logits.clone(), 2))?;
    let chosen = LatentDraw::Classes(file.get("st.idx")?.to_indices());
    let sample = straight_through(&logits, &chosen)?;
    check(subject, report, ("st.z", VALUE), sample.clone())?;
    let upstream = leaf::<3>(file, "st.upstream", Some(shape))?.detach();
    let mut gradients = (sample * upstream).sum().backward();
    match logits.grad_remove(&mut gradients) {
        Some(gradient) => check(subject, report, ("st.grad_logits", VALUE), gradient),
        None => Ok(()),
    }
}

/// `kl.<case>.*` with the balance and the free nats of RSP.
fn divergences(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let recipe = Recipe::load("rsp")?;
    let Some(latent) = recipe.latent else { return Ok(()) };
    for (name, logits) in file.with_prefix("kl.") {
        let Some(case) = name.strip_suffix(".post_logits") else { continue };
        let shape = latent_shape(file, &logits.shape);
        let latent = LatentRecipe { groups: shape[1], classes: shape[2], ..latent.clone() };
        let [posterior, prior] = [
            leaf::<3>(file, &format!("kl.{case}.post_logits"), Some(shape))?,
            leaf::<3>(file, &format!("kl.{case}.prior_logits"), Some(shape))?,
        ];
        let (kl, loss) = balanced_kl(&posterior, &prior, &latent);
        for (what, ours) in [("value", kl), ("loss", loss.clone())] {
            let golden = file.get(&format!("kl.{case}.{what}64"))?.values.first().copied().unwrap_or(f64::NAN);
            let ours = read_values(ours.into_data())?.first().map_or(f64::NAN, |value| f64::from(*value));
            report.add(
                subject.name(&format!("kl/{case}.{what}")),
                (ours - golden).abs() / golden.abs().max(latent.kl_free_nats),
                LOSS,
            );
        }
        let mut gradients = loss.backward();
        for (what, leaf) in [("grad_post", posterior), ("grad_prior", prior)] {
            if let Some(gradient) = leaf.grad_remove(&mut gradients) {
                check(subject, report, (&format!("kl.{case}.{what}"), VALUE), gradient)?;
            }
        }
    }
    Ok(())
}

/// `[N, groups, classes]` of logits `[N, values]`: as the straight-through case has them if that fits, else as square as can be, with
/// no more groups than classes.
fn latent_shape(file: &GoldenFile, shape: &[usize]) -> [usize; 3] {
    let [num_samples, values] = [shape.first(), shape.last()].map(|size| size.copied().unwrap_or(1));
    let known = file.find("st.probs").map(|probabilities| probabilities.shape.clone()).unwrap_or_default();
    match known.as_slice() {
        [_, groups, classes] if groups * classes == values => [num_samples, *groups, *classes],
        _ => {
            let groups = (1..=values.isqrt()).rev().find(|groups| values.is_multiple_of(*groups)).unwrap_or(1);
            [num_samples, groups, values / groups]
        }
    }
}

/// A tensor of the file that takes gradients.
fn leaf<const D: usize>(file: &GoldenFile, name: &str, shape: Option<[usize; D]>) -> Result<Tensor<D>, ModelsError> {
    let tensor = file.get(name)?;
    let own: Option<[usize; D]> = tensor.shape.clone().try_into().ok();
    let fits = |shape: &[usize; D]| !tensor.values.is_empty() && shape.iter().product::<usize>() == tensor.values.len();
    let shape = shape.or(own).filter(fits).ok_or_else(|| file.fail(format!("{name} is {:?}", tensor.shape)))?;
    Ok(Tensor::from_data(TensorData::new(tensor.to_f32(), shape), &Device::flex().autodiff()).require_grad())
}

fn check<const D: usize>(
    subject: &Subject<'_>,
    report: &mut GoldenReport,
    (name, tolerance): (&str, f64),
    ours: Tensor<D>,
) -> Result<(), ModelsError> {
    let golden = subject.file.get(name)?;
    let ours = read_values(ours.into_data())?;
    report.add(subject.name(name), worst_difference(&ours, &golden.values), tolerance);
    Ok(())
}
