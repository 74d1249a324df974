//! How many physics steps a control step has.

/// Physics steps in a control step, as `dm_control.rl.control.compute_n_steps`.
pub(crate) fn num_substeps(control_timestep: f64, timestep: f64) -> Result<u32, String> {
    let ratio = control_timestep / timestep;
    let is_whole = ratio >= 1.0 && ratio <= f64::from(u32::MAX) && (ratio - ratio.round()).abs() <= 1e-8;
    if !is_whole {
        return Err(format!(
            "control timestep {control_timestep} s is not a multiple of the physics timestep {timestep} s"
        ));
    }
    Ok(ratio.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::num_substeps;

    #[test]
    fn a_control_step_is_a_whole_number_of_physics_steps() {
        assert_eq!([num_substeps(0.02, 0.002), num_substeps(0.002, 0.002)], [Ok(10), Ok(1)]);
        for control_timestep in [f64::NAN, f64::INFINITY, -0.02, 0.0, 0.001, 0.003, 1e12] {
            let problem = num_substeps(control_timestep, 0.002);
            assert!(problem.is_err_and(|problem| problem.contains(&format!("{control_timestep} s"))));
        }
    }
}
