//! The list of every task.

use crate::dmc;
use crate::error::SimError;
use crate::gymnasium_robotics;
use crate::metaworld;
use crate::physics::Assets;
use crate::table;
use crate::task::{TaskEntry, TaskParts};

/// Every task, by name.
pub const TASKS: &[TaskEntry] = &[
    TaskEntry { name: "adroit/door", make: gymnasium_robotics::door::task },
    TaskEntry { name: "adroit/hammer", make: gymnasium_robotics::hammer::task },
    TaskEntry { name: "adroit/pen", make: gymnasium_robotics::pen::task },
    TaskEntry { name: "adroit/relocate", make: gymnasium_robotics::relocate::task },
    TaskEntry { name: "dmc/acrobot-swingup", make: dmc::acrobot::swingup },
    TaskEntry { name: "dmc/acrobot-swingup_sparse", make: dmc::acrobot::swingup_sparse },
    TaskEntry { name: "dmc/ball_in_cup-catch", make: dmc::ball_in_cup::catch },
    TaskEntry { name: "dmc/cartpole-balance", make: dmc::cartpole::balance },
    TaskEntry { name: "dmc/cartpole-balance_sparse", make: dmc::cartpole::balance_sparse },
    TaskEntry { name: "dmc/cartpole-swingup", make: dmc::cartpole::swingup },
    TaskEntry { name: "dmc/cartpole-swingup_sparse", make: dmc::cartpole::swingup_sparse },
    TaskEntry { name: "dmc/cartpole-three_poles", make: dmc::cartpole::three_poles },
    TaskEntry { name: "dmc/cartpole-two_poles", make: dmc::cartpole::two_poles },
    TaskEntry { name: "dmc/cheetah-run", make: dmc::cheetah::run },
    TaskEntry { name: "dmc/dog-fetch", make: dmc::dog::fetch },
    TaskEntry { name: "dmc/dog-run", make: dmc::dog::run },
    TaskEntry { name: "dmc/dog-stand", make: dmc::dog::stand },
    TaskEntry { name: "dmc/dog-trot", make: dmc::dog::trot },
    TaskEntry { name: "dmc/dog-walk", make: dmc::dog::walk },
    TaskEntry { name: "dmc/finger-spin", make: dmc::finger::spin },
    TaskEntry { name: "dmc/finger-turn_easy", make: dmc::finger::turn_easy },
    TaskEntry { name: "dmc/finger-turn_hard", make: dmc::finger::turn_hard },
    TaskEntry { name: "dmc/fish-swim", make: dmc::fish::swim },
    TaskEntry { name: "dmc/fish-upright", make: dmc::fish::upright },
    TaskEntry { name: "dmc/hopper-hop", make: dmc::hopper::hop },
    TaskEntry { name: "dmc/hopper-stand", make: dmc::hopper::stand },
    TaskEntry { name: "dmc/humanoid-run", make: dmc::humanoid::run },
    TaskEntry { name: "dmc/humanoid-run_pure_state", make: dmc::humanoid::run_pure_state },
    TaskEntry { name: "dmc/humanoid-stand", make: dmc::humanoid::stand },
    TaskEntry { name: "dmc/humanoid-walk", make: dmc::humanoid::walk },
    TaskEntry { name: "dmc/humanoid_CMU-run", make: dmc::humanoid_cmu::run },
    TaskEntry { name: "dmc/humanoid_CMU-stand", make: dmc::humanoid_cmu::stand },
    TaskEntry { name: "dmc/humanoid_CMU-walk", make: dmc::humanoid_cmu::walk },
    TaskEntry { name: "dmc/lqr-lqr_2_1", make: dmc::lqr::lqr_2_1 },
    TaskEntry { name: "dmc/lqr-lqr_6_2", make: dmc::lqr::lqr_6_2 },
    TaskEntry { name: "dmc/manipulator-bring_ball", make: dmc::manipulator::bring_ball },
    TaskEntry { name: "dmc/manipulator-bring_peg", make: dmc::manipulator::bring_peg },
    TaskEntry { name: "dmc/manipulator-insert_ball", make: dmc::manipulator::insert_ball },
    TaskEntry { name: "dmc/manipulator-insert_peg", make: dmc::manipulator::insert_peg },
    TaskEntry { name: "dmc/pendulum-swingup", make: dmc::pendulum::swingup },
    TaskEntry { name: "dmc/point_mass-easy", make: dmc::point_mass::easy },
    TaskEntry { name: "dmc/point_mass-hard", make: dmc::point_mass::hard },
    TaskEntry { name: "dmc/quadruped-escape", make: dmc::quadruped::escape },
    TaskEntry { name: "dmc/quadruped-fetch", make: dmc::quadruped::fetch },
    TaskEntry { name: "dmc/quadruped-run", make: dmc::quadruped::run },
    TaskEntry { name: "dmc/quadruped-walk", make: dmc::quadruped::walk },
    TaskEntry { name: "dmc/reacher-easy", make: dmc::reacher::easy },
    TaskEntry { name: "dmc/reacher-hard", make: dmc::reacher::hard },
    TaskEntry { name: "dmc/stacker-stack_2", make: dmc::stacker::stack_2 },
    TaskEntry { name: "dmc/stacker-stack_4", make: dmc::stacker::stack_4 },
    TaskEntry { name: "dmc/swimmer-swimmer15", make: dmc::swimmer::swimmer15 },
    TaskEntry { name: "dmc/swimmer-swimmer6", make: dmc::swimmer::swimmer6 },
    TaskEntry { name: "dmc/walker-run", make: dmc::walker::run },
    TaskEntry { name: "dmc/walker-stand", make: dmc::walker::stand },
    TaskEntry { name: "dmc/walker-walk", make: dmc::walker::walk },
    TaskEntry { name: "kitchen/all", make: gymnasium_robotics::kitchen::all },
    TaskEntry { name: "kitchen/knob", make: gymnasium_robotics::kitchen::knob },
    TaskEntry { name: "kitchen/left-door", make: gymnasium_robotics::kitchen::left_door },
    TaskEntry { name: "kitchen/light", make: gymnasium_robotics::kitchen::light },
    TaskEntry { name: "kitchen/microwave", make: gymnasium_robotics::kitchen::microwave },
    TaskEntry { name: "kitchen/sliding-door", make: gymnasium_robotics::kitchen::sliding_door },
    TaskEntry { name: "metaworld/assembly", make: metaworld::assembly::task },
    TaskEntry { name: "metaworld/basketball", make: metaworld::basketball::task },
    TaskEntry { name: "metaworld/bin-picking", make: metaworld::bin_picking::task },
    TaskEntry { name: "metaworld/box-close", make: metaworld::box_close::task },
    TaskEntry { name: "metaworld/button-press", make: metaworld::button_press::task },
    TaskEntry { name: "metaworld/button-press-topdown", make: metaworld::button_press_topdown::task },
    TaskEntry { name: "metaworld/button-press-topdown-wall", make: metaworld::button_press_topdown::wall },
    TaskEntry { name: "metaworld/button-press-wall", make: metaworld::button_press::wall },
    TaskEntry { name: "metaworld/coffee-button", make: metaworld::coffee_button::task },
    TaskEntry { name: "metaworld/coffee-pull", make: metaworld::coffee_mug::pull },
    TaskEntry { name: "metaworld/coffee-push", make: metaworld::coffee_mug::push },
    TaskEntry { name: "metaworld/dial-turn", make: metaworld::dial_turn::task },
    TaskEntry { name: "metaworld/disassemble", make: metaworld::disassemble::task },
    TaskEntry { name: "metaworld/door-close", make: metaworld::door_close::task },
    TaskEntry { name: "metaworld/door-lock", make: metaworld::door_lock::lock },
    TaskEntry { name: "metaworld/door-open", make: metaworld::door_open::task },
    TaskEntry { name: "metaworld/door-unlock", make: metaworld::door_lock::unlock },
    TaskEntry { name: "metaworld/drawer-close", make: metaworld::drawer_close::task },
    TaskEntry { name: "metaworld/drawer-open", make: metaworld::drawer_open::task },
    TaskEntry { name: "metaworld/faucet-close", make: metaworld::faucet::close },
    TaskEntry { name: "metaworld/faucet-open", make: metaworld::faucet::open },
    TaskEntry { name: "metaworld/hammer", make: metaworld::hammer::task },
    TaskEntry { name: "metaworld/hand-insert", make: metaworld::hand_insert::task },
    TaskEntry { name: "metaworld/handle-press", make: metaworld::handle_press::front },
    TaskEntry { name: "metaworld/handle-press-side", make: metaworld::handle_press::side },
    TaskEntry { name: "metaworld/handle-pull", make: metaworld::handle_pull::front },
    TaskEntry { name: "metaworld/handle-pull-side", make: metaworld::handle_pull::side },
    TaskEntry { name: "metaworld/lever-pull", make: metaworld::lever_pull::task },
    TaskEntry { name: "metaworld/peg-insert-side", make: metaworld::peg_insert_side::task },
    TaskEntry { name: "metaworld/peg-unplug-side", make: metaworld::peg_unplug_side::task },
    TaskEntry { name: "metaworld/pick-out-of-hole", make: metaworld::pick_out_of_hole::task },
    TaskEntry { name: "metaworld/pick-place", make: metaworld::pick_place::task },
    TaskEntry { name: "metaworld/pick-place-wall", make: metaworld::pick_place_wall::task },
    TaskEntry { name: "metaworld/plate-slide", make: metaworld::plate_slide::task },
    TaskEntry { name: "metaworld/plate-slide-back", make: metaworld::plate_slide::back },
    TaskEntry { name: "metaworld/plate-slide-back-side", make: metaworld::plate_slide::back_side },
    TaskEntry { name: "metaworld/plate-slide-side", make: metaworld::plate_slide::side },
    TaskEntry { name: "metaworld/push", make: metaworld::push::task },
    TaskEntry { name: "metaworld/push-back", make: metaworld::push_back::task },
    TaskEntry { name: "metaworld/push-wall", make: metaworld::push_wall::task },
    TaskEntry { name: "metaworld/reach", make: metaworld::reach::task },
    TaskEntry { name: "metaworld/reach-wall", make: metaworld::reach::wall },
    TaskEntry { name: "metaworld/shelf-place", make: metaworld::shelf_place::task },
    TaskEntry { name: "metaworld/soccer", make: metaworld::soccer::task },
    TaskEntry { name: "metaworld/stick-pull", make: metaworld::stick_pull::task },
    TaskEntry { name: "metaworld/stick-push", make: metaworld::stick_push::task },
    TaskEntry { name: "metaworld/sweep", make: metaworld::sweep::task },
    TaskEntry { name: "metaworld/sweep-into", make: metaworld::sweep_into::task },
    TaskEntry { name: "metaworld/window-close", make: metaworld::window::close },
    TaskEntry { name: "metaworld/window-open", make: metaworld::window::open },
    TaskEntry { name: "table/calibrate-fixed", make: table::calibration::fixed },
    TaskEntry { name: "table/calibrate-wrist", make: table::calibration::wrist },
    TaskEntry { name: "table/pick-place", make: table::pick_place::task },
];

