//! What a policy wants, and what the safety filter lets through.

/// What a policy wants: one value a joint, in the profile's order and units. Not safe: only the safety filter may pass it on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Action {
    /// One value a joint; of a policy that gives chunks, one row of them after the other.
    pub values: Vec<f64>,
}
