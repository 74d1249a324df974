//! What a wrong word was probably meant to be: the nearest right one, or the right one in another unit.

/// Units at the end of a key: (what it says, what it measures, size in SI).
const UNITS: &[(&str, &str, f64)] = &[
    ("nanos", "time", 1e-9),
    ("micros", "time", 1e-6),
    ("millis", "time", 1e-3),
    ("milliseconds", "time", 1e-3),
    ("ms", "time", 1e-3),
    ("seconds", "time", 1.0),
    ("secs", "time", 1.0),
    ("s", "time", 1.0),
    ("minutes", "time", 60.0),
    ("radians", "angle", 1.0),
    ("rad", "angle", 1.0),
    ("degrees", "angle", std::f64::consts::PI / 180.0),
    ("deg", "angle", std::f64::consts::PI / 180.0),
    ("metres", "length", 1.0),
    ("meters", "length", 1.0),
    ("millimetres", "length", 1e-3),
    ("mm", "length", 1e-3),
    ("hertz", "frequency", 1.0),
    ("hz", "frequency", 1.0),
    ("fps", "frequency", 1.0),
    ("kilohertz", "frequency", 1e3),
    ("khz", "frequency", 1e3),
    ("bytes", "memory", 1.0),
    ("kibibytes", "memory", 1024.0),
    ("mebibytes", "memory", 1_048_576.0),
    ("megabytes", "memory", 1e6),
    ("mb", "memory", 1e6),
    ("gibibytes", "memory", 1_073_741_824.0),
    ("gigabytes", "memory", 1e9),
    ("gb", "memory", 1e9),
];

/// `: did you mean ...?` for a word that is not one of `allowed`, or nothing.
pub(crate) fn hint(wrong: &str, allowed: &[&str]) -> String {
    nearest(wrong, allowed).map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"))
}

/// The hint for a key: one that differs in its unit alone comes first, with the value in the right unit.
pub(crate) fn key_hint(wrong: &str, value: &str, allowed: &[&str]) -> String {
    let Some((key, factor)) = in_another_unit(wrong, allowed) else { return hint(wrong, allowed) };
    match value.parse::<f64>() {
        // Twelve digits hide the rounding of the factor and nothing that anybody writes.
        Ok(value) => format!(": another unit; write `{key} = {}`", (value * factor * 1e12).round() / 1e12),
        Err(_) => format!(": another unit; write `{key}`"),
    }
}

fn nearest<'a>(wrong: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let distance = |right: &str| strsim::damerau_levenshtein(&wrong, right);
    let best = allowed.iter().min_by_key(|right| distance(right))?;
    let is_part = best.len() >= 4 && (best.starts_with(&wrong) || wrong.starts_with(*best));
    (distance(best) <= 1 + wrong.len() / 4 || is_part).then_some(*best)
}

/// The allowed key with the same stem and another unit of the same quantity, and what a value must be multiplied with.
fn in_another_unit<'a>(wrong: &str, allowed: &[&'a str]) -> Option<(&'a str, f64)> {
    let (stem, quantity, size) = split(wrong)?;
    allowed.iter().find_map(|right| {
        let (right_stem, right_quantity, right_size) = split(right)?;
        (right_stem == stem && right_quantity == quantity && *right != wrong).then_some((*right, size / right_size))
    })
}

fn split(key: &str) -> Option<(&str, &'static str, f64)> {
    let (stem, unit) = key.rsplit_once('_')?;
    let (_, quantity, size) = UNITS.iter().find(|(name, _, _)| *name == unit)?;
    Some((stem, quantity, *size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_and_a_far_one_is_not() {
        let allowed = ["camera", "joints", "max_frame_age_millis", "minimum_radians"];
        assert_eq!(hint("camrea", &allowed), ": did you mean `camera`?");
        assert_eq!(hint("Camera", &allowed), ": did you mean `camera`?");
        assert_eq!(hint("power", &allowed), "");
        assert_eq!(hint("x", &[]), "");
    }

    #[test]
    fn another_unit_is_converted() {
        let allowed = ["max_frame_age_millis", "minimum_radians", "rate_hertz"];
        assert_eq!(
            key_hint("max_frame_age_seconds", "0.1", &allowed),
            ": another unit; write `max_frame_age_millis = 100`"
        );
        assert_eq!(
            key_hint("minimum_degrees", "180", &allowed),
            ": another unit; write `minimum_radians = 3.14159265359`"
        );
        assert_eq!(key_hint("rate_khz", "\"fast\"", &allowed), ": another unit; write `rate_hertz`");
        // Metres are no time: the stem alone decides nothing.
        assert_eq!(key_hint("max_frame_age_metres", "1", &["max_frame_age_millis_of_x"]), "");
    }
}