/// Builds the task of this name. Meta-World's names may end in `-goal-observable` (what they are without an ending) or
/// `-goal-hidden`, as in the original.
///
/// # Errors
/// [`SimError::UnknownTask`] with the nearest names; what its constructor says.
pub(crate) fn build(name: &str, assets: Assets<'_>) -> Result<TaskParts, SimError> {
    if name.starts_with("metaworld/") {
        if let Some(visible) = name.strip_suffix("-goal-observable") {
            return (find(visible)?.make)(assets);
        }
        if let Some(visible) = name.strip_suffix("-goal-hidden") {
            let mut parts = (find(visible)?.make)(assets)?;
            parts.task.hide_goal();
            return Ok(parts);
        }
    }
    (find(name)?.make)(assets)
}

/// The entry of this name.
fn find(name: &str) -> Result<&'static TaskEntry, SimError> {
    TASKS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let mut by_distance: Vec<_> = TASKS.iter().map(|entry| (edit_distance(name, entry.name), entry.name)).collect();
        by_distance.sort_unstable();
        let nearest: Vec<_> = by_distance.iter().take(3).map(|(_, name)| *name).collect();
        SimError::UnknownTask { name: name.to_string(), hint: format!("did you mean {}?", nearest.join(", ")) }
    })
}

/// Letters to insert, delete or replace between two names (Levenshtein), with a common part after the `/` counting as near.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_task_names_its_neighbours() {
        let text = find("dmc/reacher_easy").map(|entry| entry.name).unwrap_err().to_string();
        assert!(text.contains("did you mean dmc/reacher-easy"), "{text}");
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(TASKS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
